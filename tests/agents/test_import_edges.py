"""Imports at their edges: zips and normalizers of stable-baselines3, wrappers, units of actions, single bad numbers."""

import io
import json
import pickle
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from policykd.agents.action_map import ActionMap
from policykd.agents.architecture import Memory
from policykd.agents.importing import files, importer, wrappers
from policykd.agents.importing import stable_baselines3 as sb3
from policykd.agents.importing.foreign_policy import ForeignPolicy, Layer, Standardization, check_sizes, policy_of
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.recurrence import Recurrence
from policykd.agents.importing.vecnormalize import read_vecnormalize
from policykd.errors import ConfigError, ContractError, PolicyFileError
from policykd.symbolic_pickle import Name, Record

FILE = Path("runs/model.zip")


def layers(prefix, *sizes):
    found = {}
    for number, (a, b) in enumerate(pairwise(sizes)):
        found |= {f"{prefix}.{2 * number}.weight": np.ones((b, a)), f"{prefix}.{2 * number}.bias": np.zeros(b)}
    return found


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def stored(weights):
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


PPO = {
    "mlp_extractor.policy_net.0.weight": torch.ones(4, 3), "mlp_extractor.policy_net.0.bias": torch.zeros(4),
    "action_net.weight": torch.ones(2, 4), "action_net.bias": torch.zeros(2),
    "value_net.weight": torch.ones(1, 3), "value_net.bias": torch.zeros(1),
}  # fmt: skip
DATA = {"policy_class": {"__module__": "stable_baselines3.ppo.policies"}}


def test_a_zip_of_stable_baselines3_has_both_members(tmp_path):
    for members, expected in (({"policy.pth", "data"}, True), ({"policy.pth", "data", "system_info.txt"}, True),
                              ({"policy.pth"}, False), ({"data"}, False), (set(), False)):  # fmt: skip
        path = zipped(tmp_path / "x.zip", dict.fromkeys(members, b"1"))
        assert sb3.is_sb3_zip(path.read_bytes()) is expected
    assert not sb3.is_sb3_zip(b"PK")


def test_parts_of_a_zip(tmp_path, monkeypatch):
    members = {"data": json.dumps(DATA), "policy.pth": stored({**PPO, "step": 3})}
    path = zipped(tmp_path / "x.zip", members)
    settings, weights, version = sb3._parts(path)
    assert (settings, version) == (DATA, "1.0")
    assert set(weights) == set(PPO)
    path = zipped(tmp_path / "x.zip", {**members, "_stable_baselines3_version": b"2.3.2\n"})
    assert sb3._parts(path)[2] == "2.3.2"
    for changed in ({"data": "[1]"}, {"policy.pth": stored([1])}):
        with pytest.raises(PolicyFileError, match=r"x\.zip is not a zip of stable-baselines3$"):
            sb3._parts(zipped(tmp_path / "x.zip", {**members, **changed}))
    with pytest.raises(PolicyFileError, match="not a zip of stable-baselines3, or it is damaged"):
        sb3._parts(zipped(tmp_path / "x.zip", {**members, "data": "{"}))
    path = zipped(tmp_path / "x.zip", members)
    size = sum(len(content) for content in members.values())
    monkeypatch.setattr(sb3, "MOST_BYTES", size)
    assert sb3._parts(path)[2] == "1.0"
    monkeypatch.setattr(sb3, "MOST_BYTES", size - 1)
    with pytest.raises(PolicyFileError, match="unpacks to more than"):
        sb3._parts(path)


