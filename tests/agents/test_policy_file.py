import hashlib
import json
from dataclasses import replace

import pytest
import torch
from policy_samples import DEEP, ROBOT, SKILL, forge, make_policy, refused, store
from safetensors.torch import load_file

from policykd.agents.files.manifest import Parent, describe_actions
from policykd.agents.files.policy_file import check_fits, load_policy, read_manifest, save_policy
from policykd.agents.policy import Policy
from policykd.envs.skill_records import recorded_skill, records_of
from policykd.envs.skills import get_skill
from policykd.envs.tasks import Walk
from policykd.envs.terrains import Gaps, Terrain
from policykd.errors import ConfigError, ContractError, PolicyFileError


@pytest.fixture
def folder(tmp_path):
    store(tmp_path / "expert")
    return tmp_path / "expert"


@pytest.fixture
def tensors(folder):
    return load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("name", ["student", "student.zip", "new/parents/student"])
def test_round_trip_gives_bit_identical_outputs(tmp_path, name):
    policy = make_policy(3)
    policy.normalizer.min_std, policy.normalizer.clip = 0.05, 4.0
    parent = store(tmp_path / "parent").as_parent("flat")
    written = store(
        tmp_path / name, policy, operation="merge", parents=[parent], metrics={"success": 0.5}, config={"beta": [1, 0]}
    )
    loaded = load_policy(tmp_path / name)
    observations = torch.randn(20, policy.observation_size) * 5
    assert loaded.manifest == written == read_manifest(tmp_path / name)
    assert loaded.manifest.parents == (parent,)
    assert loaded.manifest.metrics == {"success": 0.5}
    assert loaded.policy.architecture == policy.architecture
    for mine, theirs in ((policy, loaded.policy), (policy.value, loaded.policy.value)):
        assert torch.equal(mine(observations), theirs(observations))
    assert torch.equal(policy.log_std, loaded.policy.log_std)
    assert loaded.policy.log_std.requires_grad, "a loaded policy can be trained on"
    assert all(value.device.type == "cpu" for value in loaded.policy.state_dict().values())


def test_order_of_groups_survives(tmp_path):
    sizes = get_skill("biped/flat", ("terrain", "phase", "proprio")).group_sizes
    store(tmp_path / "p", make_policy(groups=sizes))
    assert list(load_policy(tmp_path / "p").policy.groups.items()) == list(sizes.items())


def test_loading_leaves_the_random_streams_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_policy(folder)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_weights(folder, keep):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(folder, "truncated")


def test_altered_weights(folder):
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    refused(folder, "sha256")


def test_altered_manifest(folder):
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"scale": 1.2', '"scale": 0.8'))
    refused(folder, "altered", "content hash")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"{}", b"\xff\xfe", b'{"format_version": NaN}', b"[" * 100_000, DEEP]
)
def test_manifest_that_is_none(folder, content):
    (folder / "manifest.json").write_bytes(content)
    refused(folder, "manifest")


def test_newer_format(folder):
    forge(folder, format_version=7)
    refused(folder, "format 7", "update policykd")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"robot": 3}, "robot"),
        ({"groups": []}, "groups"),
        ({"groups": [["proprio", 49], ["proprio", 50]]}, "groups"),
        ({"groups": [["proprio", -1]]}, "size"),
        ({"groups": {"proprio": 49}}, "groups"),
        ({"architecture": {"hidden": [8]}}, "architecture"),
        ({"clip": "wide"}, "clip"),
        ({"min_std": 10**400}, "min_std"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"metrics": 3}, "not valid"),
        ({"actions": [{"joint": "knee"}]}, "limits"),
        ({"parents": [["flat", "00"]]}, "not valid"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_forged_fields(folder, changes, word):
    forge(folder, **changes)
    refused(folder, word)


@pytest.mark.parametrize(("width", "word"), [(10**6, "parameters"), (0, "hidden"), (2.5, "hidden"), (10**9, "hidden")])
def test_absurd_architecture_is_refused_before_it_is_built(folder, width, word):
    architecture = json.loads((folder / "manifest.json").read_text())["architecture"]
    forge(folder, architecture={**architecture, "hidden": [width, 10**6]})
    refused(folder, word)


def test_unknown_activation(folder):
    architecture = json.loads((folder / "manifest.json").read_text())["architecture"]
    forge(folder, architecture={**architecture, "activation": "__class__"})
    refused(folder, "activation", "elu")


def test_missing_extra_and_misshapen_tensors(folder, tensors):
    log_std = tensors.pop("log_std")
    forge(folder, {**tensors, "backdoor": log_std})
    refused(folder, "log_std", "backdoor")
    forge(folder, {**tensors, "log_std": log_std[None]})
    refused(folder, "log_std", "(1, 11)", "(11,)")
    forge(folder, {**tensors, "log_std": log_std.view(torch.int32)})
    refused(folder, "log_std", "int32", "float32")
    forge(folder, {**tensors, "log_std": torch.zeros(11_000_000)})
    refused(folder, "bytes")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["actor.0.weight", "normaliser.mean"])
