"""Commands, programs and figures of README and documentation: they parse, and the first steps run as written."""

import ast
import importlib
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import tyro

from policykd.cli.commands import ANY_COMMAND
from policykd.cli.main import main
from policykd.envs.robots.robot import Robot

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STORED = ROOT / "tests" / "data" / "flat-expert"


def blocks(path, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def commands(path):
    """Yield the commands of a page, with continued lines joined and without comments and placeholders."""
    for block in blocks(path, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for end in ("&&", "|", ">>", ">"):
                words = words[: words.index(end)] if end in words else words
            if words and words[0].endswith("policykd"):
                yield words[1:]


@cache
def parse(words):
    """Parse a command once; pages share many."""
    tyro.cli(ANY_COMMAND, args=words, config=(tyro.conf.OmitArgPrefixes,))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_is_understood(page, capsys):
    for words in commands(page):
        if "..." in words or "--version" in words or any(word.startswith("--tyro") for word in words):
            continue
        try:
            parse(tuple(words))
        except SystemExit:
            pytest.fail(f"{page.name}: policykd {shlex.join(words)}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_program_is_python_and_imports_what_exists(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("policykd"):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{page.name}: {node.module} has no {name.name}"


SMALL = {
    "train": ["--steps", "2048", "--set", "segment_steps=2048", "validation_episodes=1", "finalists=1"],
    "merge": [
        "--min-teacher-success",
        "0",
        "--set",
        "rounds=1",
        "envs=4",
        "updates=8",
        "validation_episodes=1",
        "critic=none",
    ],
    "evaluate": ["--episodes", "2"],
    "export": ["--states", "200", "--episodes", "2"],
}
"""Options that make the commands of README and tour small; without them they are as written."""

STORY = ("train", "merge", "evaluate", "describe", "export", "inject")


def test_the_steps_of_readme_and_tour_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Robot, "episode_steps", property(lambda self: 64))
    done = []
    first, more = (list(commands(ROOT / name)) for name in ("README.md", "docs/tour.md"))
    for words in [*first, *(words for words in more if words not in first)]:
        if words[0] not in STORY or any(part in " ".join(words) for part in ("dog.yaml", "walker", "cuda", "...")):
            continue
        words = [part for word in words for part in (map(str, sorted(Path().glob(word))) if "*" in word else [word])]
        assert main([*words, *SMALL.get(words[0], [])]) == 0, (words, capsys.readouterr().err)
        done.append(words[0])
    assert sorted(set(done)) == sorted(STORY)


def test_a_policy_acts_in_the_loop_of_the_readme(monkeypatch):
    block = next(block for block in blocks(ROOT / "README.md", "python") if "policy.act" in block)
    from policykd.envs.make import make_env
    from policykd.envs.skills import get_skill

    found = {name: values.numpy() for name, values in make_env([get_skill("biped/flat")], 4).reset().items()}
    names = dict(found)
    exec(block.replace('"student"', repr(str(STORED))), names)
    assert names["actions"].shape == names["angles"].shape == (4, 11)


def test_the_environments_of_the_readme_are_made(monkeypatch):
    block = next(block for block in blocks(ROOT / "README.md", "python") if "make_vec" in block)
    names = {}
    exec(block.replace("num_envs=256", "num_envs=4").replace(', render_mode="rgb_array"', ""), names)
    assert names["envs"].num_envs == 4
    assert names["env"].reset(seed=0)[0].keys() == {"proprio", "terrain"}


def bullets(heading):
    """Return the bullets below a heading of the README, each on one line."""
    text = (ROOT / "README.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [" ".join(one.split()) for one in re.split(r"^\* ", text, flags=re.MULTILINE)[1:]]


def test_every_figure_of_the_readme_stands_in_a_page_that_its_bullet_links_to():
    found = bullets("What it beats, and what it does not")
    assert len(found) >= 6
    checked = 0
    for bullet in found:
        pages = [(ROOT / name).read_text() for name in re.findall(r"\]\((docs/[\w./]+\.md)", bullet)]
        assert pages, f"{bullet[:60]}: links to no page"
        for figure in re.findall(r"(?<![\w.])\d+\.\d+", re.sub(r"\]\([^)]*\)", "]", bullet)):
            assert any(re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", page) for page in pages), (
                figure,
                bullet[:60],
            )
            checked += 1
    assert checked >= 15


def test_the_verdicts_that_the_readme_counts_are_those_of_the_pages():
    rows = re.findall(
        r"^\| \w+ \| .* \| .* \| ([a-z ]+) \| \d+ \| [\d.]+ \|$", (ROOT / "docs/kd_systems.md").read_text(), re.M
    )
    counts = [len(rows), *(rows.count(verdict) for verdict in ("shown", "not shown", "contradicted"))]
    text = next(bullet for bullet in bullets("What it beats, and what it does not") if "systems" in bullet)
    assert [int(one) for one in re.findall(r"\b\d+\b", text.partition("([systems]")[0])] == counts
    for name, better, methods in (("cifar", 4, 9), ("smartwatch", 0, 27)):
        table = (
            (ROOT / f"docs/kd_bench_{name}.md").read_text().partition("## Accuracy and means")[2].partition("\n## ")[0]
        )
        verdicts = re.findall(r"\| (better|worse|not shown) \|", table)
        assert (verdicts.count("better"), len(verdicts)) == (better, methods)
    assert "Of 9 losses on CIFAR-10, 4 are" in text
    assert "of 27 on smartwatch data, none" in text
