"""Contrastive distillation against worked numbers: critic, banks, constants, candidates."""

import math

import pytest
import torch

from policykd.kd import functional as kf
from policykd.kd.losses import CRD
from policykd.kd.losses.crd import contrast


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


def published(scores, samples, eps=0.0):
    """The critic's loss in the form of the published code, with its constant in the denominators."""
    ratio = (len(scores) - 1) / samples
    hits = scores[0] / (scores[0] + ratio + eps)
    return -math.log(hits) - sum(math.log(ratio / (o + ratio + eps)) for o in scores[1:])


def ours(scores, samples):
    return float(contrast(double([scores]).log(), samples))


def test_known_critic():
    scores = [0.5, 0.1, 0.1]
    assert ours(scores, 10) == pytest.approx(1.147402, abs=1e-6)
    assert ours(scores, 10) == pytest.approx(published(scores, 10), rel=1e-12)
    assert published(scores, 10, eps=1e-7) == pytest.approx(1.147403, abs=1e-6)


@pytest.mark.parametrize(("negatives", "value"), [(2, 1.909543), (16, 3.803207)])
def test_known_uninformative_critic(negatives, value):
    expected = math.log(1 + negatives) + negatives * math.log((negatives + 1) / negatives)
    assert expected == pytest.approx(value, abs=1e-6)
    assert ours([1 / 50] * (1 + negatives), 50) == pytest.approx(expected, rel=1e-12)


BANKS = (
    double([[1, 0], [0, 1], [-1, 0], [0, -1]]),
    double([[0.6, 0.8], [0.8, -0.6], [-0.6, -0.8], [-0.8, 0.6]]),
)


def toy():
    loss = CRD(4, 2, 2, dim=2, negatives=2, temperature=0.5).double()
    for embed in (loss.student_embed, loss.teacher_embed):
        torch.nn.init.eye_(embed.weight)
        torch.nn.init.zeros_(embed.bias)
    loss.student_bank.copy_(BANKS[0])
    loss.teacher_bank.copy_(BANKS[1])
    return loss


def test_known_toy_with_banks():
    loss, v_s, v_t = toy(), double([[0.8, 0.6]]), double([[1.0, 0.0]])
    scores = [(v @ bank[:3].T / 0.5)[0].exp() for v, bank in ((v_s, BANKS[1]), (v_t, BANKS[0]))]
    assert scores[0].tolist() == pytest.approx([6.820958, 1.750673, 0.146607], abs=1e-6)
    assert scores[1].tolist() == pytest.approx([7.389056, 1.0, 0.135335], abs=1e-6)
    z = [float(side.mean() * 4) for side in scores]
    assert z == pytest.approx([11.624317, 11.365855], abs=1e-6)
    sides = [published((side / n).tolist(), 4) for side, n in zip(scores, z, strict=True)]
    assert sides == pytest.approx([0.904527, 0.756096], abs=1e-6)
    total = loss(v_s, v_t, torch.tensor([0]), torch.tensor([[1, 2]]))
    assert float(total.detach()) == pytest.approx(1.660623, abs=1e-6)
    assert loss.log_z.exp().tolist() == pytest.approx(z)
    loss.commit()
    assert loss.student_bank[0].tolist() == pytest.approx([0.948683, 0.316228], abs=1e-6)
    assert loss.teacher_bank[0].tolist() == pytest.approx([0.894427, 0.447214], abs=1e-6)


def test_banks_and_constants_through_training_and_a_checkpoint():
    torch.manual_seed(0)
    loss = CRD(20, 4, 3, dim=5, negatives=6)
    before, index = loss.student_bank.clone(), torch.tensor([3, 7, 11])
    loss(torch.randn(3, 4), torch.randn(3, 3), index)
    loss.commit()
    others = torch.ones(20, dtype=torch.bool)
    others[index] = False
    assert torch.equal(loss.student_bank[others], before[others])
    torch.testing.assert_close(loss.student_bank[index].norm(dim=1), torch.ones(3))
    assert not any(buffer.requires_grad for buffer in loss.buffers())
    constants = loss.log_z.clone()
    loss(torch.randn(3, 4), torch.randn(3, 3), index)
    again = CRD(20, 4, 3, dim=5, negatives=6, seed=9)
    again.load_state_dict(loss.state_dict())
    again(torch.randn(3, 4), torch.randn(3, 3), index)
    assert torch.equal(again.log_z, constants)


def test_loss_falls_toward_the_positive_and_survives_a_joint_rotation():
    candidates, v_t = torch.tensor([[0, 1, 2]]), double([[1.0, 0.0]])

    def turned(angle):
        return double([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    def value(v_s, bank):
        return float(kf.crd(v_s, v_t, BANKS[0], bank, candidates, temperature=0.5))

    # clockwise of the positive (0.6, 0.8) lies a negative, (0.8, -0.6)
    values = [value(BANKS[1][:1] @ turned(angle).T, BANKS[1]) for angle in (-1.5, -1.0, -0.5, 0.0)]
    assert values == sorted(values, reverse=True)
    v_s, turn = double([[0.8, 0.6]]), turned(0.7)
    assert value(v_s @ turn.T, BANKS[1] @ turn.T) == pytest.approx(value(v_s, BANKS[1]))


def test_candidates_start_with_the_sample_and_negatives_have_other_labels():
    labels = torch.arange(60) % 5
    loss = CRD(60, 2, 2, negatives=40, labels=labels)
    index = torch.arange(0, 60, 4)
    candidates = loss._candidates(index, None, batch=len(index))
    assert torch.equal(candidates[:, 0], index)
    assert (labels[candidates[:, 1:]] != labels[index][:, None]).all()
