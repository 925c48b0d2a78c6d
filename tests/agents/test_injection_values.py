"""Observations that injected policies are compared on, draw by draw; and one update of a run on a device."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from injection_samples import ROBOT, blind_policy

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.injection import files
from policykd.agents.injection.files import _comparison_skill, _difference, inject_file, random_observations
from policykd.agents.policy import Policy
from policykd.agents.training import device_trainer
from policykd.agents.training.algorithm import Adaptation
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.device_trainer import DeviceRun
from policykd.envs.batched_env import EnvConfig
from policykd.errors import ConfigError, ContractError, OutputError
from policykd.progress import Silent
from policykd.seeding import generator, integer_seed

GROUPS = {"a": 2, "b": 1}


def small_policy(groups=None, seed=0):
    policy = Policy(groups or GROUPS, 2, Architecture((4,), (4,)), seed)
    torch.nn.init.normal_(policy.actor[-1].weight, generator=torch.Generator().manual_seed(seed))
    return policy


def test_old_features_are_drawn_from_their_statistics_and_new_ones_within_ten():
    before, after = small_policy(), small_policy({"b": 1, "new": 2, "a": 2})
    before.normalizer.update(torch.tensor([[1.0, 2.0, 3.0], [3.0, 6.0, 3.5]]))
    found = random_observations(before, after, 5, 9)
    g = torch.Generator().manual_seed(integer_seed(9, "random observations"))
    expected = {
        "b": 3.25 + 0.25 * torch.randn(5, 1, generator=g),
        "new": 20.0 * torch.rand(5, 2, generator=g) - 10.0,
        "a": torch.tensor([2.0, 4.0]) + torch.tensor([1.0, 2.0]) * torch.randn(5, 2, generator=g),
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values)


class Walk:
    """64 simulations that show half of what was done."""

    num_envs = 64

    def __init__(self):
        self.actions = []

    def reset(self):
        return {"a": torch.ones(64, 2), "b": torch.arange(64.0)[:, None] / 64, "more": torch.zeros(64, 1)}

    def step(self, actions):
        self.actions.append(actions)
        shown = {"a": 0.5 * actions, "b": actions[:, :1], "more": actions[:, 1:]}
        return SimpleNamespace(observations=shown)


@pytest.mark.parametrize(("count", "steps"), [(64, 1), (65, 2), (150, 3)])
@torch.no_grad()
def test_a_policy_acts_with_its_noise_until_there_are_enough_observations(monkeypatch, count, steps):
    made, env = [], Walk()
    monkeypatch.setattr(files, "make_env", lambda *args, **options: made.append((args, options)) or env)
    policy, skill = small_policy(), SimpleNamespace(groups=("a", "b", "more"))
    found = files.on_policy_observations(policy, skill, count, 9, threads=2)
    how = {"seed": integer_seed(9, "on-policy"), "config": EnvConfig(tracks=64), "threads": 2}
    assert made == [(([skill], 64), how)]
    assert len(env.actions) == steps
    noise, seen, now = generator(9, "on-policy noise"), [], Walk().reset()
    for actions in env.actions:
        seen.append(now)
        flat = torch.cat([now["a"], now["b"]], 1)
        draws = torch.from_numpy(noise.standard_normal((64, 2))).float()
        torch.testing.assert_close(actions, policy(flat) + policy.log_std.exp() * draws)
        now = {"a": 0.5 * actions, "b": actions[:, :1], "more": actions[:, 1:]}
    for name in ("a", "b", "more"):
        torch.testing.assert_close(found[name], torch.cat([s[name] for s in seen])[:count])


@pytest.mark.parametrize(("size", "bound"), [(0.5, 1e-6), (100.0, 1e-4)])
def test_rounding_explains_differences_in_proportion_to_the_outputs(monkeypatch, size, bound):
    policy = small_policy()
    with torch.no_grad():
        policy.actor[-1].weight.zero_()
        policy.actor[-1].bias.fill_(size)
        policy.critic[-1].weight.zero_()
        policy.critic[-1].bias.fill_(-0.1)
    values = {"a": torch.zeros(3, 2), "b": torch.zeros(3, 1)}
    for difference, refused in ((0.99 * bound, False), (1.01 * bound, True), (float("nan"), True)):
        monkeypatch.setattr(files, "largest_difference", lambda *given, found=difference: found)
        if refused:
            with pytest.raises(ContractError, match=f"rounding explains {bound:.3g}"):
                _difference(policy, policy, values, "exact")
            assert str(_difference(policy, policy, values, "scaled")) == str(difference)
        else:
            assert _difference(policy, policy, values, "exact") == difference
    with torch.no_grad():
        policy.critic[-1].bias.fill_(-10 * size)
    monkeypatch.setattr(files, "largest_difference", lambda *given: 9e-6 * size)
    assert _difference(policy, policy, values, "exact") == 9e-6 * size  # values count as well as actions


def test_policies_are_compared_in_their_first_skill_or_the_one_that_is_named():
    asked = []

    def skill(name, groups):
        asked.append((name, groups))
        return SimpleNamespace(id=name, robot=SimpleNamespace(name="biped"))

    manifest = SimpleNamespace(skills=("x", "y"), robot="biped", skill=skill)
    loaded, after = SimpleNamespace(manifest=manifest), ("a", "b")
    assert _comparison_skill(loaded, after, None).id == "x"
    assert _comparison_skill(loaded, after, "z").id == "z"
    assert asked == [("x", ("a", "b")), ("z", ("a", "b"))]
    manifest.robot = "dog"
    with pytest.raises(ContractError, match="made for robot 'dog'; skill y has another"):
        _comparison_skill(loaded, after, "y")
    manifest.skills = ()
    with pytest.raises(ConfigError, match="names no skill"):
        _comparison_skill(loaded, after, None)


def test_the_file_of_an_injection_holds_what_was_measured(monkeypatch, tmp_path):
    before = blind_policy(symmetric=False)
    manifest = SimpleNamespace(
        robot="biped", skills=("biped/flat", "biped/incline"), skill_records=None,
        as_parent=lambda name: f"parent {name}",
        skill=lambda name, groups=(): SimpleNamespace(id=name, robot=ROBOT, group_sizes={"proprio": 49, "terrain": 50}),
        body=lambda: ROBOT,
    )  # fmt: skip
    monkeypatch.setattr(files, "load_policy", lambda path: SimpleNamespace(policy=before, manifest=manifest))
    saved, asked, differences = [], [], iter([0.125, 0.25, 0.125, 0.25])
    monkeypatch.setattr(files, "save_policy", lambda path, policy, **record: saved.append((path, policy, record)))
    monkeypatch.setattr(files, "on_policy_observations", lambda *given: asked.append(given) or "on policy")
    monkeypatch.setattr(files, "random_observations", lambda *given: asked.append(given) or "random")
    monkeypatch.setattr(files, "_difference", lambda *given: next(differences))
    encoder = Encoder("terrain", (2,), (8,), (4,), 6)
    out = tmp_path / "new"
    report = inject_file(
        tmp_path, out, ["terrain"], mode="scaled", encoder=encoder, scale=0.2, seed=4, hidden=(30, 16), observations=7,
        threads=2,
    )  # fmt: skip
    ((path, after, record),) = saved
    assert (report.policy_path, report.largest_random, report.largest_on_policy) == (out, 0.125, 0.25)
    assert (report.mode, report.groups) == ("scaled", ("terrain",))
    assert asked == [(before, after, 7, 4), (before, asked[1][1], 7, 4, 2)]
    assert asked[1][1].id == "biped/flat"
    assert path == out
    assert record.pop("robot") is ROBOT
    assert record == {
        "skills": ("biped/flat", "biped/incline"), "skill_records": None, "operation": "inject", "seed": 4,
        "parents": ["parent biped/flat biped/incline"],
        "metrics": {"largest_difference": {"random": 0.125, "on_policy": 0.25}, "observations": 7},
        "config": {
            "groups": ["terrain"], "mode": "scaled", "scale": 0.2, "skill": "biped/flat", "hidden": [30, 16],
            "critic_hidden": [20, 12],
            "encoder": asdict(encoder),
        },
    }  # fmt: skip
    inject_file(tmp_path, tmp_path / "wide", [], critic_hidden=(21, 12))
    assert saved[1][2]["config"]["scale"] is None
    assert saved[1][2]["config"]["encoder"] is None
    assert saved[1][1].architecture.critic_hidden == (21, 12)
    for groups, options, message in (
        ([], {}, "nothing to inject"),
        ([], {"encoder": encoder, "hidden": (24, 16)}, "name that group among the new ones"),
        (["terrain"], {"observations": 0}, "observations is 0"),
        (["terrain"], {"observations": 10_000_001}, "observations"),
    ):
        with pytest.raises(ConfigError, match=message):
            inject_file(tmp_path, out, groups, **options)
    with pytest.raises(OutputError, match="exists; choose another --out"):
        inject_file(tmp_path, tmp_path, ["terrain"])


class Episodes:
    """Means of training episodes that are there only sometimes."""

    def __init__(self, *found):
        self._found, self.asked = iter(found), []

    def take(self, least):
        self.asked.append(least)
        return next(self._found)


def device_run(monkeypatch, *episodes, steps=256, review=1, segment=64):
    run = DeviceRun.__new__(DeviceRun)
    monkeypatch.setattr(DeviceRun, "_env", None, raising=False)
    done = []
    config = SimpleNamespace(
        steps=steps, seed=6, segment_steps=segment, review_steps=review, raise_above=0.4, level_step=0.04
    )
    rollout = SimpleNamespace(rewards=torch.zeros(4, 8))
    learner = SimpleNamespace(
        collect=lambda: rollout, update=lambda given, rate: done.append(("update", rate)) or 0.5,
        prepare_next=lambda given, bound: done.append(("next", bound)), episodes=Episodes(*episodes),
        seed=lambda seed: done.append(("seed", seed)),
    )  # fmt: skip
    env = SimpleNamespace(
        config=SimpleNamespace(graded=True, own_levels=None), level=0.5, draw_starts=lambda: done.append("starts"),
        seed=lambda seed: done.append(("env", seed)),
        engine=SimpleNamespace(check_overflow=lambda: done.append("checked")),
    )  # fmt: skip
    adaptation = Adaptation(1e-3)
    adaptation.adapt = lambda divergence, spent: done.append(("adapt", divergence, spent))
    adaptation.noise_bound = lambda std, spent: (std, spent)
    run._config, run._device_learner, run._env, run._adaptation = config, learner, env, adaptation
    run._policy, run._steps, run._segment, run._name = small_policy(), 0, 2, "train x"
    run._average = WeightAverage(run._policy, 0)
    run._progress = Silent()
    return run, done


def test_an_update_adapts_step_size_noise_and_level(monkeypatch):
    run, done = device_run(monkeypatch, {"train_success": 0.5}, {}, {"train_success": 0.3})
    assert run._update() == {"train_success": 0.5}
    assert done == [("update", 1e-3), ("adapt", 0.5, 0.125), ("next", (0.5, 0.125)), "starts"]
    assert (run._steps, run._average._steps, run._env.level) == (32, 32, 0.54)
    assert run._device_learner.episodes.asked == [100]
    assert run._update() == {}
    assert run._update() == {"train_success": 0.3}
    assert run._env.level == 0.54
    assert done.count("starts") == 1
    run._steps = 250
    run._device_learner.episodes = Episodes({})
    run._update()
    assert done[-2] == ("adapt", 0.5, 1.0)  # never more than the whole budget


def test_episodes_are_taken_where_a_review_is_due(monkeypatch):
    run, _ = device_run(monkeypatch, {"train_success": 0.1}, review=64)
    assert run._update() == {}
    assert run._device_learner.episodes.asked == []
    assert run._update() == {"train_success": 0.1}


def test_a_segment_on_a_device_has_its_own_streams_and_ends_with_the_budget(monkeypatch):
    warmed = []
    monkeypatch.setattr(device_trainer, "warm_up_normalizer", lambda policy, env: warmed.append(policy))
    figures = [{"train_success": 0.1}, {}, {"train_success": 0.2}]
    run, done = device_run(monkeypatch, *figures, steps=90)
    assert run._learn_segment() == {"train_success": 0.1}
    seed = integer_seed(6, "segment", 2)
    assert done[:3] == [("env", seed), ("seed", seed), "starts"]
    assert done[-1] == "checked"
    assert (run._steps, run._segment, len(warmed)) == (64, 3, 1)
    run._policy.normalizer.update(torch.randn(4, 3))
    assert run._learn_segment() == {"train_success": 0.2}
    assert (run._steps, run._segment, len(warmed)) == (96, 4, 1)
