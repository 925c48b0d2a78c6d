"""Every relative link of the documentation leads somewhere, and every anchor to a heading."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "site"))
from links import anchors, broken, links
from slugs import github_slug

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_and_anchors_exist(page):
    assert list(broken(page, page.read_text(), ROOT)) == []


def test_every_page_is_linked_from_the_readme():
    linked = {target.partition("#")[0] for target in links((ROOT / "README.md").read_text())}
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - linked == {"docs/kd_bench_smartwatch_long.md"}  # linked from the page of the shorter one


def test_what_is_broken_is_found():
    page = ROOT / "docs" / "page.md"
    text = """# A page: `code` (and more)

    [one](figures.md) [two](nowhere.md) [three](figures.md#throughput) [four](#a-page-code-and-more) [five](#other)
    [six](https://example.org/x) [seven](../README.md#license) `[eight](nowhere.md)` [`nine`](gone.py) ![ten](gone.png)
    [eleven](../../outside.md)

```
# [twelve](nowhere.md)
```
"""
    assert list(broken(page, text, ROOT)) == [
        "nowhere.md", "figures.md#throughput", "#other", "gone.py", "gone.png", "../../outside.md"
    ]  # fmt: skip


def test_anchors_are_those_of_github():
    text = "# One\n## One\n## `make demo`: it's 2 x 3\n### [Link](x.md) & more\n```\n# comment\n```\n# One\n"
    assert anchors(text) == ["one", "one-1", "make-demo-its-2-x-3", "link--more", "one-2"]


@pytest.mark.parametrize("heading", ["One", "make demo: it's 2 x 3", "Where a skill (or two) is behind", "a - b_c"])
def test_the_site_has_the_same_anchors(heading):
    assert [github_slug(heading)] == anchors(f"# {heading}")


def test_the_site_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in PAGES if f": {page.relative_to(ROOT).as_posix()}\n" not in text] == []
