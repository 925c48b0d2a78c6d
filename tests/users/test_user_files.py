"""What users wanted of files: policies that move between machines, libraries, versions and robots."""

import copy
import hashlib
import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from user_policies import BLIND, EXPERT, SIGHTED, keep, random_policy

from policykd.agents.export import export_policy
from policykd.agents.files.difference import differences
from policykd.agents.files.policy_file import check_fits, load_policy, read_manifest
from policykd.agents.importing.foreign_policy import policy_of
from policykd.agents.importing.stable_baselines3 import read_sb3
from policykd.agents.injection import inject_file
from policykd.envs.skills import get_skill
from policykd.errors import ContractError, PolicyFileError
from policykd.evaluation import evaluate

OLD = Path(__file__).parents[1] / "data" / "v0_1_0" / "policies"


def rewards(path):
    cells = evaluate({"p": load_policy(path).policy}, [get_skill("biped/flat")], episodes=3, seed=5, threads=1).cells
    return cells["p", "biped/flat"].reward_per_step


def test_04_a_copied_policy_folder_acts_the_same_because_the_normalizer_is_in_it(tmp_path):
    shutil.copytree(EXPERT, tmp_path / "elsewhere")
    assert sorted(file.name for file in (tmp_path / "elsewhere").iterdir()) == ["manifest.json", "weights.safetensors"]
    assert rewards(tmp_path / "elsewhere") == rewards(EXPERT)
    bare = load_policy(EXPERT)
    bare.policy.normalizer.mean.zero_()
    keep(tmp_path / "bare", bare.policy, get_skill("biped/flat"))
    assert rewards(tmp_path / "bare") != rewards(EXPERT), "the control: without its normalizer it acts otherwise"


def test_14_a_new_observation_is_injected_without_changing_an_action(tmp_path):
    path = keep(tmp_path / "blind", random_policy(BLIND, 1), BLIND)
    inject_file(path, tmp_path / "sighted", ["terrain"], observations=64, threads=1)
    before, after = load_policy(path).policy, load_policy(tmp_path / "sighted").policy
    assert after.groups == SIGHTED.group_sizes
    proprio = torch.randn(200, before.observation_size, generator=torch.Generator().manual_seed(0))
    scan = torch.randn(200, after.groups["terrain"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(before(proprio), after(torch.cat([proprio, scan], 1)), rtol=0, atol=1e-6)
        assert scan.abs().max() > 2.0


def test_14_a_policy_that_does_not_fit_names_the_group(tmp_path):
    path = keep(tmp_path / "sighted", random_policy(SIGHTED, 1), SIGHTED)
    with pytest.raises(ContractError, match="terrain"):
        check_fits(read_manifest(path), BLIND)


def test_15_a_model_of_stable_baselines3_is_read_without_it(tmp_path, monkeypatch):
    library = pytest.importorskip("stable_baselines3")
    model = library.PPO("MlpPolicy", "Pendulum-v1", device="cpu", seed=0, policy_kwargs={"net_arch": [8]})
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(50.0)
    expected, _ = model.predict(observations, deterministic=True)
    model.save(tmp_path / "model.zip")
    for name in [name for name in sys.modules if name.partition(".")[0] == "stable_baselines3"]:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    foreign = read_sb3(tmp_path / "model.zip")
    with torch.no_grad():
        found = foreign.actions.apply(policy_of(foreign)(torch.from_numpy(observations))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("name", ["expert", "student", "injected"])
def test_16_files_of_earlier_versions_are_plain_and_load(name):
    assert sorted(file.name for file in (OLD / name).iterdir()) == ["manifest.json", "weights.safetensors"]
    expected = json.loads((OLD.parent / "expected.json").read_text())[name]["action"]
    policy = load_policy(OLD / name).policy
    with torch.no_grad():
        action = policy(torch.linspace(-1, 1, policy.observation_size)[None])[0]
    assert action.tolist() == pytest.approx(expected, abs=1e-6)


class Attack:
    """Creates a file where it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (Path(self.target),)


@pytest.mark.parametrize("way", ["file", "weights"])
def test_17_pickles_are_refused_and_not_run(tmp_path, way):
    target, attack = tmp_path / "was-here", pickle.dumps(Attack(str(tmp_path / "was-here")))
    shutil.copytree(EXPERT, tmp_path / "policy")
    place = tmp_path / "policy.pt" if way == "file" else tmp_path / "policy" / "weights.safetensors"
    place.write_bytes(attack)
    with pytest.raises(PolicyFileError, match=str(tmp_path / "policy")):
        load_policy(place if way == "file" else tmp_path / "policy")
    assert not target.exists()
    pickle.loads(attack)
    assert target.exists(), "the control: the attack works"


def test_18_an_export_has_named_inputs_its_normalizer_and_the_robots_numbers(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    report = export_policy(EXPERT, tmp_path, ["onnx"], per_group=True, states=1000, episodes=1, threads=1)
    found, manifest = report.files["onnx"].comparison, read_manifest(EXPERT)
    assert found.states == 1000
    assert found.largest_action <= 1e-5
    model = onnx.load(report.files["onnx"].path)
    assert [value.name for value in model.graph.input] == ["proprio", "terrain"]
    assert {value.name for value in model.graph.output} >= {"actions", "joint_targets"}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["joint_names"].split(",") == [action.joint for action in manifest.actions]
    assert [float(one) for one in metadata["default_joint_pos"].split(",")] == [one.stand for one in manifest.actions]


def permuted(content):
    """Exchange the first two actions, as a robot with another joint order has them."""
    content["actions"][:2] = content["actions"][1::-1]


def rehashed(content):
    content.pop("content_sha256")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["content_sha256"] = hashlib.sha256(text.encode()).hexdigest()


def test_20_a_permuted_joint_order_is_refused_and_named(tmp_path):
    shutil.copytree(EXPERT, tmp_path / "policy")
    file = tmp_path / "policy" / "manifest.json"
    content = json.loads(file.read_text())
    permuted(content)
    file.write_text(json.dumps(content))
    with pytest.raises(PolicyFileError, match="altered"):
        load_policy(tmp_path / "policy")
    rehashed(content)
    file.write_text(json.dumps(content))
    manifest = load_policy(tmp_path / "policy").manifest
    joint = read_manifest(EXPERT).actions[1].joint
    with pytest.raises(ContractError, match=rf"action 0 \({joint}\): .* joint {joint}.*policykd remap POLICY --robot"):
        check_fits(manifest, get_skill("biped/flat"))
    found = differences(read_manifest(EXPERT), manifest)
    assert [one.what for one in found] == ["order of the actions"]


def test_20_targets_are_given_by_joint_name():
    manifest = read_manifest(EXPERT)
    actions = np.linspace(-1, 1, len(manifest.actions))
    targets = dict(zip([one.joint for one in manifest.actions], manifest.targets(actions), strict=True))
    for action, one in zip(actions, manifest.actions, strict=True):
        low, high = one.limits
        assert targets[one.joint] == pytest.approx(np.clip(one.stand + one.scale * action, low, high), abs=1e-6)


def test_a_policy_is_copied_with_its_normalizer():
    policy = random_policy(BLIND, 4)
    copied = copy.deepcopy(policy)
    rows = torch.randn(10, policy.observation_size)
    with torch.no_grad():
        assert torch.equal(copied(rows), policy(rows))
