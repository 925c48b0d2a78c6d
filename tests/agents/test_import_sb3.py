"""Policies of stable-baselines3 are read without running them, and act as in the library itself."""

import base64
import io
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from policykd.agents.importing.foreign_policy import policy_of
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.stable_baselines3 import is_sb3_zip, read_sb3
from policykd.agents.importing.vecnormalize import read_vecnormalize
from policykd.errors import PolicyFileError

stable_baselines3 = pytest.importorskip("stable_baselines3")
LOW, HIGH = np.array([-2.0, 0.0], dtype=np.float32), np.array([1.0, 5.0], dtype=np.float32)


class Nothing(gym.Env):
    """An environment with chosen spaces, in which nothing happens."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def environment(actions=None, observations=None):
    box = spaces.Box(-np.inf, np.inf, (7,), np.float64)
    return Nothing(observations or box, actions or spaces.Box(LOW, HIGH))


def learner(name, env, **kwargs):
    library = pytest.importorskip("sb3_contrib") if name in ("TQC", "ARS", "TRPO") else stable_baselines3
    policy = kwargs.pop("policy", "MlpPolicy")
    return getattr(library, name)(policy, env, device="cpu", seed=0, **kwargs)


def sharpened(model):
    """Make a new model act with large actions, so that clips and squashes are at work."""
    with torch.no_grad():
        for key, value in model.policy.named_parameters():
            if key.startswith(("action_net", "actor.mu.weight", "actor.mu.bias", "actor.mu.4")):
                value.mul_(3.0 if "actor.mu.4" in key else 30.0).add_(0.0 if "mu.4" in key else 0.05)
            elif key.startswith("log_std"):
                value.fill_(-0.7)
    return model


ARMS = {
    "PPO": ("PPO", {}),
    "PPO relu": ("PPO", {"policy_kwargs": {"activation_fn": torch.nn.ReLU, "net_arch": [32, 16]}}),
    "PPO gSDE squashed": ("PPO", {"use_sde": True, "policy_kwargs": {"squash_output": True}}),
    "PPO elu": ("PPO", {"policy_kwargs": {"activation_fn": torch.nn.ELU, "net_arch": {"pi": [8], "vf": [16, 4]}}}),
    "A2C": ("A2C", {}),
    "TRPO": ("TRPO", {}),
    "SAC": ("SAC", {}),
    "SAC gSDE": ("SAC", {"use_sde": True}),
    "TQC": ("TQC", {}),
    "TD3": ("TD3", {}),
    "DDPG": ("DDPG", {}),
    "ARS": ("ARS", {}),
    "ARS linear": ("ARS", {"policy": "LinearPolicy"}),
}


@pytest.mark.parametrize("arm", list(ARMS))
def test_actions_and_values_are_those_of_the_library(arm, tmp_path):
    name, kwargs = ARMS[arm]
    model = sharpened(learner(name, environment(), **kwargs))
    model.save(tmp_path / "model.zip")
    foreign = read_sb3(tmp_path / "model.zip")
    policy = policy_of(foreign)
    observations = 3.0 * np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    with torch.no_grad():
        found = foreign.actions.apply(policy(torch.from_numpy(observations))).numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert expected.std(axis=0).min() > 0.05
    assert name in foreign.source or name in ("PPO", "A2C", "TRPO", "TD3", "DDPG")
    if foreign.critic:
        with torch.no_grad():
            values = model.policy.predict_values(torch.from_numpy(observations)).squeeze(1)
            assert (policy.value(torch.from_numpy(observations)) - values).abs().max() < 1e-5
    if foreign.log_std is not None:
        assert torch.allclose(policy.log_std, model.policy.log_std)


def test_dictionaries_become_groups_in_the_order_of_the_library(tmp_path):
    parts = {"scan": spaces.Box(-1, 1, (5,)), "joints": spaces.Box(-np.inf, np.inf, (3,)), "b": spaces.Box(0, 1, (1,))}
    model = sharpened(learner("PPO", environment(observations=spaces.Dict(parts)), policy="MultiInputPolicy"))
    model.save(tmp_path / "model.zip")
    foreign = read_sb3(tmp_path / "model.zip")
    assert foreign.groups == {"b": 1, "joints": 3, "scan": 5}
    rng = np.random.default_rng(0)
    batch = {name: rng.normal(size=(50, box.shape[0])).astype(np.float32) for name, box in parts.items()}
    expected, _ = model.predict(batch, deterministic=True)
    policy = policy_of(foreign)
    with torch.no_grad():
        outputs = policy(policy.flatten({name: torch.from_numpy(value) for name, value in batch.items()}))
    assert np.abs(foreign.actions.apply(outputs).numpy() - expected).max() < 1e-5


def test_discrete_actions_are_the_largest_output(tmp_path):
    model = sharpened(learner("PPO", environment(spaces.Discrete(4))))
    model.save(tmp_path / "model.zip")
    foreign = read_sb3(tmp_path / "model.zip")
    observations = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    with torch.no_grad():
        found = foreign.actions.apply(policy_of(foreign)(torch.from_numpy(observations)))
    assert found.tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 2


def normalized(folder, **options):
    """Save a model with a VecNormalize that has seen features of very different sizes; return both."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    wrapped = VecNormalize(DummyVecEnv([environment]), **options)
    rng = np.random.default_rng(1)
    scales = np.array([1e-6, 0.01, 0.3, 1.0, 5.0, 100.0, 0.0])  # the last feature never moved
    wrapped.obs_rms.update(rng.normal(size=(1000, 7)) * scales + 0.5)
    model = sharpened(learner("PPO", environment()))
    model.save(folder / "model.zip")
    wrapped.save(str(folder / "vecnormalize.pkl"))
    return model, wrapped, scales


