"""CES-KD: ways to choose among experts, and its experiment."""

from dataclasses import replace

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.ces_kd import EXPERIMENT, teachings


def test_with_one_expert_every_way_to_choose_is_standard_distillation():
    logits, y = torch.randn(1, 12, 10, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 10
    for teaching in teachings(0, EXPERIMENT.config, logits, y).values():
        taught = teaching(0) if callable(teaching) else teaching
        torch.testing.assert_close(taught.softmax(-1), logits[0].softmax(-1))


SMALL = {"small_expert": Fit((4,), epochs=2), "middle_expert": Fit((8,), epochs=2), "student": Fit((6,), epochs=2)}


def test_a_cell_is_repeatable_and_labels_alone_need_no_teacher():
    config = replace(EXPERIMENT.config, **SMALL, teacher=Fit((12,), epochs=2), curriculum_epochs=1.0)
    cell = EXPERIMENT.run(0, config)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, config) == cell
    untaught = EXPERIMENT.run(0, replace(config, kd_weight=0.0, ce_weight=1.0))
    assert untaught["largest expert"] == pytest.approx(cell["labels only"], rel=1e-6)
    assert cell["labels only"]["nll"] != pytest.approx(cell["largest expert"]["nll"], rel=1e-3)


def test_experts_out_of_order_are_refused():
    with pytest.raises(ConfigError, match="ascending order"):
        EXPERIMENT.run(0, replace(EXPERIMENT.config, **SMALL, teacher=Fit((6,), epochs=1)))
