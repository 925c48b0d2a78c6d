"""Edges of policy files, zips of stable-baselines3 and audits: limits, formats, names and figures written out."""

import os
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from policykd.agents import audit as audits
from policykd.agents.action_map import ActionMap
from policykd.agents.architecture import Architecture, Encoder, Memory
from policykd.agents.audit import Audit, GroupAudit, _change, _disturbance, audit_policy
from policykd.agents.episodes import EpisodeOutcomes, run_actions, run_episodes, run_random_episodes
from policykd.agents.files import container
from policykd.agents.files.difference import Difference, differences
from policykd.agents.files.manifest import MAX_PARAMETERS, Manifest, check_fits, describe, describe_actions
from policykd.agents.importing import stable_baselines3 as sb3
from policykd.agents.importing.foreign_policy import Standardization
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.envs.batched_env import EnvConfig
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, OutputError, PolicyFileError, UnknownNameError
from policykd.seeding import integer_seed

FLAT = get_skill("biped/flat")
MANIFEST, WEIGHTS = container.MANIFEST, container.WEIGHTS
PROVENANCE = {"skills": ("biped/flat",), "operation": "train", "parents": (), "seed": 0, "metrics": {}, "config": {},
              "weights_sha256": "0" * 64}  # fmt: skip


def small_policy(groups=None, **shape):
    return make_policy(groups or FLAT.group_sizes, 11, Architecture((4,), (4,), **shape), 0)


def described(policy=None, robot=FLAT.robot, **changes):
    return describe(policy or small_policy(), robot, **{**PROVENANCE, **changes})


def test_the_format_is_the_oldest_that_holds_a_policy():
    apart = small_policy()
    apart.normalizer.count_apart()
    encoder = Encoder("terrain", (1,), (2,), (1,), 3)
    for policy, changes, version in (
        (small_policy(), {}, 1),
        (apart, {}, 2),
        (small_policy(encoders=(encoder,)), {}, 2),
        (small_policy(), {"skill_records": {"biped/flat": {"a": 1}}}, 3),
        (small_policy(mean_clip=2.0), {}, 5),
        (small_policy(memory=Memory("gru", 2)), {}, 5),
    ):
        manifest = described(policy, **changes)
        assert manifest.format_version == version
        assert Manifest.from_json(manifest.to_json()) == manifest
    modeled = SimpleNamespace(
        **{name: getattr(FLAT.robot, name) for name in ("name", "control_dt", "servos", "family")}
    )
    for family, version in (("model", 4), ("gymnasium", 5)):
        modeled.family, modeled.model_sha256 = family, "a" * 64
        assert described(robot=modeled).format_version == version
    plain = described().to_json()
    assert "counted_apart" not in plain
    assert "encoders" not in plain["architecture"]


def test_a_manifest_counts_the_numbers_of_its_weights_file():
    policy = small_policy()
    numbers = sum(v.numel() for v in policy.state_dict().values())
    assert described(policy).parameters == numbers
    policy.normalizer.count_apart()
    assert described(policy).parameters == numbers + policy.observation_size - 1
    built = described(policy).build()
    assert {str(p.device) for p in built.parameters()} == {"meta"}
    assert built.normalizer.count.shape == (policy.observation_size,)
    assert (built.normalizer.min_std, built.normalizer.clip) == (0.1, 10.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [["proprio", 0]]}, r"size of group proprio is 0; it must be in \[1,"),
        ({"groups": [["proprio", 3], ["proprio", 3]]}, "each once"),
        ({"groups": []}, "groups are empty"),
        ({"architecture": 3}, "must be a mapping"),
        ({"counted_apart": True}, "format 1 has neither"),
        ({"seed": -1}, "seed"),
        ({"content_sha256": "0" * 64}, "altered"),
    ],
)
def test_manifests_that_are_refused(changes, message):
    with pytest.raises(PolicyFileError, match=message):
        Manifest.from_json({**described().to_json(), **changes})
    with pytest.raises(ConfigError, match="no symmetry"):
        replace(described(small_policy(memory=Memory("gru", 2))), symmetry=object())


