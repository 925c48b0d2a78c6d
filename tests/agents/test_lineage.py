"""Lineages: parents by hash, what is not found, equal weights, circles, and the command."""

import json
import shutil

import pytest
from lineage_samples import family, keep, small
from policy_samples import forge

from policykd.agents.files.policy_file import load_policy, read_manifest, save_policy
from policykd.agents.lineage import Library, forget_skill, recorded_figures, trace
from policykd.agents.lineage import search as search_module
from policykd.cli.main import main
from policykd.errors import OutputError, PolicyFileError


def found_at(lineage):
    return {r.path.parent.name if r.path else r.name: r for r in lineage.policies.values()}


def test_parents_are_found_around_the_run_and_each_is_listed_once(tmp_path):
    both = family(tmp_path)
    for start in (both, both.parent):
        lineage = trace(start)
        by_name = found_at(lineage)
        assert list(by_name) == ["both", "flat", "gaps"]
        assert lineage.missing == []
        flat, gaps = (read_manifest(tmp_path / name / "policy").content_sha256 for name in ("flat", "gaps"))
        assert by_name["both"].parents == (flat, gaps)
        assert by_name["gaps"].parents == (flat,)
        assert by_name["flat"].parents == ()
        assert lineage.generations() == {lineage.root: 0, flat: 1, gaps: 1}


def test_the_tree_has_figures_and_draws_shared_parents_once(tmp_path):
    lines = trace(family(tmp_path)).lines()
    assert "merge biped/flat, biped/gaps [" in lines[0]
    assert lines[0].endswith("retention biped/flat 0.875, retention biped/gaps 1.000")
    assert [line[:3] for line in lines[1:]] == ["├─ ", "└─ ", "   "]
    assert lines[1].endswith("success 1.000, reward per step 0.750")
    assert lines[3].startswith("   └─ train biped/flat")


def test_a_shared_parent_with_parents_of_its_own_is_drawn_once(tmp_path):
    """Otherwise the tree of a PLAID run would double with every stage."""
    both = family(tmp_path)
    grown = keep(tmp_path / "walls" / "policy", seed=4, skills=("biped/walls",), parents=[both])
    top = keep(tmp_path / "three" / "policy", seed=5, operation="merge", parents=[both, grown])
    lines = trace(top).lines()
    assert len(lines) == 7
    assert [line.endswith("(parents above)") for line in lines] == [False] * 6 + [True]


def test_a_parent_that_is_not_found_is_shown_as_such(tmp_path):
    both = family(tmp_path / "here")
    shutil.move(tmp_path / "here" / "gaps", tmp_path / "gaps-elsewhere")
    shutil.move(tmp_path / "here" / "flat", tmp_path / "flat-elsewhere")
    missing = trace(both)
    assert [relative.name for relative in missing.missing] == ["flat", "gaps"]
    assert all(line.endswith("file not found") for line in missing.lines()[1:])
    assert (tmp_path / "here").resolve() in missing.searched
    assert trace(both, [tmp_path]).missing == []
    with pytest.raises(OutputError, match="does not exist"):
        trace(both, [tmp_path / "nowhere"])


def test_zips_are_found_and_other_zips_are_not_policies(tmp_path):
    flat = keep(tmp_path / "store" / "flat.zip")
    child = keep(tmp_path / "child" / "policy", seed=2, parents=[flat])
    (tmp_path / "store" / "broken.zip").write_bytes(b"PK no zip")
    found = trace(child, [tmp_path / "store"])
    assert [relative.path for relative in found.policies.values()][1] == (tmp_path / "store" / "flat.zip").resolve()
    assert not found.damaged


def test_a_damaged_file_is_no_parent_and_is_named(tmp_path):
    both = family(tmp_path)
    manifest = tmp_path / "flat" / "policy" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 1', '"seed": 8'))
    found = trace(both)
    assert [relative.name for relative in found.missing] == ["flat"]
    (reason,) = found.damaged.values()
    assert "altered" in reason


def test_a_skill_that_was_forgotten_twice_has_a_line_of_three(tmp_path):
    """All three have the same weights, so hashes of weights alone would make a circle."""
    three = keep(tmp_path / "a" / "policy", skills=("biped/flat", "biped/gaps", "biped/steps"))
    two = tmp_path / "b" / "policy"
    one = tmp_path / "c" / "policy"
    forget_skill(three, "biped/gaps", two)
    forget_skill(two, "biped/steps", one)
    chain = [relative.manifest.skills for relative in trace(one).policies.values()]
    assert [len(skills) for skills in chain] == [1, 2, 3]
    child = keep(tmp_path / "d" / "policy", seed=9, parents=[three])
    assert len(trace(child).policies) == 2  # not by way of the shortened files


