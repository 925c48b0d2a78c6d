"""Edges of policy files, zips of stable-baselines3 and audits: limits, formats, names and figures written out."""

import os
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from policykd.agents.architecture import Architecture, Encoder, Memory
from policykd.agents.files import container
from policykd.agents.files.difference import Difference, differences
from policykd.agents.files.fit import check_fits
from policykd.agents.files.manifest import MAX_PARAMETERS, Manifest, describe, describe_actions
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, OutputError, PolicyFileError

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
        ([member(MANIFEST), member("policy.pth")], "model of another library"),
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


def test_actions_are_described_by_their_servos():
    robot = get_skill("quadruped/flat").robot
    names = ("joint", "stand", "scale", "limits", "stiffness", "damping", "torque")
    for action, servo in zip(describe_actions(robot), robot.servos, strict=True):
        for name in names:
            assert np.array_equal(getattr(action, name), getattr(servo, name)), name
        assert action.limits[0] < action.limits[1]