def test_the_number_of_parameters_is_limited():
    wide = replace(described(), architecture=Architecture((MAX_PARAMETERS // 1000,), (1,)))
    assert wide.parameters > 99 * MAX_PARAMETERS // 1000
    huge = replace(described(), architecture=Architecture((1_000_000, 1_000_000), (1,)))
    with pytest.raises(PolicyFileError, match=f"at most {MAX_PARAMETERS:,} are allowed"):
        Manifest.from_json(huge.to_json())


def test_a_policy_must_have_the_robot_rate_and_joints_of_its_skill():
    manifest = described()
    check_fits(manifest, FLAT)
    check_fits(replace(manifest, control_dt=manifest.control_dt * (1 + 1e-10)), FLAT)
    servo = manifest.actions[3]
    for changes, message in (
        ({"robot": "dog"}, "made for robot 'dog'; skill biped/flat has 'biped'"),
        ({"control_dt": 0.5}, r"acts every 0\.5 s"),
        ({"actions": manifest.actions[:-1]}, "has 10 actions; biped has 11 joints"),
        ({"actions": (*manifest.actions[:3], replace(servo, scale=9.0), *manifest.actions[4:])},
         rf"action 3 \({servo.joint}\): the policy was made with scale 9\.0; biped now has {servo.scale}"),
        ({"model_sha256": "b" * 64}, "the hash of its compiled model is bbbbbbbbbbbb, now None"),
        ({"groups": {"proprio": 3}}, "'proprio' has 49 features in skill biped/flat; the policy reads 3"),
    ):  # fmt: skip
        with pytest.raises(ContractError, match=message):
            check_fits(replace(manifest, **changes), FLAT)
    assert [a.joint for a in describe_actions(FLAT.robot)] == [s.joint for s in FLAT.robot.servos]
    with pytest.raises(ContractError, match="the policy has 3 actions; biped has 11 joints"):
        described(Policy({"proprio": 49}, 3))


def test_differences_are_named_with_both_values():
    one = described()
    servo = one.actions[0]
    two = replace(
        one, control_dt=0.5, clip=5.0, min_std=0.25, model_sha256="b", groups={"terrain": 50, "scan": 4, "proprio": 40},
        architecture=Architecture((5,), (4,), activation="relu", squash=True),
        actions=(one.actions[1], replace(servo, stiffness=77.0), *one.actions[2:]),
    )  # fmt: skip
    assert differences(one, one) == []
    found = {d.what: (d.first, d.second) for d in differences(one, two)}
    joints = [a.joint for a in one.actions]
    assert found == {
        "hash of the robot's model": ("None", "b"),
        "time between actions, s": (f"{one.control_dt:g}", "0.5"),
        "clip of normalized features": ("10", "5"),
        "smallest standard deviation of the normalizer": ("0.1", "0.25"),
        "hidden layers": ("(4,)", "(5,)"),
        "activation": ("elu", "relu"),
        "tanh behind the last layer": ("False", "True"),
        "group proprio": ("49 features", "40 features"),
        "group scan": ("", "4 features"),
        "order of the groups": ("proprio, terrain", "terrain, proprio"),
        "order of the actions": (", ".join(joints), ", ".join([joints[1], joints[0], *joints[2:]])),
        f"stiffness of {servo.joint}": (f"{servo.stiffness:g}", "77"),
    }
    fewer = differences(one, replace(one, actions=one.actions[1:]))
    assert [d.what for d in fewer] == ["order of the actions"]
    assert fewer[0] == Difference("order of the actions", ", ".join(joints), ", ".join(joints[1:]))


# Files


def test_parts_up_to_their_limits_are_read(tmp_path, monkeypatch):
    folder = tmp_path / "expert"
    container.write_parts(folder, {MANIFEST: b"12345", WEIGHTS: b"123456789"})
    monkeypatch.setattr(container, "MAX_MANIFEST_BYTES", 5)
    monkeypatch.setattr(container, "MAX_WEIGHTS_BYTES", 9)
    assert container.read_parts(folder) == (b"12345", b"123456789")
    monkeypatch.setattr(container, "MAX_WEIGHTS_BYTES", 8)
    with pytest.raises(PolicyFileError, match=f"its {WEIGHTS} has 9 bytes; at most 8 are allowed"):
        container.read_parts(folder)
    monkeypatch.setattr(container, "MAX_MANIFEST_BYTES", 4)
    with pytest.raises(PolicyFileError, match=f"its {MANIFEST} has 5 bytes; at most 4"):
        container.read_parts(folder)


def test_zipped_parts_are_checked_by_the_size_that_they_declare(tmp_path, monkeypatch):
    path = tmp_path / "expert.zip"
    container.write_parts(path, {MANIFEST: b"12345", WEIGHTS: b"1" * 2000})
    assert container.read_parts(path) == (b"12345", b"1" * 2000)
    size = path.stat().st_size
    monkeypatch.setattr(container, "MAX_WEIGHTS_BYTES", size)
    monkeypatch.setattr(container, "MAX_MANIFEST_BYTES", 5)
    assert container.read_parts(path)[0] == b"12345"
    monkeypatch.setattr(container, "MAX_MANIFEST_BYTES", 4)
    with pytest.raises(PolicyFileError, match="unpacks to 5 bytes; 4 are allowed"):
        container.read_parts(path)
    monkeypatch.setattr(container, "MAX_WEIGHTS_BYTES", size - 1)
    with pytest.raises(PolicyFileError, match=f"it has {size:,} bytes"):
        container.read_parts(path)


def member(name, link=False):
    info = zipfile.ZipInfo(name)
    info.external_attr = (0o120777 if link else 0o100644) << 16
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("C:/manifest.json")], "points out of the archive"),
        ([member("\\manifest.json")], "points out of the archive"),
        ([member("a\\b")], "points out of the archive"),
        ([member("/a")], "points out of the archive"),
        ([member("a/../b")], "points out of the archive"),
        ([member(MANIFEST, link=True), member(WEIGHTS)], "is a link"),
        ([member(MANIFEST), member("policy.pth")], "pickle-based"),
        ([member("x/" + MANIFEST), member("y/" + WEIGHTS)], "and nothing else; found x/manifest.json, y/weights"),
        ([], "found nothing"),
        ([member(f"f{i}") for i in range(7)], "found f0, f1, f2, f3, f4$"),
    ],
)
def test_members_of_a_zip_are_checked_by_name(members, message):
    with pytest.raises(PolicyFileError, match=message):
        container._checked_members(members)
    good = [member("expert/"), member(f"expert/{MANIFEST}"), member(f"expert/{WEIGHTS}")]
    assert container._checked_members(good) == {MANIFEST: good[1], WEIGHTS: good[2]}


