"""Recurrent teachers: their labels are those of torch's own module along the states that the student visits."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from policykd.agents.files.policy_file import load_policy
from policykd.agents.importing.foreign_policy import policy_of
from policykd.agents.importing.formats import read_foreign
from policykd.agents.importing.importer import import_policy
from policykd.agents.policy import Policy
from policykd.cli.main import main
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.make import make_env
from policykd.evaluation.results import Evaluation
from policykd.merge.collect import ActionNoise, Collection, collect
from policykd.merge.config import MergeConfig
from policykd.merge.conflicts import measure_conflicts
from policykd.merge.distiller import merge_experts
from policykd.merge.labeling import Labeler
from policykd.merge.teachers import Teacher, teachers_from
from policykd.runs import read_log
from policykd.seeding import integer_seed

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))
from foreign_envs import register
from recurrent_samples import outputs_of, random_module, save_script, steering_module

register()
WILD = 'gym:policykd-tests/Point-v0?{"gain": 8.0}'  # episodes end early
POINT = 'policykd-tests/Point-v0?{"goal": 1.0}'


def teacher_of(folder, module, number=0):
    policy = policy_of(read_foreign(save_script(module, folder / f"{number}.pt")))
    return Teacher(gym_skill(WILD), policy, f"expert {number}", f"{number}" * 64)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("beta", [1.0, 0.0])
@torch.no_grad()
def test_labels_are_those_of_torch(beta, batched, tmp_path):
    """A second teacher without memory is collected next to it; both labelings are made twice with one labeler."""
    module = random_module(nn.LSTM, 2, 1, seed=1)
    plain = replace(teacher_of(tmp_path, module), policy=Policy({"observation": 2}, 1, generator_seed=2))
    teachers = [teacher_of(tmp_path, module), plain, teacher_of(tmp_path, module)]
    labeler, student = Labeler(teachers, batched), Policy({"observation": 2}, 1, generator_seed=3)
    nn.init.normal_(student.actor[-1].weight, generator=torch.Generator().manual_seed(0))
    for n in (5, 7):
        sources = [
            Collection(t, make_env([t.skill], n, seed=i), ActionNoise(0.3), torch.Generator().manual_seed(i))
            for i, t in enumerate(teachers)
        ]
        rollouts = collect(sources, student, beta=beta, mixing="episode", labeler=labeler)
        for number in (0, 2):
            rollout = rollouts[number]
            ended = rollout.terminated | rollout.truncated
            assert ended[:20].any(), "no episode ended early, so nothing is tested"
            rows = rollout.observations.view(*ended.shape, 2)
            expected = outputs_of(module, rows, ended).clamp(-1.0, 1.0).flatten(0, 1)
            torch.testing.assert_close(rollout.labels, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            rollouts[1].labels, plain.policy(rollouts[1].observations).clamp(-1.0, 1.0), atol=1e-5, rtol=0
        )


def test_conflicts_are_measured_along_episodes(tmp_path):
    module = random_module(nn.GRU, 2, 1, seed=1)
    first, same = teacher_of(tmp_path, module), teacher_of(tmp_path, module, 1)
    other = teacher_of(tmp_path, random_module(nn.GRU, 2, 1, seed=2), 2)
    assert measure_conflicts([first, same])[0].disagreement < 1e-5
    assert measure_conflicts([first, other])[0].disagreement > 0.3


def last_output(module, history):
    """Return (1, actions) the output of torch's modules after a history (steps, inputs)."""
    return module.actor(module.memory(history[:, None])[0][-1])


@torch.no_grad()
def visited(module, number):
    """Return states (100, 8, 2) and ends (100, 8) of episodes in which torch's own module acts on each history."""
    env = make_env([gym_skill(WILD)], 8, seed=integer_seed(0, "conflicts", number))
    flat, histories = torch.cat(list(env.reset().values()), dim=1), [[] for _ in range(8)]
    seen, done = [], []
    for _ in range(100):
        for history, row in zip(histories, flat, strict=True):
            history.append(row)
        seen.append(flat)
        step = env.step(torch.cat([last_output(module, torch.stack(history)) for history in histories]))
        flat, ended = step.flat, step.terminated | step.truncated
        done.append(ended)
        histories = [[] if over else history for history, over in zip(histories, ended, strict=True)]
    return torch.stack(seen), torch.stack(done)


@torch.no_grad()
def test_conflicts_are_those_of_torch(tmp_path):
    modules = [random_module(nn.GRU, 2, 1, seed=seed) for seed in (1, 4)]  # their episodes do not amplify rounding
    visits = [visited(module, i) for i, module in enumerate(modules)]
    actions = [
        torch.cat([outputs_of(module, *visit).clamp(-1, 1).flatten(0, 1) for visit in visits]) for module in modules
    ]
    spread = torch.cat(actions).std(dim=0).square().mean().sqrt()
    expected = float((actions[0] - actions[1]).square().mean().sqrt() / spread)
    (found,) = measure_conflicts([teacher_of(tmp_path, module, i) for i, module in enumerate(modules)])
    assert found.disagreement == pytest.approx(expected, rel=1e-4)


def run(*arguments):
    return main([str(a) for a in arguments])


def test_a_student_without_memory_keeps_what_a_recurrent_teacher_does(tmp_path):
    motion, expert = save_script(steering_module(1.0), tmp_path / "motion.pt"), tmp_path / "expert"
    assert run("import", motion, "--env", POINT, "--out", expert) == 0
    merge = ("merge", expert, "--rounds", 3, "--hidden", 32, 32, "--critic", "none", "--out", tmp_path / "student",
             "--set", "envs=8", "updates=300", "validation_episodes=8", "minibatch=128")  # fmt: skip
    assert run(*merge) == 0
    student = load_policy(tmp_path / "student")
    assert not student.policy.recurrent
    assert student.manifest.architecture.memory is None
    assert run("evaluate", tmp_path / "student", expert, "--episodes", 16, "--out", tmp_path / "evaluation.json") == 0
    evaluation = Evaluation.load(tmp_path / "evaluation.json")
    (skill,) = evaluation.skills
    assert evaluation.summaries["student", skill].retention.estimate > 0.9


def test_a_student_may_start_from_a_recurrent_policy(tmp_path):
    motion = save_script(steering_module(1.0), tmp_path / "motion.pt")
    import_policy(motion, tmp_path / "expert", env=POINT, episodes=2)
    loaded = load_policy(tmp_path / "expert")
    teachers = teachers_from([("expert", loaded)])
    config = MergeConfig(envs=2, rounds=1, updates=1, validation_episodes=2, min_teacher_success=0.0)
    for start, init in (("newest", None), ("previous", loaded)):
        result = merge_experts(teachers, tmp_path / start, replace(config, start=start), init=init)
        student = load_policy(result.policy_path)
        assert student.manifest.architecture == loaded.manifest.architecture
        assert torch.equal(student.policy.normalizer.mean, loaded.policy.normalizer.mean)
        (row,) = read_log(tmp_path / start / "progress.jsonl")
        assert row["loss"] < 1e-9  # along its own episodes it is its teacher
