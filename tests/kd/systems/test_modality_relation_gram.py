"""Generated modalities, the fusing network, and the arms of the experiment."""

from dataclasses import replace

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.networks.cosine_fusion import CosineFusion
from policykd.kd.systems.modality_relation_gram import EXPERIMENT, ModalityRecipe, modality_data

SMALL = ModalityRecipe(
    teacher=Fit((64, 32), epochs=2),
    student=Fit((16, 8), epochs=2),
    teacher_samples=80,
    student_samples=40,
    test_samples=60,
)


def test_corruption_swaps_one_modality_for_that_of_another_sample():
    config = replace(SMALL, noise=0.0, corruption=0.5)
    data, corrupted = modality_data(3, config)
    clean, none = modality_data(3, replace(config, corruption=0.0))
    assert (none == -1).all()
    assert torch.equal(data.y, clean.y)
    assert 0.3 < (corrupted >= 0).float().mean() < 0.7
    for place, (own, whole) in enumerate(
        zip(data.x.split(config.inputs, 1), clean.x.split(config.inputs, 1), strict=True)
    ):
        hit = corrupted == place
        assert torch.equal(own[~hit], whole[~hit])
        assert (own[hit] != whole[hit]).any(1).all()
        for row in own[hit]:
            assert (whole == row).all(1).any()


def test_fusion_trusts_modalities_that_agree():
    network = CosineFusion((4, 3, 2), hidden=5, width=6, classes=2)
    same = torch.ones(1, 6)
    embeddings = torch.stack([same, same, -same], dim=1)
    trust = network.trust(embeddings)
    assert trust.sum().item() == pytest.approx(1)
    assert trust[0].argmin() == 2
    assert trust[0, 0] == trust[0, 1]
    x = torch.randn(3, 9)
    torch.testing.assert_close(network(x), network.classify(network.embeddings(x)))
    with pytest.raises(ConfigError, match="at least two modalities"):
        CosineFusion((4,), hidden=5, width=6, classes=2)


def test_a_cell_is_paired_and_repeatable():
    cell = EXPERIMENT.run(1, replace(SMALL, gram_weight=0.0))
    EXPERIMENT.check_cell(cell)
    assert cell["gram"] == cell["labels only"]
    assert cell["output and gram"] == cell["output"] != cell["labels only"]
    assert EXPERIMENT.run(1, replace(SMALL, gram_weight=0.0)) == cell
    assert cell["teacher"]["gram error"] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corruption": 1.5}, "corruption"),
        ({"student_samples": 2001}, "student_samples"),
        ({"student": Fit((16,), epochs=1)}, "student.hidden"),
    ],
)
def test_configurations_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ModalityRecipe(**change)