def test_missing_files_are_hinted_at_by_their_neighbors(tmp_path):
    for name in ("expert.zip", "export", ".expert", "unrelated"):
        (tmp_path / name).touch()
    assert container._hint(tmp_path / "expert") == f"; did you mean {tmp_path / 'expert.zip'}?"
    assert (
        container._hint(tmp_path / "exporrt") == f"; did you mean {tmp_path / 'export'} or {tmp_path / 'expert.zip'}?"
    )
    assert container._hint(tmp_path / "zzz") == ""
    assert container._hint(tmp_path / "nowhere" / "expert") == ""
    with pytest.raises(PolicyFileError, match="no such policy file; did you mean"):
        container.read_parts(tmp_path / "expert")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PolicyFileError, match="neither a folder nor a regular file"):
        container.read_parts(tmp_path / "pipe")


def test_a_run_folder_stands_for_its_policy_unless_it_is_one(tmp_path):
    parts = {MANIFEST: b"outer", WEIGHTS: b"1"}
    container.write_parts(tmp_path / "run" / "policy", {MANIFEST: b"inner", WEIGHTS: b"2"})
    assert container.read_parts(tmp_path / "run") == (b"inner", b"2")
    for name, content in parts.items():
        (tmp_path / "run" / name).write_bytes(content)
    assert container.read_parts(tmp_path / "run") == (b"outer", b"1")
    with pytest.raises(OutputError, match="is not a policy and is kept"):
        container.write_parts(tmp_path / "run", parts)
    (tmp_path / "link").symlink_to(tmp_path / "run" / "policy")
    container.write_parts(tmp_path / "link", parts)
    assert (tmp_path / "link").is_symlink()
    assert container.read_parts(tmp_path / "run" / "policy") == (b"outer", b"1")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [MANIFEST, "policy", WEIGHTS]


