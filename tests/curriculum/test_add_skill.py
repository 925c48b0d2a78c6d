"""Adding one skill to a student that is there."""

import json
from dataclasses import replace

import pytest
from tiny_curriculum import NETWORKS, TINY

from policykd.agents.files.policy_file import load_policy, read_manifest
from policykd.curriculum.add_skill import _price, add_skill
from policykd.curriculum.stage_runner import StageFolders
from policykd.curriculum.stages import Outcome
from policykd.errors import ConfigError, UnknownNameError

TRAIN = replace(TINY.train, steps=512)


def test_a_skill_is_added(finished, tmp_path):
    student = StageFolders(finished[0] / "stages").policy("merge-gaps")
    options = {"train": TRAIN, "merge": TINY.merge, "measurement": TINY.measurement, "threads": 1}
    result = add_skill(student, "biped/walls", tmp_path, **options)
    manifest = read_manifest(result.policy_path)
    assert manifest.skills == ("biped/flat", "biped/incline", "biped/gaps", "biped/walls")
    assert {parent.weights_sha256 for parent in manifest.parents} == {
        read_manifest(student).weights_sha256,
        read_manifest(tmp_path / "stages" / "train").weights_sha256,
    }
    assert load_policy(result.policy_path).policy.architecture == NETWORKS
    assert result.matrix.skills == manifest.skills
    assert result.matrix.learned == (0, 0, 0, 1)
    assert result.matrix.normalized[0, :3].tolist() == [1.0, 1.0, 1.0]  # the student is its own yardstick
    assert json.loads((tmp_path / "added.json").read_text())["price_steps"] == result.price_steps
    again = add_skill(student, "biped/walls", tmp_path, **options, resume=True)
    assert again == result


def test_what_cannot_be_added_is_refused(finished, tmp_path):
    student = StageFolders(finished[0] / "stages").policy("merge-gaps")
    with pytest.raises(ConfigError, match="already"):
        add_skill(student, "biped/gaps", tmp_path)
    with pytest.raises(UnknownNameError, match="biped/walls"):
        add_skill(student, "biped/wals", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_price_is_that_of_the_first_good_validation():
    training = Outcome("train", "train", 1000, 10.0, 9.0)
    rows = [
        {"states": 100, "seconds": 1.0, "retention": {"old": 0.96, "new": 0.99}},
        {"states": 200, "seconds": 2.0, "retention": {"old": 0.98, "new": 0.94}},
        {"states": 300, "seconds": 3.0, "retention": {"old": 0.97, "new": 0.95}},
        {"states": 400, "seconds": 4.0, "retention": {"old": 1.0, "new": 1.0}},
    ]
    assert _price(rows, "new", training) == (1300, 13.0)
    assert _price(rows[:2], "new", training) == (None, None)