def test_files_may_be_as_large_as_the_limit(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345")
    monkeypatch.setattr(files, "MOST_BYTES", 5)
    assert files.read_bytes(tmp_path / "x") == b"12345"
    monkeypatch.setattr(files, "MOST_BYTES", 4)
    with pytest.raises(PolicyFileError, match="is larger than 4 bytes"):
        files.read_bytes(tmp_path / "x")


def test_a_zip_with_its_configuration(tmp_path, monkeypatch):
    box = sb3._Space("Box", (-1.0, -1.0), (1.0, 1.0), 2)
    monkeypatch.setattr(sb3._Space, "of", lambda settings, key: box if key == "action_space" else sb3._Space("Box"))
    path = zipped(tmp_path / "Hopper-v4.zip", {"data": json.dumps(DATA), "policy.pth": stored(PPO)})
    found = sb3.read_sb3(path)
    assert (found.source, found.groups, found.environment) == ("stable-baselines3 1.0 PPO", {"observation": 3},
                                                               "Hopper-v4")  # fmt: skip
    assert (found.wrappers, found.choices, found.standardization, found.mean_clip) == ((), (), None, None)
    config = tmp_path / "config.yml"
    config.write_text("env_wrapper: a.B\nframe_stack: 4\nnormalize: false\n")
    assert sb3.read_sb3(path).wrappers == ("a.B", "frame-stack:4")
    config.write_text("env_wrapper: [a.B, c.D]\nnormalize: true\n")
    with pytest.raises(PolicyFileError, match="trained on normalized observations"):
        sb3.read_sb3(path)
    found = sb3.read_sb3(path, ImportOptions(normalized=False))
    assert (found.wrappers, found.standardization) == (("a.B", "c.D"), None)
    (tmp_path / "best_model.zip").write_bytes(path.read_bytes())
    assert sb3.read_sb3(tmp_path / "best_model.zip", ImportOptions(normalized=False)).environment == ""


class VecNormalize:
    """Pickled under its own name, as the library's class is."""


class Running:
    """Mean and variance."""

    def __init__(self, mean, var):
        self.mean, self.var = np.array(mean), np.array(var)


def statistics(path, **attributes):
    made = VecNormalize()
    made.__dict__.update(attributes)
    path.write_bytes(pickle.dumps(made))
    return path


def test_statistics_of_a_vec_normalize(tmp_path):
    path = statistics(tmp_path / "v.pkl", obs_rms=Running([1.0, 2.0], [4.0, 9.0]))
    found = read_vecnormalize(path, ["observation"])
    assert (found.mean.tolist(), found.clip) == ([1.0, 2.0], 10.0)
    np.testing.assert_allclose(found.divisor**2, [4.0 + 1e-8, 9.0 + 1e-8], rtol=1e-14)
    groups = {"b": Running([1.0], [0.0]), "a": Running([2.0, 3.0], [1.0, 1.0])}
    statistics(path, obs_rms=groups, epsilon=0.25, clip_obs=3.0, norm_obs=True)
    found = read_vecnormalize(path, ["a", "b"])
    assert (found.mean.tolist(), found.clip, found.divisor[2]) == ([2.0, 3.0, 1.0], 3.0, 0.5)
    with pytest.raises(PolicyFileError, match="lacks statistics of an observation group; the policy reads a, c"):
        read_vecnormalize(path, ["a", "c"])
    with pytest.raises(PolicyFileError, match="lacks statistics"):
        read_vecnormalize(statistics(path), ["observation"])
    assert read_vecnormalize(statistics(path, norm_obs=False), ["observation"]) is None
    path.write_bytes(pickle.dumps(Running([1.0], [1.0])))
    with pytest.raises(PolicyFileError, match="does not hold a VecNormalize"):
        read_vecnormalize(path, ["observation"])
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(PolicyFileError, match="does not hold a VecNormalize"):
        read_vecnormalize(path, ["observation"])
    path.write_bytes(b"")
    with pytest.raises(PolicyFileError, match=r"v\.pkl cannot be read"):
        read_vecnormalize(path, ["observation"])


def record(kind, **attributes):
    return Record(f"gymnasium.spaces.some.{kind}", state=attributes)


def test_spaces_of_records():
    box = record("Box", low=np.array([[-1.0], [0.0]]), high=np.array([[1.0], [2.0]]))
    described = sb3._Space.described
    assert described(box) == sb3._Space("Box", (-1.0, 0.0), (1.0, 2.0), 2)
    assert described(record("Discrete", n=5)) == sb3._Space("Discrete", size=5, choices=(5,))
    assert described(record("MultiDiscrete", nvec=np.array([3, 2]))) == sb3._Space("MultiDiscrete", size=5,
                                                                                 choices=(3, 2))  # fmt: skip
    both = described(record("Dict", spaces={"z": record("Discrete", n=2), "a": box}))
    assert [name for name, _ in both.parts] == ["a", "z"]
    assert both.parts[0][1].size == 2
    for bare in ("Discrete", "MultiDiscrete", "Dict", "Tuple"):
        assert described(record(bare)) == sb3._Space(bare)
    assert described(record("Dict", spaces=[1])) == sb3._Space("Dict")
    text = {":type:": "<class 'gym.spaces.box.Box'>", ":serialized:": "not base 64!"}
    assert sb3._Space.of({"s": text}, "s") == sb3._Space("Box")
    for unknown in ({}, {"s": None}, {"s": {}}, {"s": {":type:": "Box"}}):
        assert sb3._Space.of(unknown, "s") == sb3._Space("an unknown space")


def test_values_of_choices_are_logits_and_quantiles_are_averaged():
    actions = sb3._Space("Discrete", size=2, choices=(2,))
    dqn = sb3._network(layers("q_net.q_net", 3, 4, 2), {}, actions)
    assert (dqn.algorithm, dqn.activation, dqn.critic, len(dqn.actor)) == ("DQN", "relu", (), 2)
    assert (dqn.squash, dqn.rescale, dqn.default_activation) == (False, False, True)
    body = layers("quantile_net.quantile_net", 3, 4, 6)
    body["quantile_net.quantile_net.2.weight"] = np.arange(24.0).reshape(6, 4)
    body["quantile_net.quantile_net.2.bias"] = np.array([0.0, 1.0, 10.0, 20.0, 50.0, 90.0])
    found = sb3._network(body, {}, actions)
    assert found.algorithm == "QR-DQN"
    # outputs 0, 2, 4 are quantiles of the first choice, 1, 3, 5 of the second
    assert found.actor[-1].bias.tolist() == [20.0, 37.0]
    assert found.actor[-1].weight.tolist() == [[8.0, 9.0, 10.0, 11.0], [12.0, 13.0, 14.0, 15.0]]
    for size in (None, 4):
        assert len(sb3._network(body, {}, replace(actions, size=size)).actor[-1].bias) == 6
    notes = sb3._notes(found, None)
    assert notes[1:] == ("without a normalizer", "values of choices are read as logits; merge with --loss nll, the "
                         "cross-entropy to the best choice", "without a critic of states")  # fmt: skip


def test_features_extractors_are_told_apart_from_what_dense_networks_have():
    for weights, error in (
        ({"q_net.features_extractor.cnn.0.weight": np.ones(1)}, "images"),
        ({"features_extractor.mlp.0.weight": np.ones(1)}, "features extractor of its own"),
    ):
        with pytest.raises(PolicyFileError, match=error):
            sb3._network({**layers("q_net.q_net", 3, 2), **weights}, {}, sb3._Space("Discrete", size=2))


def test_settings_of_a_policy_in_text():
    assert sb3._policy_class({"policy_class": {"__module__": "a.sac.policies"}}) == "a.sac.policies"
    assert sb3._policy_class({"policy_class": {}}) == sb3._policy_class({}) == ""
    for name in ("sac", "tqc", "td3", "ddpg", "ars", "ppo", "a2c", "trpo"):
        assert sb3._algorithm({"policy_class": {"__module__": f"x.{name}.policies"}}, "other") == name.upper()
    assert sb3._algorithm({"policy_class": {"__module__": "x.common.policies"}}, "other") == "other"
    assert sb3._kwargs({"policy_kwargs": {"a": 1}}) == {"a": 1}
    assert sb3._kwargs({"policy_kwargs": "text"}) == sb3._kwargs({}) == {}
    assert sb3._activation({}, "relu") == ("relu", True)
    assert sb3._activation({"activation_fn": Name("torch.nn.modules.activation.ELU")}, "relu") == ("elu", False)
    assert sb3._activation({"activation_fn": "<class 'torch.nn.modules.activation.Tanh'>"}, "relu") == ("tanh", False)


def test_a_variance_of_exactly_the_bound_is_not_dead():
    network = SimpleNamespace(default_activation=False, critic=(1,), algorithm="PPO")
    divisor = np.array([2.0**-10, 1.0])  # its square is below the bound
    bound = np.sqrt(1e-6)
    bound = bound if bound**2 >= 1e-6 else np.nextafter(bound, 1.0)
    assert sb3._notes(network, Standardization(np.zeros(2), np.array([bound, 1.0]))) == ()
    assert sb3._notes(network, Standardization(np.zeros(2), divisor))[0].startswith("1 of 2 features had")


GOOD = (Layer(np.ones((4, 3)), np.zeros(4)), Layer(np.ones((2, 4)), np.zeros(2)))


def foreign(**changes):
    given = {"source": "x", "groups": {"observation": 3}, "actor": GOOD, "activation": "elu",
             "actions": ActionMap("none"), **changes}  # fmt: skip
    return ForeignPolicy(**given)


def spoiled(values, number=np.nan):
    values = np.array(values, dtype=np.float64)
    values.flat[-1] = number
    return values


GRU = Recurrence("gru", np.ones((12, 3)), np.ones((12, 4)), np.zeros(12), np.zeros(12))
READER = (Layer(np.ones((2, 4)), np.zeros(2)),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor": (Layer(spoiled(GOOD[0].weight), GOOD[0].bias), GOOD[1])}, "actor layer 0 holds NaN"),
        ({"actor": (GOOD[0], Layer(GOOD[1].weight, spoiled(GOOD[1].bias, np.inf)))}, "actor layer 1 holds NaN"),
        ({"critic": (Layer(spoiled(np.ones((1, 3))), np.zeros(1)),)}, "critic layer 0 holds NaN"),
        ({"standardization": Standardization(spoiled(np.zeros(3)), np.ones(3))}, "means that are not finite"),
        ({"standardization": Standardization(np.zeros(3), spoiled(np.ones(3)))}, "divisors that are not positive"),
        ({"standardization": Standardization(np.zeros(3), spoiled(np.ones(3), -1.0))}, "not positive"),
        *(({"actor": READER, "recurrence": replace(GRU, **{name: spoiled(getattr(GRU, name))})}, "holds NaN")
          for name in ("input_weight", "hidden_weight", "input_bias", "hidden_bias")),
        ({"actor": READER, "recurrence": GRU, "groups": {"observation": 4}}, "reads 3 features; 4 come in"),
        ({"recurrence": GRU}, "actor layer 0 has weights .4, 3. .* 4 inputs come in"),
        ({"wrapper": Memory("time-feature", 9)}, "4 inputs come in"),
    ],
)  # fmt: skip
def test_one_bad_number_is_enough(changes, message):
    with pytest.raises(PolicyFileError, match=message):
        check_sizes(foreign(**changes))