# Zips of stable-baselines3


def space(kind, **given):
    return sb3._Space(kind, **given)


def layers(prefix, *sizes):
    found = {}
    for number, (a, b) in enumerate(pairwise(sizes)):
        found |= {f"{prefix}.{2 * number}.weight": np.ones((b, a)), f"{prefix}.{2 * number}.bias": np.zeros(b)}
    return found


def dense(name, a, b):
    return {f"{name}.weight": np.ones((b, a)), f"{name}.bias": np.zeros(b)}


BOX = space("Box", low=(-1.0, -2.0), high=(1.0, 2.0), size=2)
ON = {
    **layers("mlp_extractor.policy_net", 3, 4),
    **layers("mlp_extractor.value_net", 3, 5),
    **dense("action_net", 4, 2),
    **dense("value_net", 5, 1),
}


def test_on_policy_networks():
    found = sb3._network({**ON, "log_std": np.zeros(2)}, {}, BOX)
    assert (found.algorithm, found.activation, found.default_activation) == ("PPO, A2C or TRPO", "tanh", True)
    assert (found.squash, found.rescale, found.mean_clip, found.inputs) == (False, False, None, 3)
    assert [len(layer.bias) for layer in found.actor] == [4, 2]
    assert [len(layer.bias) for layer in found.critic] == [5, 1]
    assert found.log_std.tolist() == [0.0, 0.0]
    assert sb3._network({**ON, "log_std": np.zeros((4, 2))}, {}, BOX).log_std is None
    settings = {"policy_kwargs": {"squash_output": True, "activation_fn": "<class 'torch.nn.ReLU'>"},
                "policy_class": {"__module__": "stable_baselines3.a2c.policies"}}  # fmt: skip
    found = sb3._network(ON, settings, BOX)
    assert (found.algorithm, found.activation, found.default_activation) == ("A2C", "relu", False)
    assert (found.squash, found.rescale) == (True, True)
    shared = {**ON, **layers("mlp_extractor.shared_net", 7, 3)}
    found = sb3._network(shared, {}, BOX)
    assert found.inputs == 7
    assert [len(layer.bias) for layer in found.critic] == [3, 5, 1]
    bare = {**dense("action_net", 3, 2), **dense("value_net", 3, 1)}
    assert [len(sb3._network(bare, {}, BOX).actor), len(sb3._network(bare, {}, BOX).critic)] == [1, 1]


def test_off_policy_networks():
    latent = layers("actor.latent_pi", 3, 4)
    sac = sb3._network({**latent, **dense("actor.mu", 4, 2)}, {}, BOX)
    assert (sac.algorithm, sac.activation, sac.squash, sac.rescale) == ("SAC or TQC", "relu", True, True)
    assert (sac.mean_clip, len(sac.actor), sac.critic) == (None, 2, ())
    gsde = {**latent, **dense("actor.mu.0", 4, 2)}
    assert sb3._network(gsde, {}, BOX).mean_clip == 2.0
    assert sb3._network(gsde, {"policy_kwargs": {"clip_mean": 3}}, BOX).mean_clip == 3.0
    assert sb3._network(gsde, {}, BOX).algorithm == "SAC or TQC with gSDE"
    td3 = sb3._network(layers("actor.mu", 3, 4, 2), {}, BOX)
    assert (td3.algorithm, td3.mean_clip, len(td3.actor)) == ("TD3 or DDPG", None, 2)
    linear = {**dense("actor.mu", 3, 2), "actor.log_std": np.zeros(2)}
    assert len(sb3._network(linear, {}, BOX).actor) == 1
    with pytest.raises(PolicyFileError, match="its actor has no layers"):
        sb3._network({"actor.mu.x": np.zeros(1)}, {}, BOX)


