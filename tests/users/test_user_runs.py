"""What users wanted of runs: figures per skill, no forgetting unseen, faults that are named, and speed."""

import csv
import json
import multiprocessing
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from user_policies import EXPERT, NETWORKS, TINY_MERGE, Scan

import policykd.envs  # noqa: F401  (registers the ids)
from children import start_children
from policykd.agents.files.policy_file import load_policy, read_manifest
from policykd.agents.training import PpoConfig, TrainConfig, train_expert
from policykd.cli.main import main
from policykd.curriculum import Injection, Measurement, Recipe, SkillPlan, run_curriculum
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.skills import get_skill
from policykd.errors import NonFiniteError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from doc_figures import check  # noqa: F401  (fills the registers)
from doc_figures.registry import PHRASES, TABLES

ROOT = Path(__file__).parents[2]

KILLED = TrainConfig(
    steps=2048, segment_steps=256, validation_episodes=1, finalists=1, threads=1, architecture=NETWORKS,
    ppo=PpoConfig(envs=8, rollout_steps=16, minibatch=64, epochs=1),
)  # fmt: skip

RECIPE = Recipe(
    skills=(SkillPlan("biped/flat", steps=128), SkillPlan("biped/gaps", steps=128)),
    injection=Injection(blind=1),
    train=TrainConfig(
        segment_steps=128, validation_episodes=2, finalists=1, architecture=NETWORKS,
        ppo=PpoConfig(envs=4, rollout_steps=16, minibatch=64, epochs=1),
    ),
    merge=replace(TINY_MERGE, start="newest"),
    measurement=Measurement(episodes=2),
)  # fmt: skip


def test_10_success_per_skill_comes_with_intervals_in_one_command(tmp_path, capsys):
    out = tmp_path / "evaluation.json"
    command = ["evaluate", str(EXPERT), "--skills", "biped/flat", "biped/gaps", "--episodes", "3", "--threads", "1"]
    assert main([*command, "--out", str(out)]) == 0
    cells = {cell["skill"]: cell["summary"]["success"] for cell in json.loads(out.read_text())["cells"]}
    assert cells["biped/flat"]["estimate"] > cells["biped/gaps"]["estimate"]
    for found in cells.values():
        assert 0.0 <= found["low"] <= found["estimate"] <= found["high"] <= 1.0
        assert found["low"] < found["high"], "three episodes do not settle it"
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    assert {row["skill"] for row in rows} == {"biped/flat", "biped/gaps"}
    printed = capsys.readouterr().out
    assert all(skill in printed for skill in cells)


@pytest.fixture(scope="module")
def curriculum(tmp_path_factory):
    """The folder and result of a curriculum of two skills."""
    out = tmp_path_factory.mktemp("curriculum")
    return out, run_curriculum(RECIPE, out, threads=1)


def test_11_forgetting_is_measured_after_every_stage(curriculum):
    _, result = curriculum
    assert np.shape(result.matrix.scores) == (2, 2), "a row per stage, a column per skill"
    first, last = np.asarray(result.matrix.normalized)[:, 0]
    assert result.matrix.forgetting[0] == pytest.approx(first - last)


def test_11_the_stage_that_lost_a_skill_is_named_and_undone(curriculum, tmp_path, capsys):
    out, _ = curriculum
    assert main(["bisect", str(out), "--skill", "biped/flat"]) == 0
    assert "train-flat" in capsys.readouterr().out
    assert main(["rollback", str(out), "--to", "train-flat", "--out", str(tmp_path / "back")]) == 0
    stage = out / "stages" / "train-flat" / "policy"
    assert (tmp_path / "back" / "weights.safetensors").read_bytes() == (stage / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("life", "when"),
    [(23, "step 23 of the first statistics; no policy had"), (53, "environment step 42; the best policy so far")],
    ids=["at once", "in the second segment"],
)
def test_22_an_infinite_scan_stops_the_training_and_names_feature_simulation_and_step(tmp_path, life, when):
    skill = gym_skill(f'gym:{Scan.__module__}:policykd-users/Scan-v0?{{"life": {life}}}')
    config = TrainConfig(
        steps=4096, segment_steps=32, validation_episodes=1, finalists=1, threads=1, architecture=NETWORKS,
        symmetric=False, curriculum=False, ppo=PpoConfig(envs=2, rollout_steps=8, minibatch=16, epochs=1),
    )  # fmt: skip
    with pytest.raises(NonFiniteError, match=r"feature 1 of observation group \S+ of simulation 0 is inf at " + when):
        train_expert([skill], tmp_path, config)
    if life == 53:
        kept = load_policy(tmp_path)
        assert kept.manifest.metrics["steps"] == 32
        assert all(np.isfinite(value.numpy()).all() for value in kept.policy.state_dict().values())
    else:
        assert not (tmp_path / "policy").exists()


def test_25_every_linked_result_is_behind_a_figure_and_the_check_is_one_command():
    assert "\nfigures-check:" in (ROOT / "Makefile").read_text()
    text = (ROOT / "docs" / "figures.md").read_text()
    used = {file for figures in (*TABLES.values(), *PHRASES.values()) for file in figures.files}
    results = ROOT / "benchmarks" / "results"
    linked = {file.relative_to(results).as_posix() for file in results.rglob("*.json") if f"{file.name})" in text}
    assert len(linked) > 8
    assert linked <= used
    assert "AMD EPYC" in text, "the machine"


def test_plus_simulations_share_one_process_and_the_doctor_tells_their_speed(tmp_path, capsys):
    envs = gymnasium.make_vec("policykd/Biped-v0", num_envs=32, terrain="flat")
    try:
        envs.reset(seed=0)
        rewards = envs.step(np.zeros(envs.action_space.shape, np.float32))[1]
        assert rewards.shape == (32,)
        assert multiprocessing.active_children() == []
    finally:
        envs.close()
    out = tmp_path / "doctor.json"
    assert main(["doctor", "--seconds", "0.02", "--device", "cpu", "--out", str(out)]) == 0
    speed = json.loads(out.read_text())["probe"]["steps_per_second"]
    assert speed > 0
    assert f"{speed:,} env steps/s" in capsys.readouterr().out


def test_21_kill_9_and_resume_give_the_same_weights(tmp_path):
    """All commands, hundreds of moments: `make chaos`."""
    skills = [get_skill("biped/flat")]
    whole = train_expert(skills, tmp_path / "whole", KILLED)
    (process,) = start_children(train_expert, (skills, tmp_path / "killed", KILLED))
    while process.is_alive() and not (tmp_path / "killed" / "checkpoint.pt").exists():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "result.json").exists()
    again = train_expert(skills, tmp_path / "killed", KILLED, resume=True)
    assert read_manifest(again.policy_path).weights_sha256 == read_manifest(whole.policy_path).weights_sha256