def test_statistics_of_one_of_several_stacked_observations_fit_before_wrappers_are_considered():
    one, two = Standardization(np.zeros(1), np.ones(1)), Standardization(np.zeros(2), np.ones(2))
    check_sizes(foreign(standardization=one), whole=False)
    for given, whole in ((one, True), (two, False), (Standardization(np.zeros(1), np.ones(3)), False),
                         (Standardization(np.zeros(0), np.ones(0)), False),
                         (Standardization(np.zeros((1, 1)), np.ones((1, 1))), False)):  # fmt: skip
        with pytest.raises(PolicyFileError, match="the policy reads 3 features"):
            check_sizes(foreign(standardization=given), whole=whole)


def test_a_recurrent_policy_keeps_its_weights_and_its_critic_is_zero():
    rng = np.random.default_rng(0)
    given = Recurrence("gru", *(rng.normal(size=shape) for shape in ((12, 3), (12, 4), 12, 12)))
    policy = policy_of(foreign(actor=READER, recurrence=given))
    assert policy.architecture.memory == Memory("gru", 4)
    for name, values in given.arrays.items():
        np.testing.assert_allclose(policy.memory.get_parameter(name).detach(), values, rtol=1e-6)
    assert not policy.training
    assert float(policy.value(torch.randn(3, 3)).detach().abs().max()) == 0.0
    assert policy.state_size == 4


