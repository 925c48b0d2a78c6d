"""Exact copies of policies, and policies with a skill less."""

import json

import pytest
import torch
from lineage_samples import keep

from policykd.agents.files.policy_file import load_policy, read_manifest
from policykd.agents.lineage import copy_policy, forget_skill
from policykd.cli.main import main
from policykd.errors import ConfigError, OutputError, PolicyFileError, UnknownNameError

BOTH = ("biped/flat", "biped/gaps")


def parts(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_copy_is_the_same_byte_for_byte(tmp_path):
    source = keep(tmp_path / "run" / "policy")
    manifest = copy_policy(tmp_path / "run", tmp_path / "copy")
    assert parts(tmp_path / "copy") == parts(source)
    assert manifest == read_manifest(source)
    copy_policy(source, tmp_path / "copy.zip")
    assert read_manifest(tmp_path / "copy.zip") == manifest
    with pytest.raises(OutputError, match="exists"):
        copy_policy(source, tmp_path / "copy")


def test_a_damaged_policy_is_not_copied(tmp_path):
    source = keep(tmp_path / "policy")
    weights = source / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(PolicyFileError, match="altered or truncated"):
        copy_policy(source, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_forgotten_skill_leaves_list_records_and_metrics_and_no_weight_changes(tmp_path):
    metrics = {"retention": {"biped/flat": 1.0, "biped/gaps": 0.5}, "only": {"biped/gaps": 2}, "success": 0.75,
               "states_to_retention": {"0.95": 10}, "states": 4}  # fmt: skip
    records = {"biped/flat": {"kept": 1}, "biped/gaps": {"gone": 1}}
    source = keep(tmp_path / "run" / "policy", skills=BOTH, metrics=metrics, skill_records=records, config={"x": 1})
    manifest = forget_skill(tmp_path / "run", "biped/gaps", tmp_path / "less")
    assert manifest.skills == ("biped/flat",)
    assert manifest.skill_records == {"biped/flat": {"kept": 1}}
    assert manifest.metrics == {"retention": {"biped/flat": 1.0}}
    assert manifest.operation == "forget-skill"
    old = read_manifest(source)
    assert manifest.parents == (old.as_parent("biped/flat biped/gaps"),)
    assert manifest.config == {"skill": "biped/gaps", "parent_content_sha256": old.content_sha256}
    assert manifest.weights_sha256 == old.weights_sha256
    assert parts(tmp_path / "less")["weights.safetensors"] == parts(source)["weights.safetensors"]
    text = parts(tmp_path / "less")["manifest.json"].decode()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
    states = torch.randn(7, 5)
    assert torch.equal(load_policy(tmp_path / "less").policy(states), load_policy(source).policy(states))


def test_the_last_record_is_no_empty_mapping(tmp_path):
    keep(tmp_path / "policy", skills=BOTH, skill_records={"biped/gaps": {"gone": 1}})
    assert forget_skill(tmp_path / "policy", "biped/gaps", tmp_path / "less").skill_records is None


def test_the_last_skill_and_unknown_skills_are_refused(tmp_path):
    keep(tmp_path / "policy", skills=BOTH)
    with pytest.raises(UnknownNameError, match="did you mean biped/gaps"):
        forget_skill(tmp_path / "policy", "biped/gap", tmp_path / "less")
    forget_skill(tmp_path / "policy", "biped/flat", tmp_path / "less")
    with pytest.raises(ConfigError, match="is the only skill"):
        forget_skill(tmp_path / "less", "biped/gaps", tmp_path / "none")
    with pytest.raises(OutputError, match="exists"):
        forget_skill(tmp_path / "policy", "biped/flat", tmp_path / "less")
    assert not (tmp_path / "none").exists()


def test_the_command_says_that_weights_are_unchanged(tmp_path, capsys):
    keep(tmp_path / "policy", skills=BOTH)
    assert main(["forget-skill", str(tmp_path / "policy"), "biped/gaps", "--out", str(tmp_path / "less")]) == 0
    printed = capsys.readouterr().out
    assert "skills: biped/flat" in printed
    assert "the weights are unchanged" in printed
    assert main(["forget-skill", str(tmp_path / "policy"), "biped/walls", "--out", str(tmp_path / "x")]) == 2
    assert "biped/gaps" in capsys.readouterr().err
