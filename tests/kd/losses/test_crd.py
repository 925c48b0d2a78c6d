"""CRD: the critic's loss against loops, and the module's memory: updates, Z, negatives, resume, splitting."""

import copy
import math

import numpy as np
import pytest
import torch
from loss_contract import LossContract, tensors

from policykd.kd import functional as kf
from policykd.kd import losses
from policykd.kd.losses._negatives import NegativeDraw
from policykd.kd.losses.crd import contrast


class TestCRD(LossContract):
    function = staticmethod(kf.crd)
    module = losses.CRD
    module_args = {"n_data": 9, "student_dim": 4, "teacher_dim": 4, "dim": 4, "negatives": 3}
    cases = {"paper": {}, "fixed_z": {"log_z_student": 1.3, "log_z_teacher": 0.4}, "warm": {"temperature": 0.5}}
    fixed = ("student_bank", "teacher_bank")
    exempt = {
        "zero": "a contrast has no zero: its optimum depends on the negatives",
        "monotone": "not a distance to the teacher; see the rotation test",
        "temperature": "the temperature scales scores of unit vectors, there is no T**2 limit",
        "weights": "has no weight inside",
        "invariance": "holds for a joint rotation of student and teacher bank; tested below",
    }

    def arrays(self, seed=0):
        def unit(s, n):
            rows = self.normal(s, n, 4)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

        rng = np.random.default_rng(seed)
        candidates = np.stack([rng.permutation(9)[:4] for _ in range(6)])
        return {
            "student": unit(seed, 6),
            "teacher": unit(seed + 1, 6),
            "student_bank": unit(seed + 2, 9),
            "teacher_bank": unit(seed + 3, 9),
            "candidates": candidates,
        }

    def oracle(self, arrays, temperature=0.07, log_z_student=0.0, log_z_teacher=0.0):
        values = np.zeros(6)
        sides = (("student", "teacher_bank", log_z_student), ("teacher", "student_bank", log_z_teacher))
        for anchor, bank, log_z in sides:
            for i in range(6):
                for place, k in enumerate(arrays["candidates"][i]):
                    o = math.exp(arrays[anchor][i] @ arrays[bank][k] / temperature) / math.exp(log_z)
                    h = o / (o + 3 / 9)
                    values[i] -= math.log(h) if place == 0 else math.log((3 / 9) / (o + 3 / 9))
        return values

    def build(self, **case):
        options = {"normalizer": "fixed_z" if "log_z_student" in case else "paper"}
        return losses.CRD(**self.module_args, **options, temperature=case.get("temperature", 0.07))

    def check_module(self, arrays, case, expected):
        loss = self.build(**case).double()
        s, t = tensors(arrays["student"]), tensors(arrays["teacher"])
        index, negatives = torch.arange(6), torch.tensor([[6, 7, 8]]).repeat(6, 1)
        value = loss(s, t, index, negatives)
        v_s, v_t = loss.embed(s, t)
        candidates = torch.cat([index[:, None], negatives], 1)
        z = dict(zip(("log_z_student", "log_z_teacher"), loss.log_z.tolist(), strict=True))
        banks = (loss.student_bank, loss.teacher_bank, candidates)
        torch.testing.assert_close(value, kf.crd(v_s, v_t, *banks, temperature=loss.temperature, **z))

    def test_09_gradients(self, case):
        inputs = {n: tensors(v, grad=n in ("student", "teacher")) for n, v in self.arrays().items()}
        assert torch.autograd.gradcheck(
            lambda s, e: kf.crd(**(inputs | {"student": s, "teacher": e}), **case),
            (inputs["student"], inputs["teacher"]),
        )
        loss, feature = self.build(**case), torch.randn(6, 4, requires_grad=True)
        loss(torch.randn(6, 4), feature, torch.arange(6)).backward()
        assert feature.grad is None
        assert all(p.grad is not None for p in loss.parameters())
        assert not any(b.requires_grad for b in loss.buffers())

    def test_13_default_constructor(self):
        loss = losses.CRD(n_data=40)
        value = loss(torch.randn(4, 3, 2, 2), torch.randn(4, 7), torch.arange(4))
        assert value.shape == ()
        assert torch.isfinite(value)


def test_published_numbers():
    def from_scores(scores, n_data):
        return float(contrast(torch.log(torch.tensor([scores], dtype=torch.float64)), n_data))

    assert from_scores([0.5, 0.1, 0.1], 10) == pytest.approx(1.147402, abs=1e-6)
    assert from_scores([0.1] * 3, 10) == pytest.approx(1.909543, abs=1e-6)
    assert from_scores([0.01] * 17, 100) == pytest.approx(3.803207, abs=1e-6)