SKILL = SimpleNamespace(id="gym:X-v0", episode_steps=50, spaces=SimpleNamespace(groups=(("observation", 2),)),
                        actions=SimpleNamespace(low=(-2.0, 0.0), high=(4.0, 1.0), choices=()))  # fmt: skip


def test_the_normalization_of_a_time_feature_moves_into_the_first_layer():
    rng = np.random.default_rng(1)
    actor = (Layer(rng.normal(size=(4, 3)), rng.normal(size=4)), GOOD[1])
    given = Standardization(np.array([1.0, 2.0, 0.25]), np.array([2.0, 4.0, 0.5]), 1.5)
    critic = (Layer(np.ones((1, 3)), np.zeros(1)),)
    expert = foreign(actor=actor, standardization=given, critic=critic)
    found = wrappers.unwrapped(expert, "time-feature:50", SKILL, "f")
    assert (found.groups, found.wrapper, found.critic) == ({"observation": 2}, Memory("time-feature", 50), ())
    assert found.notes == ("time-feature:50 belongs to the policy, which is reset per episode",)
    left = np.array([1.0, 0.4, 0.0])
    features = rng.normal(size=(3, 2))
    raw = np.column_stack([features, (left - 0.25) / 0.5]) @ actor[0].weight.T + actor[0].bias
    mine = np.column_stack([features, left]) @ found.actor[0].weight.T + found.actor[0].bias
    np.testing.assert_allclose(mine, raw, rtol=1e-5, atol=1e-6)
    kept = found.standardization
    assert (kept.mean.tolist(), kept.divisor.tolist(), kept.clip) == ([1.0, 2.0], [2.0, 4.0], 1.5)
    assert wrappers.unwrapped(replace(expert, standardization=None), "time-feature:50", SKILL, "f").actor is actor
    for mean, divisor, clip in ((0.25, 0.5, 1.49), (0.75, 0.5, 1.49)):  # 0.75 / 0.5 is clipped
        tight = Standardization(np.array([0.0, 0.0, mean]), np.array([1.0, 1.0, divisor]), clip)
        with pytest.raises(PolicyFileError, match="the normalizer of f clips the time feature"):
            wrappers.unwrapped(replace(expert, standardization=tight), "time-feature:50", SKILL, "f")
    short = Standardization(np.zeros(2), np.ones(2))
    with pytest.raises(PolicyFileError, match="the normalizer of f has 2 means; 3 features were read"):
        wrappers.unwrapped(replace(expert, standardization=short), "time-feature:50", SKILL, "f")


