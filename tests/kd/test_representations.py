"""Measures of representations against their definitions."""

import math

import numpy as np
import pytest
import torch

from policykd.kd.representations import info_nce_bound, linear_cka


def features(seed, rows=8, width=4):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, width)))


def test_alignment_of_kernels():
    x, y = features(0), features(1, width=3)
    centered = [v.numpy() - v.numpy().mean(0) for v in (x, y)]
    grams = [v @ v.T for v in centered]
    expected = (grams[0] * grams[1]).sum() / np.linalg.norm(grams[0]) / np.linalg.norm(grams[1])
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-12)
    turn, _ = torch.linalg.qr(features(2, rows=4))
    assert linear_cka(3 * x @ turn + 5, x) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="same for all samples"):
        linear_cka(torch.ones(4, 2), x[:4])


def test_information_bound():
    v = torch.eye(8).double()
    assert info_nce_bound(v, v, temperature=0.01) == pytest.approx(math.log(8))
    assert info_nce_bound(torch.ones(8, 2), features(0, width=2).float(), temperature=1.0) <= math.log(8)
    scores = torch.nn.functional.normalize(features(0)) @ torch.nn.functional.normalize(features(1)).T / 0.2
    expected = np.mean([math.log(8) + float(row[i] - row.logsumexp(0)) for i, row in enumerate(scores)])
    assert info_nce_bound(features(0), features(1), temperature=0.2) == pytest.approx(expected)
    assert info_nce_bound(features(0), features(0), temperature=0.2) > expected