def toy():
    loss = losses.CRD(4, 2, 2, dim=2, negatives=2, temperature=0.5).double()
    for embed in (loss.student_embed, loss.teacher_embed):
        torch.nn.init.eye_(embed.weight)
        torch.nn.init.zeros_(embed.bias)
    loss.student_bank.copy_(torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]]))
    loss.teacher_bank.copy_(torch.tensor([[0.6, 0.8], [0.8, -0.6], [-0.6, -0.8], [-0.8, 0.6]], dtype=torch.float64))
    return loss, torch.tensor([[0.8, 0.6]]).double(), torch.tensor([[1.0, 0.0]]).double()


def test_published_toy():
    loss, v_s, v_t = toy()
    index, negatives = torch.tensor([0]), torch.tensor([[1, 2]])
    total = loss(v_s, v_t, index, negatives)
    assert total.item() == pytest.approx(1.660623, abs=1e-6)
    assert loss.log_z.exp().tolist() == pytest.approx([11.624317, 11.365855], abs=1e-6)
    candidates = torch.tensor([[0, 1, 2]])
    scores = (v_s @ loss.teacher_bank.T / 0.5)[:, candidates[0]]
    assert scores.exp()[0].tolist() == pytest.approx([6.820958, 1.750673, 0.146607], abs=1e-6)
    assert float(contrast(scores - loss.log_z[0], 4)) == pytest.approx(0.904527, abs=1e-6)
    loss.commit()
    assert loss.student_bank[0].tolist() == pytest.approx([0.948683, 0.316228], abs=1e-6)
    assert loss.teacher_bank[0].tolist() == pytest.approx([0.894427, 0.447214], abs=1e-6)
    assert loss.student_bank[1].tolist() == [0, 1]


def test_rotation():
    loss, _, v_t = toy()
    index, negatives = torch.tensor([0]), torch.tensor([[1, 2]])
    loss.eval()
    goal = loss.teacher_bank[0]
    values = []
    for angle in (1.5, 1.0, 0.5, 0.0):
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
        loss.calibrate(goal[None], v_t, index, negatives)
        values.append(loss((goal @ turn.T)[None], v_t, index, negatives).item())
    assert values == sorted(values, reverse=True)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
    other = copy.deepcopy(loss)
    other.teacher_bank @= turn.T
    student = torch.tensor([[0.8, 0.6]]).double()
    torch.testing.assert_close(other(student @ turn.T, v_t, index, negatives), loss(student, v_t, index, negatives))


def test_the_codes_offset_is_five_orders_above_the_papers():
    """On CIFAR-100 the frozen Z is about 1.108e5, so the offset is K Z / N = 36 300 instead of K / N = 0.33."""
    torch.manual_seed(0)
    loss = losses.CRD(50_000, 8, 8, negatives=1024)
    loss(torch.randn(64, 8), torch.randn(64, 8), torch.arange(64))
    assert loss.log_z.exp().tolist() == pytest.approx([1.108e5, 1.108e5], rel=0.05)
    assert 16384 / 50_000 * float(loss.log_z[0].exp()) == pytest.approx(36_300, rel=0.05)


