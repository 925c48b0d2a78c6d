"""Seeding torch: the draws of ``torch.manual_seed``, and nothing done for devices that are not there."""

import pytest
import torch

from policykd.torch_seeding import seed_torch, seeded_torch


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_draws_are_those_of_manual_seed(seed):
    torch.manual_seed(seed)
    expected = torch.randn(5), torch.rand(3), torch.randint(100, (4,))
    torch.manual_seed(7)
    seed_torch(seed)
    for one, other in zip((torch.randn(5), torch.rand(3), torch.randint(100, (4,))), expected, strict=True):
        assert torch.equal(one, other)


def test_every_device_is_seeded_where_there_is_one(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch, "manual_seed", seeded.append)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    seed_torch(3)
    assert seeded == [3]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="seeds the device")
def test_no_stack_is_written_down_without_a_device(monkeypatch):
    monkeypatch.setattr("traceback.format_stack", lambda *_: pytest.fail("a seed was noted for a device"))
    seed_torch(3)


def test_a_seeded_block_leaves_the_callers_draws_alone():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(3)
    inside = torch.rand(4)
    torch.manual_seed(5)
    with seeded_torch(3):
        assert torch.equal(torch.rand(4), inside)
    assert torch.equal(torch.rand(2), expected)


def test_a_block_without_a_seed_draws_from_the_caller():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    with seeded_torch(None):
        first = torch.rand(2)
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)
