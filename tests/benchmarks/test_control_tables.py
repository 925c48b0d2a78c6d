# ruff: noqa: RUF001
"""Tables of divergences and of the cost of a skill: cells, intervals and rows with known answers."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policykd.errors import ConfigError, OutputError, UnknownNameError
from policykd.evaluation import evaluate

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "merge"))
from teacher_samples import make_teacher

import cost_of_skills
import divergences
from cells import append_cell, read_cells
from doc_figures import check, control, pages
from doc_figures.registry import Figures

EXPERTS = tuple(Path("demo") / name for name in ("flat", "steps", "gaps"))


def test_cells_are_lines_and_a_line_that_was_cut_off_is_not_a_cell(tmp_path):
    file = tmp_path / "new" / "cells.jsonl"
    assert read_cells(file) == []
    append_cell(file, {"a": 1})
    with file.open("a") as stream:
        stream.write('{"a": 2')
    assert read_cells(file) == [{"a": 1}]
    append_cell(file, {"a": 3})
    assert file.read_text() == '{"a": 1}\n{"a": 3}\n'
    file.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(OutputError, match=r"line 2 is not a JSON object"):
        read_cells(file)


def test_the_grid_differs_in_loss_skills_units_and_seed_only():
    cells = divergences.cells_of(divergences.Options(experts=EXPERTS))
    assert len({cell.key for cell in cells}) == len(cells) == 4 * 2 * 3 * 3  # 3 experts: 1 and 2 skills
    for cell in cells:
        loss, skills, units, seed = cell.key
        assert cell.experts == EXPERTS[:skills]
        assert cell.config.architecture.hidden == cell.config.architecture.critic_hidden == (units, units)
        assert cell.config == replace(divergences.BASE, loss=loss, seed=seed, architecture=cell.config.architecture)
    assert [cell.key for cell in cells[:5]] == [
        ("mse", 1, 32, 0), ("forward_kl", 1, 32, 0), ("reverse_kl", 1, 32, 0), ("jsd", 1, 32, 0), ("mse", 1, 64, 0),
    ]  # fmt: skip
    assert {cell.config.seed for cell in cells[:24]} == {0}
    base = divergences.BASE
    assert (base.start, base.target_retention, base.adaptive, base.passes) == ("random", 2.0, 0.0, 0.0)
    more = divergences.cells_of(divergences.Options(experts=EXPERTS, rounds=9))
    assert {cell.config.rounds for cell in more} == {9}
    ten = divergences.Options(experts=EXPERTS * 4)
    assert {cell.key[1] for cell in divergences.cells_of(ten)} == {1, 2, 5, 10}
    assert cells[0].command == (
        "python benchmarks/divergences.py --experts demo/flat demo/steps demo/gaps "
        "--seeds 0 1 2 --rounds 6 --episodes 64"
    )


def test_impossible_grids_are_refused():
    for skills in (0, 4):
        with pytest.raises(ConfigError, match=f"skills is {skills}, with 3 experts; give 1 to 3"):
            divergences.cells_of(divergences.Options(experts=EXPERTS, skills=(skills,)))
    with pytest.raises(UnknownNameError, match="huber"):
        divergences.cells_of(divergences.Options(experts=EXPERTS, losses=("huber",)))
    with pytest.raises(ConfigError, match="units is 0"):
        divergences.config_of("mse", 0, 0)
    with pytest.raises(ConfigError, match="give the experts"):
        divergences.main(divergences.Options())


def stored(loss, seed, student, reached, expert=((1.0, 1.0), (0.5, 0.5))):
    rewards = {
        f"biped/{i}": {"student": list(s), "expert": list(e)}
        for i, (s, e) in enumerate(zip(student, expert, strict=True))
    }
    return {
        "loss": loss, "skills": 2, "units": 32, "seed": seed, "reward_per_step": rewards,
        "states_to_retention": {"0.95": reached, "0.98": None}, "command": "again", "settings": {"rounds": 6},
    }  # fmt: skip


def test_a_row_has_the_weakest_skill_of_each_seed_and_the_mean_of_all():
    """Episodes are equal, so that only seeds differ; the weakest skill is another one in each seed."""
    cells = [
        stored("jsd", 0, [(0.9, 0.9), (0.4, 0.4)], 1000),  # 0.9 and 0.8
        stored("jsd", 1, [(0.6, 0.6), (0.5, 0.5)], 4000),  # 0.6 and 1.0
        stored("mse", 0, [(1.0, 1.0), (0.5, 0.5)], None),
    ]
    found = divergences.summary(cells)
    assert (found["command"], found["settings"]) == ("again", {"rounds": 6})
    assert [row["loss"] for row in found["rows"]] == ["mse", "jsd"]
    assert found["rows"][1]["states_to_retention"] == {"0.95": [1000, 4000], "0.98": []}
    none = "not reached (0 of 1)"
    assert control.divergences(found) == [
        ("2", "32", "MSE", "1.000 (1.000–1.000)", "1.000 (1.000–1.000)", none, none),
        ("2", "32", "JSD", "0.700 (0.600–0.800)", "0.825 (0.800–0.850)", "2,500 (2 of 2)", "not reached (0 of 2)"),
    ]


def test_episodes_of_one_seed_widen_the_interval_too():
    cell = stored("mse", 0, [(0.0, 1.0), (0.5, 0.5)], None)
    weakest, mean = divergences.weakest_retention([cell]), divergences.mean_retention([cell])
    assert (weakest.estimate, weakest.low, weakest.high) == (0.5, 0.0, 1.0)
    assert (mean.estimate, mean.low, mean.high) == (0.75, 0.5, 1.0)


class Scripted:
    """An executor that returns cells without a merge, and notes what it ran."""

    def __init__(self):
        self.ran = []

    def map(self, work, jobs, progress, on_result):
        for job in jobs:
            self.ran.append(job.key)
            loss, skills, units, seed = job.key
            cell = stored(loss, seed, [(1.0, 1.0), (0.5, 0.5)], 1000)
            on_result(
                {**cell, "skills": skills, "units": units, "settings": divergences.settings_of(job), "experts": []}
            )


def test_finished_cells_are_not_run_again_and_other_settings_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(divergences, "expert_hashes", lambda cell: [])
    options = divergences.Options(
        experts=EXPERTS, losses=("mse", "jsd"), skills=(2,), units=(32,), seeds=(0,), results=tmp_path / "cells.jsonl"
    )
    first, second = Scripted(), Scripted()
    divergences.main(options, first)
    assert first.ran == [("mse", 2, 32, 0), ("jsd", 2, 32, 0)]
    divergences.main(replace(options, seeds=(0, 1)), second)
    assert second.ran == [("mse", 2, 32, 1), ("jsd", 2, 32, 1)]
    assert "| 2 | 32 | JSD | 1.000" in capsys.readouterr().out
    assert [row["seeds"] for row in json.loads((tmp_path / "cells.json").read_text())["rows"]] == [2, 2]
    divergences.main(options, None)  # nothing is missing
    with pytest.raises(
        ConfigError, match=r"cells\.jsonl holds cells with settings .*'episodes': 64.*not .*'episodes': 32"
    ):
        divergences.main(replace(options, episodes=32), Scripted())
    monkeypatch.setattr(divergences, "expert_hashes", lambda cell: ["other"])
    with pytest.raises(ConfigError, match=r"holds cells with experts \[\], not \['other'\]"):
        divergences.main(options, Scripted())


def test_a_cell_is_a_merge_and_paired_episodes_on_the_tracks_of_its_seed(tmp_path, monkeypatch):
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)]
    monkeypatch.setattr(divergences, "load_named", lambda paths: {str(path): None for path in paths})
    monkeypatch.setattr(divergences, "teachers_from", lambda named: teachers[: len(named)])
    config = divergences.config_of("forward_kl", 8, 5, quick=True)
    cell = divergences.Cell(EXPERTS[:2], 8, config, 3, "command", tmp_path)
    found = divergences.run_cell(cell, None)
    assert divergences.key_of(found) == cell.key == ("forward_kl", 2, 8, 5)
    assert found["states"] == 2 * 2 * 1 * 24  # rounds, skills, simulations, steps
    assert found["experts"] == [t.weights_sha256[:16] for t in teachers]
    assert found["settings"] == divergences.settings_of(cell)
    assert (found["settings"]["rounds"], found["settings"]["episodes"]) == (2, 3)
    for teacher in teachers:
        own = evaluate({"e": teacher.policy}, [teacher.skill], episodes=3, seed=5, threads=1).cells[
            "e", teacher.skill.id
        ]
        pair = found["reward_per_step"][teacher.skill.id]
        assert pair["expert"] == [round(x, 5) for x in own.reward_per_step]
        assert len(pair["student"]) == 3
        assert pair["student"] != pair["expert"]
        assert found["success"][teacher.skill.id]["expert"] == np.mean(own.success)
        slug = teacher.skill.id.rpartition("/")[2]
        shared = tmp_path / f"{slug}-{teacher.weights_sha256[:16]}-3-5.json"
        assert json.loads(shared.read_text())["reward_per_step"] == pair["expert"]
        shared.write_text(json.dumps({"reward_per_step": [7.0], "success": 0.5}))
        assert divergences.expert_outcomes(teacher, cell)["reward_per_step"] == [7.0]  # not simulated twice


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def rows(*found):
    return "".join(f"{json.dumps(row)}\n" for row in found)


def make_demo(folder, *, quick):
    """Two experts whose costs are known, and a merge of them: of rounds, or quick, with early tests and no data."""
    for name, final, curve in (
        ("flat", 0.8, [(100, 0.7, 1.0), (200, 0.76, 2.0), (300, 0.783, 3.0), (400, 0.784, 4.0)]),
        ("gaps", 1.0, [(100, 0.5, 5.0), (200, 0.94, 10.0), (300, 0.97, 15.0)]),
    ):
        run = folder / "experts" / name
        write(run / "progress.jsonl", rows(*({"steps": n, "reward_per_step": r, "seconds": s} for n, r, s in curve)))
        write(run / "result.json", {"reward_per_step": final})
        write(run / "policy" / "manifest.json", {"skills": [f"biped/{name}"]})
    kept = [{"biped/flat": 0.9, "biped/gaps": 0.95}, {"biped/flat": 0.98, "biped/gaps": 0.9},
            {"biped/flat": 0.99, "biped/gaps": 0.99}]  # fmt: skip
    merge, names = folder / "student", ("biped/flat", "biped/gaps")
    sizes = [(1, 1), (3, 1), (2, 2)]
    lines = [{"round": i + 1, "states": 10 * sum(map(sum, sizes[: i + 1])), "seconds": i + 1.5} for i in range(3)]
    if quick:
        for line, size in zip(lines, sizes, strict=True):
            line["simulations"] = dict(zip(names, size, strict=True))
        for line, values in zip(lines[1:], kept, strict=False):
            line["early"] = {"retention": values}
        lines[2]["retention"] = kept[2]
    else:
        for line, values in zip(lines, kept, strict=True):
            line["retention"] = values
        shards = [{"skill": name, "round": i, "steps": 10, "simulations": n}
                  for i, size in enumerate(sizes) for name, n in zip(names, size, strict=True)]  # fmt: skip
        write(merge / "data" / "manifest.json", {"shards": shards})
    write(merge / "progress.jsonl", rows(*lines))
    return folder


@pytest.mark.parametrize("quick", [False, True])
def test_costs_are_those_of_the_first_validation_that_had_the_share(tmp_path, quick):
    demo = make_demo(tmp_path / "demo", quick=quick)
    found = cost_of_skills.costs_of(demo, demo / "student")
    assert (found["demo"], found["merge"]) == ("demo", "demo/student")
    first, second, third = (
        {"states": 20, "skill_states": 10, "seconds": 1.5},
        {"states": 60, "skill_states": 40, "seconds": 2.5},
        {"states": 100, "skill_states": 40, "seconds": 3.5},
    )
    assert found["skills"] == {
        "biped/flat": {
            "0.95": {"rl": {"steps": 200, "seconds": 2.0}, "merge": second},
            "0.98": {"rl": {"steps": 400, "seconds": 4.0}, "merge": second},
        },
        "biped/gaps": {
            "0.95": {"rl": {"steps": 300, "seconds": 15.0}, "merge": first},
            "0.98": {"rl": None, "merge": third},
        },
    }


def test_the_table_of_costs_has_medians_over_demos_that_got_there(tmp_path, capsys):
    demos = tuple(make_demo(tmp_path / str(i), quick=i == 1) for i in range(2))
    log = demos[1] / "experts" / "flat" / "progress.jsonl"
    log.write_text(rows({"steps": 1000, "reward_per_step": 0.77, "seconds": 22.0}))
    results = tmp_path / "new" / "costs.json"
    cost_of_skills.main(cost_of_skills.Options(demos, results=results))
    content = json.loads(results.read_text())
    assert control.cost_of_skills(content) == [
        ("flat", "0.95", "600", "40", "15.0", "12", "2", "4.8"),
        ("", "0.98", "400 (1 of 2)", "40", "10.0", "4", "2", "1.6"),
        ("gaps", "0.95", "300", "10", "30.0", "15", "2", "10.0"),
        ("", "0.98", "not reached (0 of 2)", "", "", "", "", ""),
    ]
    assert "| gaps | 0.95 | 300 | 10 | 30.0 | 15 | 2 | 10.0 |" in capsys.readouterr().out


def test_folders_that_say_nothing_of_costs_are_refused(tmp_path):
    demo = make_demo(tmp_path / "demo", quick=False)
    with pytest.raises(ConfigError, match="give folders of policykd demo"):
        cost_of_skills.main(cost_of_skills.Options())
    with pytest.raises(ConfigError, match="1 merges for 2 demos"):
        cost_of_skills.main(cost_of_skills.Options((demo, demo), (demo / "student",)))
    with pytest.raises(OutputError, match="holds no finished training"):
        cost_of_skills.costs_of(tmp_path / "none", demo / "student")
    (demo / "student" / "data" / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"has no data/manifest\.json"):
        cost_of_skills.costs_of(demo, demo / "student")
    write(
        demo / "student" / "progress.jsonl",
        rows({"round": 1, "states": 4, "simulations": {"biped/flat": 1}, "seconds": 1}),
    )
    with pytest.raises(OutputError, match="lacks the skill biped/gaps"):
        cost_of_skills.costs_of(demo, demo / "student")
    (demo / "student" / "progress.jsonl").unlink()
    with pytest.raises(OutputError, match="has no rows"):
        cost_of_skills.costs_of(demo, demo / "student")
    write(demo / "experts" / "flat" / "result.json", {"reward_per_step": 0.0})
    with pytest.raises(ConfigError, match=r"final reward per step of .*flat is 0; shares need"):
        cost_of_skills.training_costs(demo / "experts" / "flat")


PAGE = "# Page\n\n<!-- figures: later -->\n\nMore.\n"


def test_a_table_without_results_is_a_mark_alone_until_they_exist(tmp_path, monkeypatch):
    figures = Figures("merging.md", ("later.json",), lambda content: [("x", str(content["count"]))], ("name", "count"))
    monkeypatch.setattr(check, "TABLES", {"later": figures})
    monkeypatch.setattr(check, "PHRASES", {})
    docs, results = tmp_path / "docs", tmp_path / "results"
    docs.mkdir()
    page = docs / "merging.md"

    def differences(text):
        page.write_text(text)
        return [str(one) for one in check.compare_all(docs, results)]

    assert differences(PAGE) == []
    check.write_page(page, "later", results)
    check.write_all(docs, results)
    assert page.read_text() == PAGE
    awaited = "docs/merging.md, table later: the page says {}, the results say nothing yet: a mark alone (later.json)"
    assert differences("# Page\n") == [awaited.format("nothing")]
    filled = PAGE.replace("-->\n", "-->\n| name | count |\n| --- | --- |\n| x | 1 |\n")
    assert differences(filled) == [awaited.format("a table")]
    write(results / "later.json", {"count": 1})
    assert differences(PAGE) == [
        "docs/merging.md, table later: the page says nothing, the results say a table (later.json)"
    ]
    check.write_page(page, "later", results)
    assert page.read_text() == filled
    assert differences(filled) == []
    write(results / "later.json", {"count": 2})
    check.write_all(docs, results)
    assert page.read_text() == filled.replace("| x | 1 |", "| x | 2 |")
    page.write_text("# Page\n")
    with pytest.raises(OutputError, match=r"needs the line <!-- figures: later -->"):
        check.write_page(page, "later", results)
    assert not pages.has_bare_mark(filled, "later")