def batches(n, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        index = torch.randperm(n, generator=generator)[:8]
        yield torch.randn(8, 6, generator=generator), torch.randn(8, 5, generator=generator), index


def make(seed=1, **options):
    torch.manual_seed(seed)
    defaults = {"n_data": 30, "student_dim": 6, "teacher_dim": 5, "dim": 4, "negatives": 7}
    return losses.CRD(**(defaults | options)).double()


def run(loss, data, parts=1):
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    values = []
    for s, t, index in data:
        s, t = s.double(), t.double()
        optimizer.zero_grad()
        total = 0.0
        for piece in index.split(len(index) // parts):
            place = torch.isin(index, piece)
            value = loss(s[place], t[place], index[place]) / parts
            value.backward()
            total += value.item()
        optimizer.step()
        loss.commit()
        values.append(total)
    return values


@pytest.mark.parametrize("normalizer", ["fixed_z", "paper"])
def test_micro_batches_equal_the_whole(normalizer):
    whole, split = (make(normalizer=normalizer, auto_commit=False) for _ in range(2))
    s, t, index = next(batches(30, 1))
    for loss in (whole, split):
        loss.calibrate(s, t, index)
    one, four = run(whole, batches(30, 4)), run(split, batches(30, 4), parts=4)
    assert one == pytest.approx(four, rel=1e-12)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(split.state_dict()[key], value, rtol=1e-10, atol=1e-12)


def test_resume_equals_the_uninterrupted_run():
    straight = run(make(), batches(30, 6))
    first = make()
    begun = run(first, list(batches(30, 6))[:3])
    second = make(seed=99)
    second.load_state_dict(first.state_dict())
    assert begun + run(second, list(batches(30, 6))[3:]) == straight


def test_state_is_complete_without_commit():
    """A checkpoint taken right after a step holds that step's embeddings, whoever called commit."""
    loss = make()
    s, t, index = next(batches(30, 1))
    before = loss.student_bank.clone()
    loss(s, t, index)
    saved = loss.state_dict()
    touched = torch.zeros(30, dtype=torch.bool)
    touched[index] = True
    torch.testing.assert_close(saved["student_bank"][touched].norm(dim=1), torch.ones(8).double())
    assert torch.equal(saved["student_bank"][~touched], before[~touched])
    assert saved["visits"].sum() == 8
    assert not saved["log_z"].isnan().any()


def test_z_is_set_once_and_evaluation_changes_nothing():
    loss = make()
    data = list(batches(30, 3))
    loss(*data[0])
    z = loss.log_z.clone()
    loss(*data[1])
    assert torch.equal(loss.log_z, z)
    loss.eval()
    loss.commit()
    before = {k: v.clone() for k, v in loss.state_dict().items()}
    loss(*data[2])
    assert all(torch.equal(v, before[k]) for k, v in loss.state_dict().items())


def test_repeated_sample_keeps_its_last_embedding():
    loss = make()
    s, t = torch.randn(3, 6), torch.randn(3, 5)
    loss(s, t, torch.tensor([4, 9, 4]))
    v_s, _ = (x.detach() for x in loss.embed(s, t))
    old = loss.student_bank[4].clone()
    loss.commit()
    torch.testing.assert_close(loss.student_bank[4], torch.nn.functional.normalize(0.5 * old + 0.5 * v_s[2], dim=0))
    assert loss.visits[4] == 1


def test_negatives():
    labels = torch.randint(0, 5, (200,), generator=torch.Generator().manual_seed(0))
    index = torch.arange(0, 200, 3)
    visits = torch.zeros(len(index), dtype=torch.int32)
    supervised = NegativeDraw(200, labels)(index, visits, 500)
    assert (labels[supervised] != labels[index][:, None]).all()
    free = NegativeDraw(200)(index, visits, 2000)
    assert (free != index[:, None]).all()
    counts = torch.bincount(free.flatten(), minlength=200).double()
    assert counts.std() / counts.mean() < 0.06  # 670 draws each: 0.039 for a uniform draw
    again = NegativeDraw(200)(index[5:9], visits[5:9], 2000)
    assert torch.equal(again, free[5:9])
    assert not torch.equal(NegativeDraw(200)(index, visits + 1, 2000), free)
    assert not torch.equal(NegativeDraw(200, seed=1)(index, visits, 2000), free)


def test_momentum_is_the_share_of_the_old_entry():
    loss = make(momentum=0.9)
    s, t, index = next(batches(30, 1))
    loss(s, t, index)
    old = loss.teacher_bank[index].clone()
    fresh = loss.embed(s, t)[1].detach()
    loss.commit()
    torch.testing.assert_close(loss.teacher_bank[index], torch.nn.functional.normalize(0.9 * old + 0.1 * fresh, dim=1))


def test_loading_forgets_what_was_noted():
    loss, other = make(), make(seed=2)
    s, t, index = next(batches(30, 1))
    other(s, t, index)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.state_dict()["student_bank"], loss.student_bank)


def test_errors():
    with pytest.raises(ValueError, match="one class"):
        losses.CRD(5, 2, 2, labels=torch.zeros(5))
    with pytest.raises(ValueError, match=r"labels must have shape \(5,\), got \(4,\)"):
        losses.CRD(5, 2, 2, labels=torch.zeros(4))
    loss = losses.CRD(5, 2, 2, negatives=2)
    with pytest.raises(ValueError, match=r"index must be in \[0, 4\], got up to 5"):
        loss(torch.randn(2, 2), torch.randn(2, 2), torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"index must be integers \(2,\)"):
        loss(torch.randn(2, 2), torch.randn(2, 2), torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="normalizer must be one of"):
        losses.CRD(5, 2, 2, normalizer="none")
