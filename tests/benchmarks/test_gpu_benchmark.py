"""The benchmarks of a CUDA device on the CPU: a line per figure, cases that end in time, the committed counts."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from policykd.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu
from gpu import Options, Report, cases, main
from gpu_proxy import Options as ProxyOptions
from gpu_proxy import configured, run_one

ROOT = Path(__file__).parents[2]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def quick(tmp_path, **options):
    return Options(skills=("biped/flat",), worlds=(8,), repeats=2, steps=2, iterations=1, cpu_sims=4, device="cpu",
                   out=tmp_path / "figures.jsonl", **options)  # fmt: skip


def test_every_figure_is_a_line(tmp_path):
    main(quick(tmp_path))
    found = lines(tmp_path / "figures.jsonl")
    assert [row["what"] for row in found] == [
        "machine", "start", "environment", "ppo", "sections", "waits", "profile", "cpu engine", "done",
    ]  # fmt: skip
    by_name = {row["what"]: row for row in found}
    assert len(by_name["environment"]["values"]) == 2
    assert min(by_name["environment"]["values"]) <= by_name["environment"]["per_second"]
    ppo = by_name["ppo"]
    total = ppo["collecting_seconds"] + ppo["updating_seconds"]
    assert ppo["per_second"] == pytest.approx(ppo["transitions"] / total)
    assert ppo["share_of_collecting"] == pytest.approx(ppo["collecting_seconds"] / total)
    assert by_name["sections"]["milliseconds"]["whole step"] > by_name["sections"]["milliseconds"]["targets"]
    assert by_name["waits"]["step"] == "not measured on the CPU"
    assert all(row["at"] >= 0 for row in found)


def test_a_case_that_fails_is_a_line_and_the_next_one_begins(tmp_path, monkeypatch):
    asked = []

    def measure(options, report, skill, worlds, first):
        asked.append((worlds, first))
        if worlds == 8:
            raise ConfigError("contacts were dropped")

    monkeypatch.setattr(gpu, "measure", measure)
    main(Options(skills=("biped/flat",), worlds=(8, 16), device="cpu", out=tmp_path / "f.jsonl"))
    assert asked == [(8, True), (16, False)]
    assert [row["what"] for row in lines(tmp_path / "f.jsonl")] == ["machine", "error", "done"]
    assert "contacts were dropped" in lines(tmp_path / "f.jsonl")[1]["error"]


def test_no_case_begins_that_may_not_end_in_time(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(Report, "seconds", property(lambda self: float(next(clock))))
    monkeypatch.setattr(gpu, "measure", lambda *arguments, **options: None)
    main(Options(skills=("a", "b", "c"), worlds=(1, 2), limit=200.0, device="cpu", out=tmp_path / "f.jsonl"))
    last = lines(tmp_path / "f.jsonl")[-1]
    assert last["what"] == "out of time"
    assert last["at"] < 200


def test_the_most_important_cases_come_first():
    found = list(cases(Options(skills=("a", "b", "c", "d"), worlds=(4, 1))))
    assert found[:3] == [("a", 4), ("b", 4), ("c", 4)]
    assert Counter(found) == Counter((skill, worlds) for skill in "abcd" for worlds in (4, 1))


def test_the_script_names_its_modes():
    run = subprocess.run(["bash", "benchmarks/gpu_figures.sh", "measur", "5"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "valid: measure, tests, plaid" in run.stderr


def test_a_proxy_run_has_the_devices_learner_and_settings(tmp_path):
    options = ProxyOptions(log=tmp_path / "log.jsonl", steps=(400, 400), every=(200, 2048), target=2.0,
                           set=("ppo.envs=16", "ppo.rollout_steps=8", "ppo.minibatch=32"))  # fmt: skip
    config = configured(options, "device", "biped/flat", 3)
    assert (config.ppo.envs, config.ppo.target_kl, config.level_step) == (16, 0.04, 0.08)
    assert (config.steps, config.seed, config.device) == (400, 3, "cpu")
    assert configured(options, "cpu", "biped/flat", 3).ppo.envs == 64
    found = run_one(options, "device", "biped/flat", 0)
    assert [point["steps"] for point in found["curve"]] == [256, 512]
    assert found["steps_to_target"] is None
    assert [row["steps"] for row in lines(tmp_path / "log.jsonl")] == [256, 512]


def test_the_committed_counts_are_those_of_the_code():
    """A plain step of the environment makes as many operations as the file says, and recorded iterations few."""
    content = json.loads((ROOT / "benchmarks/results/gpu/dispatches.json").read_text())
    for skill, found in content["skills"].items():
        recorded = found["iteration"]["recorded"]
        assert recorded["replays"] == 2 * content["rollout_steps"] + 2, skill
        assert recorded["waits"] == 1
        assert recorded["operations"] + recorded["replays"] < 0.02 * found["iteration"]["plain"]["operations"]
        assert found["collected step"]["recorded"]["replays"] == pytest.approx(2, abs=0.1)
    from dispatches import Options as Counts
    from dispatches import count, make_learner

    env, _ = make_learner(Counts(rollout_steps=2, minibatches=1), "biped/flat", None)
    actions = env.engine.field("actuator_force").clone()
    step = count(lambda: env.step_masked(actions))
    assert step["operations"] == content["skills"]["biped/flat"]["environment step"]["plain"]["operations"]