@pytest.mark.parametrize("clip", [10.0, 2.0])
def test_the_normalizer_keeps_the_formula_of_its_library(clip, tmp_path):
    model, wrapped, scales = normalized(tmp_path, clip_obs=clip)
    foreign = read_sb3(tmp_path / "model.zip")
    raw = (np.random.default_rng(2).normal(size=(300, 7)) * scales * 3 + 0.5).astype(np.float32)
    expected, _ = model.predict(wrapped.normalize_obs(raw.astype(np.float64)).astype(np.float32), deterministic=True)
    with torch.no_grad():
        found = foreign.actions.apply(policy_of(foreign)(torch.from_numpy(raw))).numpy()
    # means are kept in single precision, and the feature that never moved is divided by 1e-4
    assert np.abs(found - expected).max() < 2e-3
    moving = [1, 2, 3, 4, 5]
    raw[:, [0, 6]] = foreign.standardization.mean[[0, 6]].astype(np.float32)
    exact = wrapped.normalize_obs(raw.astype(np.float64)).astype(np.float32)
    exact[:, [0, 6]] = ((raw - foreign.standardization.mean.astype(np.float32)) / foreign.standardization.divisor)[
        :, [0, 6]
    ]
    expected, _ = model.predict(exact, deterministic=True)
    with torch.no_grad():
        found = foreign.actions.apply(policy_of(foreign)(torch.from_numpy(raw))).numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert exact[:, moving].std(axis=0).min() > 0.5
    assert any("2 of 7 features" in note and "dead inputs" in note for note in foreign.notes)


@pytest.mark.parametrize(
    ("owner", "name", "value", "message"),
    [
        ("", "epsilon", "_reconstruct", "epsilon is '_reconstruct'; it must be a number"),
        ("", "clip_obs", None, "clip_obs is 'None'; it must be a number"),
        ("", "epsilon", True, "epsilon is 'True'; it must be a number"),
        ("obs_rms", "mean", [[0.0], [0.0, 1.0]], "mean of the observations is not an array of numbers"),
        ("obs_rms", "var", "a", "var of the observations is not an array of numbers"),
    ],
)
def test_a_normalizer_without_numbers_is_refused(owner, name, value, message, tmp_path):
    _, wrapped, _ = normalized(tmp_path)
    setattr(getattr(wrapped, owner) if owner else wrapped, name, value)
    wrapped.save(str(tmp_path / "vecnormalize.pkl"))
    with pytest.raises(PolicyFileError, match=message):
        read_sb3(tmp_path / "model.zip")


def test_normalization_can_be_switched_off_and_is_missed_by_name(tmp_path):
    normalized(tmp_path)
    assert read_sb3(tmp_path / "model.zip", ImportOptions(normalized=False)).standardization is None
    (tmp_path / "vecnormalize.pkl").rename(tmp_path / "elsewhere.pkl")
    (tmp_path / "config.yml").write_text(
        "!!python/object/apply:collections.OrderedDict\n- - - normalize\n    - true\n  - - env_wrapper\n"
        "    - sb3_contrib.common.wrappers.TimeFeatureWrapper\n"
    )
    with pytest.raises(PolicyFileError, match=r"trained on normalized observations .* give --normalizer FILE"):
        read_sb3(tmp_path / "model.zip")
    foreign = read_sb3(tmp_path / "model.zip", ImportOptions(normalizer=tmp_path / "elsewhere.pkl"))
    assert foreign.standardization is not None
    assert foreign.wrappers == ("sb3_contrib.common.wrappers.TimeFeatureWrapper",)