def test_wrappers_of_the_configuration():
    named = foreign(wrappers=("a.Other", "sb3_contrib.common.wrappers.TimeFeatureWrapper"))
    assert wrappers.unwrapped(named, "", SKILL, "f").wrapper == Memory("time-feature", 50)
    wide = foreign(actor=(Layer(np.ones((2, 6)), np.zeros(2)),), groups={"observation": 6})
    stacked = wrappers.unwrapped(replace(wide, wrappers=("frame-stack:3",)), "", SKILL, "f")
    assert (stacked.wrapper, stacked.groups) == (Memory("frame-stack", 3), {"observation": 2})
    plain = foreign(wrappers=("a.Other",))
    assert wrappers.unwrapped(plain, "", SKILL, "f") is plain
    for text in ("frame-stack", "frame-stack:x", "lstm:3", "time-feature:3x"):
        with pytest.raises(ConfigError, match=f"--wrapper is {text}; it must be one of time-feature:N"):
            wrappers.unwrapped(plain, text, SKILL, "f")
    with pytest.raises(ContractError, match="f reads 3 features; gym:X-v0 gives 2, and with frame-stack:2 4"):
        wrappers.unwrapped(plain, "frame-stack:2", SKILL, "f")


def test_actions_change_their_units():
    fitted = importer._unit_actor(foreign(), SKILL, FILE)
    rows = np.random.default_rng(2).normal(size=(5, 4))
    own = rows @ GOOD[1].weight.T + GOOD[1].bias
    unit = rows @ fitted[-1].weight.T + fitted[-1].bias
    np.testing.assert_allclose(np.array([-2.0, 0.0]) + (unit + 1) / 2 * np.array([6.0, 1.0]), own, rtol=1e-5, atol=1e-5)
    assert fitted[0] is GOOD[0]
    clipped = foreign(actions=ActionMap("clip", (-2.0, 0.0), (4.0, 1.0)))
    assert importer._unit_actor(clipped, SKILL, FILE)[-1].weight.tolist() == fitted[-1].weight.tolist()
    rescaled = foreign(actions=ActionMap("rescale", (-2.0, 0.0), (4.0, 1.0)), squash=True)
    assert importer._unit_actor(rescaled, SKILL, FILE) is GOOD
    for low, high in (((-2.0, 0.5), (4.0, 1.0)), ((-2.0, 0.0), (4.0, 2.0))):
        with pytest.raises(ContractError, match=r"acts within .*; gym:X-v0 has the bounds"):
            importer._unit_actor(foreign(actions=ActionMap("rescale", low, high)), SKILL, FILE)
    with pytest.raises(PolicyFileError, match="a tanh without rescaling; give --low and --high"):
        importer._unit_actor(foreign(squash=True), SKILL, FILE)
    with pytest.raises(ContractError, match=r"model.zip has 1 actions; gym:X-v0 has 2"):
        importer._unit_actor(foreign(actor=(Layer(np.ones((1, 3)), np.zeros(1)),)), SKILL, FILE)


