"""Coupled siamese networks: the pair loss, the pairs, what each weight reads, the baselines, and the experiment."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.evidence.multimodal_hashing import matched_rows
from policykd.kd.systems.multimodal_hashing import (
    EXPERIMENT,
    HashingRecipe,
    Modalities,
    MultimodalHashing,
    correlated_codes,
    coupled_loss,
    draw_pairs,
    pair_loss,
    retrieval_metrics,
)
from policykd.kd.tasks.base import Split

TINY = replace(EXPERIMENT.config, bits=(3, 4, 6), hidden=5, train_steps=4, pairs=8, classifier_epochs=1)


@pytest.mark.parametrize(
    ("distance", "same", "expected"), [(1, True, 0.5), (1, False, 4.5), (3, False, 0.5), (5, False, 0.0)]
)
def test_the_worked_pair_loss(distance, same, expected):
    first, second = torch.tensor([[0.0, 0.0]]).double(), torch.tensor([[0.0, float(distance)]]).double()
    assert float(pair_loss(first, second, torch.tensor([same]), margin=4.0)) == pytest.approx(expected, abs=1e-6)


def test_good_codes_cost_nothing_and_gradients_are_finite_at_a_distance_of_zero():
    first = torch.tensor([[1.0, 1.0], [1.0, 1.0]], requires_grad=True)
    second, same = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([True, False])
    assert float(pair_loss(first, second, same, margin=2.8).detach()) == 0.0
    pair_loss(first, second, ~same, margin=1.4).backward()
    assert bool(torch.isfinite(first.grad).all())
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    flags = torch.tensor([True, False, True, False])
    other = x.detach().flip(0)
    assert torch.autograd.gradcheck(lambda z: pair_loss(z, other, flags, margin=3.0), (x,))


def test_half_of_the_pairs_agree_and_every_partner_is_drawn():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, 30), rng.permutation(np.repeat(np.arange(4), (3, 5, 7, 9)))
    rows, columns, same = draw_pairs(first, second, 20_000, rng)
    assert same.sum() == 10_000
    np.testing.assert_array_equal(first[rows] == second[columns], same)
    assert len(np.unique(columns[same])) == len(np.unique(columns[~same])) == 24
    other = columns[~same & (first[rows] == 0)]
    counts = np.bincount(other, minlength=24)[second != 0]
    assert counts.max() < 1.35 * counts.min()  # uniform over all entries of other labels


@pytest.mark.parametrize("labels", [([0, 1], [0, 0]), ([0, 0], [0, 0])])
def test_labels_without_partners_are_refused(labels):
    with pytest.raises(ConfigError, match="every label needs samples"):
        draw_pairs(np.array(labels[0]), np.array(labels[1]), 4, np.random.default_rng(0))


def tables(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(12, 3, generator=rng, dtype=torch.float64) for _ in range(2)]


LABELS = (np.arange(12) % 3, np.arange(12) % 3)


def total(codes, alpha, labels=LABELS):
    def ask(place, rows):
        return codes[place][torch.from_numpy(rows)]

    return float(coupled_loss(ask, labels, np.random.default_rng(4), pairs=10, margin=2.0, alpha=alpha))


def test_the_total_is_the_weighted_sum_of_three_pair_losses():
    codes, rng = tables(), np.random.default_rng(4)
    parts = []
    for one, other in ((0, 1), (0, 0), (1, 1)):
        rows, columns, same = draw_pairs(LABELS[one], LABELS[other], 10, rng)
        drawn = codes[one][torch.from_numpy(rows)], codes[other][torch.from_numpy(columns)]
        parts.append(float(pair_loss(*drawn, torch.from_numpy(same), margin=2.0)))
    assert total(codes, 0.5) == pytest.approx(parts[0] + 0.5 * (parts[1] + parts[2]))
    assert total(codes, 0.0) == pytest.approx(parts[0])


def test_without_alpha_pairs_within_a_modality_are_not_read():
    codes, asked = tables(), []

    def ask(place, rows):
        asked.append(place)
        return codes[place][torch.from_numpy(rows)]

    coupled_loss(ask, LABELS, np.random.default_rng(0), pairs=6, margin=2.0, alpha=0.0)
    assert asked == [0, 1]


def test_equal_networks_on_equal_data_are_one_siamese_network():
    codes = [tables()[0]] * 2
    rows, columns, same = draw_pairs(*LABELS, 10, np.random.default_rng(4))
    siamese = pair_loss(
        codes[0][torch.from_numpy(rows)], codes[0][torch.from_numpy(columns)], torch.from_numpy(same), margin=2.0
    )
    assert total(codes, 0.0) == pytest.approx(float(siamese))


def correlated(count=400, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 2))
    x = hidden @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(count, 5))
    y = hidden @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(count, 4))
    label = torch.from_numpy((hidden > 0).astype(np.int64) @ np.array([1, 2]))
    splits = tuple(Split(torch.from_numpy(v).float(), label) for v in (x, y))
    return Modalities(splits, splits, np.stack([np.arange(count)] * 2, 1))


def test_correlation_analysis_finds_what_both_modalities_share():
    data = correlated()
    codes = correlated_codes(data, bits=2)
    x, y = codes(0, data.train[0].x), codes(1, data.train[1].x)
    for k in range(2):
        assert np.corrcoef(x[:, k], y[:, k])[0, 1] > 0.9
    found = retrieval_metrics(codes, data.test, radius=0)
    assert found["map across"] > 0.4  # 0.25 by chance
    assert set(found) == {"map x to y", "map y to x", "map x to x", "map y to y", "map across", "precision in radius"}


def test_the_halves_of_a_digit_are_its_modalities():
    data = MultimodalHashing().data(0, HashingRecipe())
    assert [split.x.shape[1] for split in (*data.train, *data.test)] == [32] * 4
    assert torch.equal(data.train[0].y, data.train[1].y)
    whole = torch.cat([part.x.unflatten(1, (8, 4)) for part in data.train], 2).flatten(1)
    torch.testing.assert_close(whole.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
    assert not torch.equal(data.test[0].y, data.test[0].y.sort().values)


def test_matched_rows_have_equal_labels_and_use_a_sample_once():
    first = Split(torch.zeros(9, 1), torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2]))
    second = Split(torch.zeros(7, 1), torch.tensor([2, 1, 1, 0, 2, 2, 0]))
    rows = matched_rows(first, second, np.random.default_rng(0))
    assert len(rows) == 2 + 2 + 2
    assert torch.equal(first.y[rows[:, 0]], second.y[rows[:, 1]])
    assert all(len(set(column)) == len(rows) for column in rows.T.tolist())


@pytest.mark.parametrize("bits", [(8, 8, 16), (16, 8, 32), (0, 8, 16)])
def test_lengths_out_of_order_are_refused(bits):
    with pytest.raises(ConfigError, match="bits"):
        HashingRecipe(bits=bits)


def test_a_small_cell_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell
    assert cell["coupled"] != cell["cross only"]