def test_what_cannot_be_imported_is_named(tmp_path):
    images = environment(observations=spaces.Box(0, 255, (3, 36, 36), np.uint8))
    learner("PPO", images, policy="CnnPolicy").save(tmp_path / "cnn.zip")
    with pytest.raises(PolicyFileError, match="reads images through convolutions"):
        read_sb3(tmp_path / "cnn.zip")
    learner("PPO", environment(), policy_kwargs={"activation_fn": torch.nn.SELU}).save(tmp_path / "selu.zip")
    with pytest.raises(PolicyFileError, match="its activation is SELU; Tanh, ReLU, ELU, SiLU are imported"):
        read_sb3(tmp_path / "selu.zip")
    learner("PPO", environment(spaces.MultiBinary(3))).save(tmp_path / "multi.zip")
    with pytest.raises(PolicyFileError, match="action space is MultiBinary"):
        read_sb3(tmp_path / "multi.zip")


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_nothing_in_a_file_is_run(tmp_path):
    target = tmp_path / "was-here"
    attack = pickle.dumps(Attack(str(target)))
    (tmp_path / "vecnormalize.pkl").write_bytes(attack)
    with pytest.raises(PolicyFileError, match="does not hold a VecNormalize"):
        read_vecnormalize(tmp_path / "vecnormalize.pkl", ["observation"])
    learner("PPO", environment()).save(tmp_path / "model.zip")
    parts = members(tmp_path / "model.zip")
    settings = json.loads(parts["data"])
    for key in ("observation_space", "policy_class", "policy_kwargs"):
        settings[key] = {
            ":type:": "<class 'gymnasium.spaces.box.Box'>",
            ":serialized:": base64.b64encode(attack).decode(),
        }
    write(tmp_path / "model.zip", {**parts, "data": json.dumps(settings).encode()})
    (tmp_path / "vecnormalize.pkl").unlink()
    with pytest.raises(PolicyFileError, match="its observation space is open"):
        read_sb3(tmp_path / "model.zip")
    assert not target.exists()


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, parts):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_damaged_zips_end_in_our_own_error(tmp_path):
    learner("PPO", environment(), policy_kwargs={"net_arch": [4]}).save(tmp_path / "model.zip")
    path, parts = tmp_path / "damaged.zip", members(tmp_path / "model.zip")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = dict(parts)
        name = ("data", "policy.pth")[rng.integers(2)]
        content = bytearray(broken[name])
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(len(content))] = rng.integers(256)
        broken[name] = bytes(content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else content)
        write(path, broken)
        try:
            policy_of(read_sb3(path))
        except PolicyFileError:
            refused += 1
    assert refused > 100
    whole = (tmp_path / "model.zip").read_bytes()
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert not is_sb3_zip(whole[:cut])
        with pytest.raises(PolicyFileError):
            read_sb3(path)


def test_weights_that_do_not_fit_are_named(tmp_path):
    learner("PPO", environment(), policy_kwargs={"net_arch": [4]}).save(tmp_path / "model.zip")
    parts = members(tmp_path / "model.zip")
    weights = torch.load(io.BytesIO(parts["policy.pth"]), weights_only=True)
    weights["action_net.weight"] = torch.zeros(2, 9)
    stored = io.BytesIO()
    torch.save(weights, stored)
    write(tmp_path / "model.zip", {**parts, "policy.pth": stored.getvalue()})
    with pytest.raises(PolicyFileError, match=r"actor layer 1 has weights \(2, 9\) .* 4 inputs come in"):
        policy_of(read_sb3(tmp_path / "model.zip"))
    weights["action_net.weight"] = torch.full((2, 4), torch.nan)
    stored = io.BytesIO()
    torch.save(weights, stored)
    write(tmp_path / "model.zip", {**parts, "policy.pth": stored.getvalue()})
    with pytest.raises(PolicyFileError, match="actor layer 1 holds NaN"):
        policy_of(read_sb3(tmp_path / "model.zip"))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (3.5, "its action space is an unknown space"),
        ({":type:": "<class 'gymnasium.spaces.tuple.Tuple'>"}, "its action space is Tuple"),
        (spaces.Box(-1.0, 1.0, (3,)), "its action space cannot be read: could not convert string to float"),
    ],
)
def test_action_spaces_that_are_none_are_named(stored, message, tmp_path):
    learner("PPO", environment()).save(tmp_path / "model.zip")
    parts = members(tmp_path / "model.zip")
    settings = json.loads(parts["data"])
    if isinstance(stored, spaces.Box):
        stored.low = ["low"] * 3
        stored = {":type:": "Box", ":serialized:": base64.b64encode(pickle.dumps(stored)).decode()}
    settings["action_space"] = stored
    write(tmp_path / "model.zip", {**parts, "data": json.dumps(settings).encode()})
    with pytest.raises(PolicyFileError, match=message):
        read_sb3(tmp_path / "model.zip")
