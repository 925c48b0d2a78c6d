"""Selected logits: each sample's own expert, off the graph."""

import pytest
import torch

from policykd.kd import functional as kf
from policykd.kd.losses.selected_logits import selected_logits


def test_targets_are_those_of_each_samples_expert_and_no_gradient_reaches_them():
    experts = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    student = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    own = torch.tensor([2, 0, 1, 1, 2])
    chosen = selected_logits(experts, own)
    for sample, expert in enumerate(own):
        torch.testing.assert_close(chosen[sample], experts[expert, sample].detach())
    kf.kd(student, chosen).backward()
    assert experts.grad is None
    assert student.grad.abs().sum() > 0


def test_equal_experts_are_standard_distillation():
    one = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(selected_logits(one.expand(3, 6, 3), torch.tensor([0, 2, 1, 1, 0, 2])), one)


@pytest.mark.parametrize(
    ("logits", "expert", "message"),
    [
        (torch.zeros(4, 3), [0, 0, 0, 0], r"must be \(K, N, C\)"),
        (torch.zeros(2, 3, 2), [0, 1, 2], r"in \[0, 1\], got 0 to 2"),
        (torch.zeros(2, 3, 2), [0, -1, 1], r"in \[0, 1\], got -1 to 1"),
        (torch.zeros(2, 3, 2), [0, 1], r"shape \(3,\)"),
        (torch.full((1, 1, 2), float("nan")), [0], "finite"),
    ],
)
def test_bad_input_is_refused(logits, expert, message):
    with pytest.raises(ValueError, match=message):
        selected_logits(logits, torch.tensor(expert))