def test_a_forgotten_line_whose_middle_is_lost_still_ends_at_the_same_weights(tmp_path):
    three = keep(tmp_path / "a" / "policy", skills=("biped/flat", "biped/gaps", "biped/steps"))
    forget_skill(three, "biped/gaps", tmp_path / "b" / "policy")
    forget_skill(tmp_path / "b", "biped/steps", tmp_path / "c" / "policy")
    shutil.rmtree(tmp_path / "b")
    assert [len(r.manifest.skills) for r in trace(tmp_path / "c").policies.values()] == [1, 3]


def test_a_policy_that_names_itself_has_a_parent_that_is_not_found(tmp_path):
    """A fine-tuning that gained nothing has the weights of its start."""
    path = keep(tmp_path / "start" / "policy", seed=4)
    start = read_manifest(path)
    tuned = tmp_path / "tuned" / "policy"
    how = {"skills": ["biped/flat"], "operation": "finetune", "seed": 1, "parents": [start.as_parent("start")]}
    save_policy(tuned, small(4), robot=start.body(), **how)
    assert len(trace(tuned).policies) == 2
    shutil.rmtree(tmp_path / "start")
    lineage = trace(tuned)
    assert [relative.name for relative in lineage.missing] == ["start"]


def test_circles_of_forged_files_end(tmp_path):
    first = keep(tmp_path / "a" / "policy", seed=1)
    second = keep(tmp_path / "b" / "policy", seed=2, parents=[first])
    forge(first, parents=[{"name": "b", "weights_sha256": read_manifest(second).weights_sha256}])
    lineage = trace(second)
    assert [relative.manifest is None for relative in lineage.policies.values()] == [False, False, True]


def test_a_search_ends_and_says_so(tmp_path, monkeypatch):
    both = family(tmp_path)
    for i in range(6):
        (tmp_path / f"aa-{i}").mkdir()
    monkeypatch.setattr(search_module, "MOST_FOLDERS", 4)
    lineage = trace(both)
    assert len(lineage.missing) == 2
    assert tmp_path.resolve() in lineage.unfinished
    monkeypatch.setattr(search_module, "MOST_FOLDERS", 40)
    monkeypatch.setattr(search_module, "DEEPEST", 1)
    library = Library()
    library.search(tmp_path)
    assert library.with_weights(read_manifest(both).weights_sha256) == ()


def test_hidden_folders_are_not_searched(tmp_path):
    both = family(tmp_path)
    (tmp_path / "flat").rename(tmp_path / ".flat.previous")
    assert [relative.name for relative in trace(both).missing] == ["flat"]


def test_too_long_a_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("policykd.agents.lineage.tree.MOST_GENERATIONS", 0)
    with pytest.raises(OutputError, match="more than 0 generations"):
        trace(family(tmp_path))


def test_figures_are_numbers_of_known_metrics(tmp_path):
    after = {"biped/flat": {"success": 0.5, "reward_per_step": 0.25, "other": 1}, "biped/gaps": "garbled"}
    metrics = {"success": True, "reward_per_step": "0.5", "retention": {"biped/flat": 2, "biped/gaps": None},
               "after": after, "return": -3}  # fmt: skip
    found = recorded_figures(read_manifest(keep(tmp_path / "policy", metrics=metrics)))
    assert found == {
        "retention biped/flat": 2.0, "return": -3.0, "success biped/flat": 0.5, "reward per step biped/flat": 0.25,
    }  # fmt: skip
    assert recorded_figures(read_manifest(keep(tmp_path / "none" / "policy", metrics={"after": 3}))) == {}


def test_the_command_prints_the_tree_and_writes_json(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    family(tmp_path)
    assert main(["lineage", "both", "--out", "lineage.json"]) == 0
    printed = capsys.readouterr().out
    assert "├─ train biped/flat" in printed
    assert "without a file" not in printed
    record = json.loads((tmp_path / "lineage.json").read_text())
    assert [entry["path"] for entry in record["policies"]] == ["both/policy", "flat/policy", "gaps/policy"]
    assert record["policies"][0]["figures"] == {"retention biped/flat": 0.875, "retention biped/gaps": 1.0}
    assert record["policies"][0]["parents"] == [entry["key"] for entry in record["policies"][1:]]
    shutil.rmtree(tmp_path / "gaps")
    assert main(["lineage", "both", "--out", "lineage.json"]) == 0
    assert "parents without a file: 1; searched both, ." in capsys.readouterr().out
    missing = json.loads((tmp_path / "lineage.json").read_text())["policies"][2]
    assert (missing["name"], missing["path"], missing["figures"]) == ("gaps", None, None)
    assert main(["lineage", "bothh"]) == 2
    assert "did you mean both" in " ".join(capsys.readouterr().err.split())


def test_a_file_that_is_not_a_policy_is_refused(tmp_path):
    with pytest.raises(PolicyFileError):
        trace(tmp_path)
    assert load_policy(keep(tmp_path / "policy")).manifest.skills == ("biped/flat",)