def test_random_search_networks():
    deep, single = layers("action_net", 3, 4, 2), dense("action_net", 3, 2)
    found = sb3._network(deep, {}, BOX)
    assert (found.algorithm, found.activation, found.squash, found.default_activation) == ("ARS", "relu", True, True)
    named = {"policy_class": {"__module__": "sb3_contrib.ars.policies.ARSLinearPolicy"}}
    assert [len(sb3._network(single, named, BOX).actor), sb3._network(single, named, BOX).squash] == [1, False]
    assert not sb3._network(layers("action_net", 3, 2), {}, BOX).squash
    assert not sb3._network(layers("action_net", 3, 2), {}, BOX).default_activation
    assert not sb3._network(deep, {}, space("Discrete", size=2)).squash
    assert not sb3._network(deep, {"policy_kwargs": {"squash_output": False}}, BOX).squash


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"features_extractor.cnn.0.weight": 1}, r"images through convolutions \(features_extractor.cnn.0.weight\)"),
        ({"pi_features_extractor.linear.weight": 1}, "features extractor of its own"),
        ({"x": 1, "a": 2}, r"its weights \['a', 'x'\]"),
    ],
)
def test_networks_that_are_not_imported(weights, message):
    with pytest.raises(PolicyFileError, match=message):
        sb3._network(weights, {}, BOX)
    with pytest.raises(PolicyFileError, match="its activation is GELU; Tanh, ReLU, ELU are imported"):
        sb3._network(ON, {"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.GELU'>"}}, BOX)


def test_groups_and_actions_of_spaces():
    parts = (("a", space("Box", size=2)), ("b", space("Box", size=None)))
    assert sb3._groups(space("Box"), 3) == sb3._groups(space("an unknown space"), 3) == {"observation": 3}
    assert sb3._groups(space("Dict", parts=parts), 3) == {"a": 2, "b": 1}
    for bad in (
        space("Dict", parts=parts[:1]),
        space("Dict", parts=(*parts, ("c", space("Discrete", size=1)))),
        space("X"),
    ):
        with pytest.raises(PolicyFileError, match=f"space is {bad.kind} and its network has 3 inputs"):
            sb3._groups(bad, 3)
    network = sb3._network(ON, {}, BOX)
    assert sb3._action_map(space("Discrete", size=2), network) == ActionMap("argmax")
    assert sb3._action_map(BOX, network) == ActionMap("clip", (-1.0, -2.0), (1.0, 2.0))
    assert sb3._action_map(BOX, replace(network, rescale=True)).mode == "rescale"
    for bad in (space("Box"), space("MultiBinary", low=(0.0,), high=(1.0,))):
        with pytest.raises(PolicyFileError, match=f"action space is {bad.kind}"):
            sb3._action_map(bad, network)


def test_notes_name_what_was_assumed_or_left_out():
    network = sb3._network({**ON, "log_std": np.zeros(2)}, {}, BOX)
    statistics = Standardization(np.zeros(4), np.array([1.0, 1e-4, 0.9e-3, 1.1e-3]))
    assert sb3._notes(network, statistics) == (
        "the file names no activation; tanh is the library's default",
        "2 of 4 features had a variance below 1e-6 in training (1 to 2): dead inputs, which must be fed their means",
    )
    named = replace(network, default_activation=False, critic=())
    assert sb3._notes(named, None) == ("without a normalizer", "without a critic of states")
    assert sb3._notes(named, Standardization(np.zeros(1), np.ones(1))) == ("without a critic of states",)


def test_training_configurations_are_found_next_to_a_zip(tmp_path):
    path = tmp_path / "Walker-v4.zip"
    assert sb3._training_config(path) == {}
    (tmp_path / "Walker-v4").mkdir()
    (tmp_path / "Walker-v4" / "config.yml").write_text("!!python/object:a.B\n- - [normalize, true]\n  - [n_envs, 4]\n")
    assert sb3._training_config(path) == {"normalize": True, "n_envs": 4}
    (tmp_path / "config.yml").write_text("normalize: !!python/name:x ''\nenv_wrapper: [a, b]\n")
    assert sb3._training_config(path) == {"normalize": "", "env_wrapper": ["a", "b"]}
    (tmp_path / "config.yml").write_text("{")
    with pytest.raises(PolicyFileError, match=r"config\.yml cannot be read"):
        sb3._training_config(path)
    assert sb3._beside(Path("a/b.zip"), "x") == (Path("a/x"), Path("a/b/x"))


