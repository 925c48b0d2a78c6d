"""The benchmark of fine-tuning: what its arms change, and what its figures mean."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import finetuning
from doc_figures import tuning
from policykd.agents.files.policy_file import load_policy
from policykd.errors import UnknownNameError

EXPERT = Path(__file__).parents[1] / "data" / "flat-expert"


def cell(**changes):
    def figures(success, reward, retention):
        return {"success": [success], "reward_per_step": [reward], "retention": [retention]}

    skills = {
        "a": {"start": figures(0.5, 0.4, 1.0), "result": figures(0.75, 0.6, 1.5)},
        "b": {"start": figures(1.0, 0.8, 1.0), "result": figures(0.9, 0.72, 0.9)},
        "c": {"start": figures(1.0, 0.8, 1.0), "result": figures(0.8, 0.76, 0.95)},
    }
    rows = [{"skills": {s: {"reward_per_step": r} for s, r in (("a", ra), ("b", rb), ("c", 1.0))}}
            for ra, rb in ((0.4, 0.8), (0.2, 0.6), (0.5, 0.76))]  # fmt: skip
    return {"target": "a", "arm": "default", "skills": skills, "validations": rows, **changes}


def test_gains_and_losses_of_a_run():
    assert finetuning.gain(cell(), "success") == (0.5, 0.75)
    assert finetuning.least_kept(cell()) == 0.9
    assert finetuning.least_success(cell()) == 0.8
    assert finetuning.least_validated(cell()) == pytest.approx(0.75), "of old skills, relative to the start"
    alone = [{"skills": {"a": {"reward_per_step": 0.4}}}] * 2
    assert finetuning.least_validated(cell(validations=alone)) is None
    assert tuning.finetuning_arms(cell(), cell(), cell()) == [
        ("default", "0.50 to 0.75 (0.75 to 0.75)", "0.400 to 0.600 (0.600 to 0.600)", "90.0 (90.0 to 90.0)",
         "0.80 (0.80 to 0.80)", "75.0 (75.0 to 75.0)")
    ]  # fmt: skip


def test_arms_change_one_thing_each():
    student = load_policy(EXPERT)
    own, others = finetuning.skills_of(student, "biped/gaps")
    assert (own.id, [skill.id for skill in others]) == ("biped/gaps", list(student.manifest.skills))
    usual = finetuning.config_of("default", 3, 1000, own)
    assert (usual.steps, usual.seed) == (1000, 3)
    raw = finetuning.config_of("without averaging", 3, 1000, own)
    assert raw.averaging_steps == 0 < usual.averaging_steps
    assert finetuning.config_of("without averaging and warm-up", 3, 1000, own) == replace(raw, warm_up_steps=0)
    assert finetuning.config_of("without averaging and rehearsal", 3, 1000, own) == raw
    assert finetuning.config_of("with a leash", 3, 1000, own) == replace(usual, leash=0.1)
    assert set(finetuning.UNREHEARSED) < set(finetuning.ARMS)
    with pytest.raises(UnknownNameError, match="'none'"):
        finetuning.main(finetuning.Options(EXPERT, ("biped/gaps",), arms=("none",)))