def test_weights_that_are_not_finite(folder, tensors, name, value):
    tensors[name].view(-1)[0] = value
    forge(folder, tensors)
    refused(folder, name, "NaN or infinity")


def test_negative_variance(folder, tensors):
    tensors["normaliser.var"][0] = -1
    forge(folder, tensors)
    refused(folder, "normaliser.var")


def test_policy_that_is_not_finite_does_not_replace_a_good_one(folder):
    broken = make_policy(1)
    broken.log_std.data[0] = float("nan")
    with pytest.raises(PolicyFileError, match="not saved"):
        store(folder, broken)
    load_policy(folder)


def test_metrics_that_json_cannot_hold(tmp_path):
    for metrics in ({"loss": float("nan")}, {"model": object()}):
        with pytest.raises(ConfigError, match="JSON"):
            store(tmp_path / "p", metrics=metrics)
    assert not (tmp_path / "p").exists()


def test_policy_fits_its_skill_and_richer_ones(folder):
    manifest = read_manifest(folder)
    check_fits(manifest, SKILL)
    check_fits(manifest, get_skill("biped/gaps", ("terrain", "phase", "proprio")))


def test_policy_that_does_not_fit(folder):
    manifest = read_manifest(folder)
    with pytest.raises(ContractError, match=r"'terrain' \(50\).*proprio \(49\)"):
        check_fits(manifest, get_skill("biped/flat", ("proprio",)))
    larger = replace(manifest, groups={"proprio": 49, "terrain": 200})
    with pytest.raises(ContractError, match=r"'terrain' has 50 .*200"):
        check_fits(larger, SKILL)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"robot": "dog"}, "'dog'.*'biped'"),
        ({"control_dt": 0.02}, "0.02 s.*0.0333"),
        ({"actions": describe_actions(ROBOT)[:10]}, "10 actions.*11 joints"),
        ({"actions": tuple(replace(a, scale=1.5) for a in describe_actions(ROBOT))}, "right_thigh.*scale 1.5.*1.2"),
        ({"actions": describe_actions(ROBOT)[::-1]}, "joint head.*right_thigh"),
    ],
)
def test_action_mapping_that_differs_is_named(folder, changes, words):
    with pytest.raises(ContractError, match=words):
        check_fits(replace(read_manifest(folder), **changes), SKILL)


def test_policy_of_another_number_of_actions_is_not_saved(tmp_path):
    with pytest.raises(ContractError, match=r"3 actions.*11 joints"):
        store(tmp_path / "p", Policy({"proprio": 49}, 3))


def test_parent_is_identified_by_its_weights(folder):
    manifest = read_manifest(folder)
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert manifest.as_parent("steps") == Parent("steps", digest)


def test_a_single_missing_or_extra_tensor(folder, tensors):
    forge(folder, {**tensors, "backdoor": torch.zeros(1)})
    refused(folder, "backdoor")
    tensors.pop("log_std")
    forge(folder, tensors)
    refused(folder)


def test_a_skill_whose_id_does_not_say_everything_comes_back_whole(tmp_path):
    """Parameters of terrain and task, groups and episode length survive the file."""
    plain = get_skill("biped/gaps")
    special = replace(
        plain, terrain=Terrain("gaps", generator=Gaps(width=(0.4, 0.41))), task=Walk(speed=0.8), episode_steps=99
    )
    for skill, version in ((plain, 1), (special, 3)):
        path = tmp_path / str(version)
        policy = Policy(skill.group_sizes, 11, generator_seed=0)
        save_policy(path, policy, robot=skill.robot, skills=[skill.id], skill_records=records_of([skill]),
                    operation="train", seed=0)  # fmt: skip
        manifest = load_policy(path).manifest
        assert manifest.format_version == version
        assert manifest.skill(skill.id) == skill
        assert manifest.skill(skill.id, ("proprio",)).groups == ("proprio",)
    altered = {**records_of([special]), special.id: {**records_of([special])[special.id], "episode_steps": 0}}
    with pytest.raises(ConfigError, match="episode_steps is 0"):
        recorded_skill(special.id, altered)
