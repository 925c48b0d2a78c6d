"""Functions as teachers: a scripted controller of gymnasium's pendulum labels states and is merged into a student."""

import copy

import numpy as np
import pytest
import torch

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.function_policy import FunctionPolicy
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.skills import get_skill
from policykd.errors import ContractError
from policykd.evaluation import evaluate
from policykd.merge import MergeConfig, function_teacher, merge_experts
from policykd.merge.student import first_student

PENDULUM = gym_skill("gym:Pendulum-v1")


def swing_up(observations):
    """Pump energy, and balance near the top: torques in [-2, 2]."""
    cosine, sine, rate = observations.T
    angle = np.arctan2(sine, cosine)
    energy = 0.5 * rate**2 / 3 + 5.0 * (cosine - 1.0)
    pump, hold = -2.0 * np.sign(rate * energy + 1e-9), -12.0 * angle - 3.0 * rate
    return np.where(np.abs(angle) < 0.6, hold, pump)[:, None]


def test_labels_are_the_functions_actions_in_the_unit_of_the_student():
    teacher = function_teacher("swing-up 1", swing_up, PENDULUM)
    observations = torch.tensor([[1.0, 0.0, 0.1], [-1.0, 0.0, 0.5], [1.0, 0.0, -5.0]])
    expected = np.clip(swing_up(observations.numpy()), -2, 2) / 2
    assert teacher.policy(observations).numpy() == pytest.approx(expected, abs=1e-6)
    assert expected[0, 0] == pytest.approx(-0.15)
    assert expected[2, 0] == 1.0, "clipped, as the environment does"
    assert teacher.source == "swing-up 1"
    assert teacher.weights_sha256 != function_teacher("swing-up 2", swing_up, PENDULUM).weights_sha256


def test_bounds_need_not_be_symmetric():
    policy = FunctionPolicy(lambda o: np.array([[0.0, 1.0]] * len(o)), {"a": 1}, low=[0.0, -1.0], high=[4.0, 3.0])
    assert policy(torch.zeros(2, 1)).tolist() == [[-1.0, 0.0]] * 2
    assert policy.value(torch.zeros(2, 1)).tolist() == [0.0, 0.0]


def test_a_scripted_controller_is_distilled(tmp_path):
    teacher = function_teacher("swing-up", swing_up, PENDULUM)
    config = MergeConfig(
        rounds=4, envs=4, updates=200, minibatch=128, learning_rate=5e-3, validation_episodes=1, target_retention=2.0,
        min_teacher_success=0.0, critic="none", noise=0.1, architecture=Architecture((32, 32), (8,)),
    )  # fmt: skip
    merged = merge_experts([teacher], tmp_path, config)
    student = load_policy(merged.policy_path)
    assert student.manifest.parents[0].name == "swing-up"
    scores = evaluate({"student": student.policy, "script": teacher.policy}, [PENDULUM], episodes=8, seed=1)
    reward = {name: np.mean(scores.cells[name, PENDULUM.id].reward_per_step) for name in ("student", "script")}
    assert reward["script"] > -2.5  # random actions get about -6
    assert reward["student"] > reward["script"] - 1.0


@pytest.mark.parametrize(("function", "words"), [
    (lambda o: np.zeros(len(o)), r"actions of shape \(3,\) for 3 observations; it must return \(3, 1\)"),
    (lambda o: np.full((len(o), 1), np.nan), r"returned \[nan\] for observation \[0.0, 0.0, 0.0\]"),
])  # fmt: skip
def test_wrong_actions_are_named(function, words):
    teacher = function_teacher("wrong", function, PENDULUM)
    with pytest.raises(ContractError, match=words):
        teacher.policy(torch.zeros(3, 3))


def test_discrete_actions_are_refused():
    with pytest.raises(ContractError, match="a function as a teacher"):
        function_teacher("cart", lambda o: o[:, :1], gym_skill("gym:CartPole-v1"))


def test_a_function_is_neither_saved_nor_copied_into_a_student(tmp_path):
    teacher = function_teacher("swing-up", swing_up, PENDULUM)
    assert copy.deepcopy(teacher.policy) is teacher.policy
    with pytest.raises(ContractError, match="a policy file needs a policy with weights"):
        save_policy(tmp_path / "p", teacher.policy, robot=PENDULUM.robot, skills=[PENDULUM.id], operation="x", seed=0)
    with pytest.raises(ContractError, match="a student's start needs a policy with weights"):
        first_student([teacher], MergeConfig(start="newest"), None)


def test_a_function_for_a_robot_acts_between_minus_one_and_one():
    skill = get_skill("biped/flat")
    width = skill.robot.num_actions
    given = np.linspace(-1.5, 1.5, width)
    teacher = function_teacher("ramp", lambda rows: np.tile(given, (len(rows), 1)), skill)
    actions = teacher.policy(torch.zeros(2, teacher.policy.observation_size))
    np.testing.assert_allclose(actions, np.tile(given.clip(-1.0, 1.0), (2, 1)), atol=1e-7)
