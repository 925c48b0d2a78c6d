"""The arms of STKD's experiment differ by their mixtures alone."""

from dataclasses import replace

import pytest

from policykd.errors import ConfigError
from policykd.kd.systems.stkd import EXPERIMENT, STKDRecipe

SHORT = replace(
    EXPERIMENT.config,
    teacher=replace(EXPERIMENT.config.teacher, steps=60),
    student=replace(EXPERIMENT.config.student, steps=25),
    concentration=1e-4,
)


def test_without_real_mixtures_the_arms_are_the_plain_ones():
    """A concentration near 0 leaves every virtual sample a real one: a permuted batch has the same mean loss."""
    cell = EXPERIMENT.run(0, SHORT)
    EXPERIMENT.check_cell(cell)
    assert cell["mixup"] == cell["ce"]
    assert cell["stkd on_mix"] == cell["stkd mixed_targets"] == cell["kd"] != cell["ce"]
    mixed = EXPERIMENT.run(0, replace(SHORT, concentration=1.0))
    assert mixed["ce"] == cell["ce"]
    assert mixed["mixup"] != cell["mixup"]


@pytest.mark.parametrize("change", [{"per_class": 1}, {"concentration": 0.0}, {"images": 1}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        STKDRecipe(**change)
