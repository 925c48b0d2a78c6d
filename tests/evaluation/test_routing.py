"""Routing of a mixture: figures by hand, and those of a gate that is set by hand, in closed loop."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from policykd.agents.architecture import Architecture, Memory, Mixture
from policykd.agents.files.policy_file import save_policy
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.cli.main import main
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError
from policykd.evaluation import evaluate
from policykd.evaluation.routing import information, measure_routing, routing_of
from policykd.report.pages.run import write_page

GROUPS = ("proprio", "command")
SKILLS = [replace(get_skill(s, GROUPS), episode_steps=20) for s in ("biped/flat", "biped/flat+backwards")]


def test_figures_of_a_gate():
    found = routing_of(torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.2, 0.6, 0.2], [0.7, 0.1, 0.2]]))
    assert found.weights == pytest.approx((0.6, 0.2375, 0.1625))
    assert found.leads == (0.75, 0.25, 0.0)
    rows = [[0.5, 0.25, 0.25], [1.0], [0.2, 0.6, 0.2], [0.7, 0.1, 0.2]]
    entropies = [-sum(p * math.log(p) for p in row) for row in rows]
    assert found.evenness == pytest.approx(sum(entropies) / 4 / math.log(3), rel=1e-5)


def test_what_the_leading_expert_tells_of_the_skill():
    assert information([(1.0, 0.0), (0.0, 1.0)]) == pytest.approx(1.0)
    assert information([(0.3, 0.7), (0.3, 0.7)]) == 0.0
    assert information([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]) == pytest.approx(math.log2(3))
    # H(expert) - H(expert | skill) = 1 bit of (1/2, 1/2) - (0 + 0.811) / 2 ... for (3/4, 1/4) and (1/4, 3/4)
    assert information([(0.75, 0.25), (0.25, 0.75)]) == pytest.approx(1 - 0.8112781, rel=1e-6)


def mixture(memory=None):
    """Expert 1 leads where the commanded speed is positive, expert 2 where it is negative, expert 3 nowhere."""
    sizes = SKILLS[0].group_sizes
    shape = Architecture((8,), (4,), "relu", mixture=Mixture(3, 2), memory=memory)
    policy = make_policy(sizes, SKILLS[0].robot.num_actions, shape, 0)
    if memory is None:
        first, _, last = policy.actor[0].gate
        for layer in (first, last):
            nn.init.zeros_(layer.weight)
        speed = sizes["proprio"]
        first.weight.data[0, speed], first.weight.data[1, speed] = 1.0, -1.0
        last.weight.data[0, 0] = last.weight.data[1, 1] = 10.0
    return policy


def test_the_gate_is_measured_on_the_policys_own_episodes(tmp_path):
    policy = mixture()
    found = measure_routing(policy, SKILLS, episodes=3, threads=1)
    assert [one.leads for one in found.skills.values()] == [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]
    speed = SKILLS[0].task.speed
    top = math.exp(10 * speed)
    assert found.skills["biped/flat"].weights == pytest.approx(
        (top / (top + 2), 1 / (top + 2), 1 / (top + 2)), rel=1e-4
    )
    assert found.information == pytest.approx(1.0)
    assert not policy.actor[0]._forward_hooks

    save_policy(tmp_path / "policy", policy, robot=SKILLS[0].robot, skills=[s.id for s in SKILLS], operation="merge",
                seed=0)  # fmt: skip
    evaluate({"student": policy}, SKILLS, episodes=2).save(tmp_path / "evaluation.json")
    out = tmp_path / "routing.json"
    assert main(["routing", str(tmp_path / "policy"), "--episodes", "2", "--threads", "1", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert (written["format_version"], written["episodes"], written["seed"]) == (1, 2, 0)
    assert written["skills"]["biped/flat+backwards"]["leads"] == [0.0, 1.0, 0.0]
    page = write_page(tmp_path).read_text()
    assert "Which expert acts on which skill" in page
    assert "(100&nbsp;%)" in page


def test_a_mixture_behind_a_memory_is_measured_too():
    found = measure_routing(mixture(Memory("gru", 4)), SKILLS[:1], episodes=2, threads=1)
    assert sum(found.skills["biped/flat"].weights) == pytest.approx(1.0)
    assert found.skills["biped/flat"].evenness > 0.99  # a new gate is even


def test_what_has_no_routing_is_refused():
    plain = Policy(SKILLS[0].group_sizes, SKILLS[0].robot.num_actions)
    with pytest.raises(ContractError, match=r"needs a mixture of experts.*--architecture moe"):
        measure_routing(plain, SKILLS)
    with pytest.raises(ConfigError, match="name at least one"):
        measure_routing(mixture(), [])
    for episodes in (0, 100_001):
        with pytest.raises(ConfigError, match="episodes"):
            measure_routing(mixture(), SKILLS, episodes=episodes)