# Episodes and audits


class Line:
    """Three simulations whose reward is their first action; episodes end at their second, third and last step."""

    num_envs, num_actions, device = 3, 2, torch.device("cpu")
    skill = SimpleNamespace(episode_steps=5, columns={"a": slice(0, 2)})
    ends = ((1, 0), (2, 1), (2, 0), (4, 2))

    def __init__(self):
        self.seeds, self.actions, self.checked = [], [], 0

    def seed(self, seed):
        self.seeds.append(seed)

    def check_overflow(self):
        self.checked += 1

    def reset(self):
        self._step, self._total = 0, torch.zeros(3)
        self.actions.clear()
        return {"a": torch.tensor([[0.1, 0.0], [0.2, 0.5], [0.3, 1.0]])}

    def step(self, actions):
        self.actions.append(actions)
        self._total = self._total + actions[:, 0]
        ids = torch.tensor([i for t, i in self.ends if t == self._step], dtype=torch.long)
        done = torch.zeros(3, dtype=torch.bool)
        done[ids] = True
        episodes = SimpleNamespace(
            ids=ids, total_reward=self._total[ids], distance=self._total[ids] * 2,
            length=torch.full((len(ids),), self._step + 1), success=ids != 1,
        )  # fmt: skip
        self._total = torch.where(done, torch.zeros(3), self._total)
        self._step += 1
        flat = torch.stack([actions[:, 0] + 0.25, actions[:, 1]], 1)
        return SimpleNamespace(
            flat=flat, terminated=done, truncated=torch.zeros(3, dtype=torch.bool), episodes=episodes
        )


def test_the_first_episode_of_every_simulation_counts():
    env, forgotten = Line(), []
    found = run_actions(lambda flat: flat, env, forgotten.append)
    # the first feature grows by 0.25 a step
    totals = [0.1 + 0.35, 0.2 + 0.45 + 0.7, 0.3 + 0.55 + 0.8 + 1.05 + 1.3]
    assert found.total_reward.tolist() == pytest.approx(totals)
    assert found.distance.tolist() == pytest.approx([2 * t for t in totals])
    assert found.length.tolist() == [2, 3, 5]
    assert found.success.tolist() == [True, False, True]
    assert found.reward_per_step.tolist() == pytest.approx([t / 5 for t in totals])
    assert (found.episode_steps, env.checked, len(env.actions)) == (5, 1, 5)
    assert [ended.tolist() for ended in forgotten][1:3] == [[True, False, False], [True, True, False]]
    env.ends = ((0, 0), (0, 1), (0, 2))
    run_actions(lambda flat: flat, env)
    assert len(env.actions) == 1  # no episode is open any more


def test_random_actions_are_uniform_from_minus_one_to_one():
    env = Line()
    run_random_episodes(env, 4)
    g = torch.Generator().manual_seed(integer_seed(4, "random actions"))
    for actions in env.actions:
        torch.testing.assert_close(actions, 2.0 * torch.rand(3, 2, generator=g) - 1.0)


def test_means_or_samples_act():
    policy, env = Policy({"a": 2}, 2, Architecture((4,), (4,)), 0), Line()
    run_episodes(policy, env)
    with torch.no_grad():
        expected = policy(torch.tensor([[0.1, 0.0], [0.2, 0.5], [0.3, 1.0]]))
    torch.testing.assert_close(env.actions[0], expected)
    torch.manual_seed(0)
    run_episodes(policy, env, noise=True)
    torch.manual_seed(0)
    torch.testing.assert_close(env.actions[0], torch.normal(expected, policy.log_std.exp().detach().expand(3, 2)))