def test_choices_must_be_those_of_the_environment():
    discrete = SimpleNamespace(id="gym:D", actions=SimpleNamespace(low=(-1.0, -1.0), high=(1.0, 1.0), choices=(2,)),
                               spaces=SKILL.spaces)  # fmt: skip
    argmax = foreign(actions=ActionMap("argmax"))
    assert importer._unit_actor(argmax, discrete, FILE) is GOOD
    assert importer._unit_actor(replace(argmax, choices=(2,)), discrete, FILE) is GOOD
    with pytest.raises(ContractError, match=r"has \(1, 1\) choices; gym:D has \(2,\)"):
        importer._unit_actor(replace(argmax, choices=(1, 1)), discrete, FILE)
    with pytest.raises(ContractError, match="has 1 choices; gym:D has 2"):
        importer._unit_actor(replace(argmax, actor=(Layer(np.ones((1, 3)), np.zeros(1)),)), discrete, FILE)
    for given, skill, message in ((argmax, SKILL, "discrete actions; gym:X-v0 has continuous ones"),
                                  (foreign(), discrete, "continuous actions; gym:D has discrete ones")):  # fmt: skip
        with pytest.raises(ContractError, match=message):
            importer._fitted(replace(given, groups={"observation": 2}), skill, FILE)


def test_observations_must_be_those_of_the_environment():
    two = SimpleNamespace(id="gym:T", spaces=SimpleNamespace(groups=(("a", 1), ("b", 2))))
    for groups in ({"a": 1, "b": 2}, {"observation": 3}, {"b": 2, "a": 1}):
        importer._check_observations(foreign(groups=groups), two, FILE)
    for groups in ({"observation": 4}, {"b": 1, "a": 2}, {"x": 1, "y": 2}):
        with pytest.raises(ContractError, match=r"features .*; gym:T gives 3 \(a 1, b 2\): choose another version"):
            importer._check_observations(foreign(groups=groups), two, FILE)
    with pytest.raises(ContractError, match="its configuration names the wrappers p, q"):
        importer._check_observations(foreign(groups={"observation": 9}, wrappers=("p", "q")), two, FILE)
