"""Generated clips, and the arms of the experiment on tagging."""

from dataclasses import replace

import numpy as np
import pytest

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.iusp import EXPERIMENT, IUSPRecipe, event_clips


def test_generated_clips():
    config, prototypes = EXPERIMENT.config, 100.0 * np.eye(6, 24)
    clips = event_clips(prototypes, 4000, config, np.random.default_rng(0))
    frames, tags = clips.x, clips.y
    assert float(tags.mean()) == pytest.approx(config.prior, abs=0.01)
    shown = frames[..., :6] > 50  # which event each frame shows
    assert (shown.sum(2) <= 1).all()
    assert not (shown.any(1) & (tags == 0)).any()
    active = shown.any(2)[tags.any(1)]
    assert float(active.double().mean()) == pytest.approx(config.active, abs=0.01)
    both = shown[(tags[:, 0] == 1) & (tags.sum(1) == 2)].double().sum((0, 1))
    assert float(both[0] / both.sum()) == pytest.approx(0.5, abs=0.03)
    assert float(frames[..., 6:].std()) == pytest.approx(1.0, abs=0.01)


def test_arms_differ_by_the_similarity_term_alone():
    fits = {"teacher": Fit((128, 64), steps=10), "student": Fit((16, 16), steps=10, batch_size=16)}
    config = IUSPRecipe(**fits, teacher_clips=100, similarity_weight=0.0)
    cell = EXPERIMENT.run(0, config)
    EXPERIMENT.check_cell(cell)
    assert cell["sp"] == cell["iusp"] == cell["baseline"] != cell["kd"]
    weighted = EXPERIMENT.run(0, replace(config, similarity_weight=100.0))
    assert weighted["baseline"] == cell["baseline"]
    assert weighted["sp"] != weighted["iusp"] != cell["iusp"]


@pytest.mark.parametrize("change", [{"prior": 0.0}, {"active": 1.5}, {"clips": 1}, {"similarity_weight": -1.0}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        IUSPRecipe(**change)