def test_faults_replace_the_values_of_their_group_only():
    now, span = torch.arange(12.0).view(4, 3), slice(1, 2)
    history = [now + 100 * (i + 1) for i in range(3)]
    frozen = _disturbance("frozen", span, 2, 5)
    assert frozen(now, history)[:, 1].tolist() == (now[:, 1] + 100).tolist()
    assert torch.equal(frozen(now, []), now)
    for delay, step in ((1, 3), (2, 2), (3, 1), (9, 1)):
        delayed = _disturbance("delayed", span, delay, 5)
        found = delayed(now, history)
        assert found[:, 1].tolist() == (now[:, 1] + 100 * step).tolist()
        assert torch.equal(found[:, [0, 2]], now[:, [0, 2]])
        assert torch.equal(delayed(now, []), now)
    shuffled = _disturbance("shuffled", span, 2, 5)
    g = torch.Generator().manual_seed(integer_seed(5, "audit", "shuffled"))
    for _ in range(2):
        order = torch.randperm(4, generator=g)
        found = shuffled(now, history)
        assert found[:, 1].tolist() == now[order, 1].tolist()
        assert torch.equal(found[:, [0, 2]], now[:, [0, 2]])


def test_the_change_of_the_actions_is_a_root_mean_square():
    policy, states = (lambda x: 2.0 * x), torch.tensor([[[0.1, 0.2]], [[0.3, 5.0]]])
    found = _change(policy, states, lambda now, history: now + 0.1 * len(history))
    # the first step is not changed; 0.6 -> 0.8 in the second, and 1 -> 1 beyond the bounds
    assert found == pytest.approx((0.2**2 / 4) ** 0.5)


def test_a_group_is_unused_if_no_fault_changes_the_actions():
    def entry(group, change):
        return GroupAudit(group, "frozen", 1.0, 1.0, change)

    entries = (entry("a", 0.0), entry("a", 0.9e-3), entry("b", 0.0), entry("b", 1e-3))
    assert Audit("s", 2, 1, 1.0, 1.0, entries, {}).unused == ["a"]


def test_an_audit_runs_every_fault_of_every_group_on_equal_tracks(monkeypatch):
    made, env = [], Line()

    def make(skills, count, **options):
        made.append((skills, count, options))
        return env

    monkeypatch.setattr(audits, "make_env", make)
    seen = []

    def run(act, given):
        flat = given.reset()["a"]
        seen.extend(act(flat) for _ in range(2))
        total, success = torch.tensor([2.0, 4.0]), torch.tensor([True, False])
        return EpisodeOutcomes(total, torch.tensor([2, 2]), torch.zeros(2), success, 4)

    monkeypatch.setattr(audits, "run_actions", run)
    env.skill = SimpleNamespace(columns={"a": slice(0, 1), "b": slice(1, 2)}, episode_steps=5)
    policy = Policy({"a": 1, "b": 1}, 2, Architecture((4,), (4,)), 0)
    skill = SimpleNamespace(id="s")
    found = audit_policy(policy, skill, episodes=3, delay=2, seed=6, threads=1)
    config = EnvConfig(tracks=3, ordered=True)
    assert made == [([skill], 3, {"seed": integer_seed(6, "audit"), "config": config, "threads": 1})]
    assert env.seeds == [integer_seed(6, "audit")] * 7
    assert [(g.group, g.fault) for g in found.groups] == [(g, f) for g in "ab" for f in audits.FAULTS]
    assert {(g.success, g.reward_per_step) for g in found.groups} == {(0.5, 0.75)}
    assert (found.skill, found.episodes, found.delay, found.success, found.reward_per_step) == ("s", 3, 2, 0.5, 0.75)
    assert found.dead == {}
    only = audit_policy(policy, skill, groups=["b"], episodes=3, threads=1)
    assert [g.group for g in only.groups] == ["b"] * 3
    for options, message in (
        ({"episodes": 1}, "episodes is 1"), ({"episodes": 100_001}, "episodes"), ({"delay": 0}, "delay is 0"),
        ({"delay": 1001}, "delay is 1001"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            audit_policy(policy, skill, **{"episodes": 3, **options})
    audit_policy(policy, skill, groups=["a"], episodes=2, delay=1000)
    with pytest.raises(UnknownNameError, match="observation group of the policy"):
        audit_policy(policy, skill, groups=["c"])
