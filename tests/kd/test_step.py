"""One step gives one loss and one gradient, however the batch is split, for every kind of loss."""

import copy

import pytest
import torch
from torch import nn

from policykd.kd.losses import CC, CE, CRD, KD, RKD, SP
from policykd.kd.networks import MLP, resnet
from policykd.kd.objective.loss_call import FunctionLoss
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Linear
from policykd.kd.objective.terms import Term
from policykd.kd.training.batches import Batch, Batches
from policykd.kd.training.step import StepSetting, backward_step


def objective() -> Objective:
    torch.manual_seed(5)
    return Objective(
        ce=0.5 * Term(CE()),
        kd=Term(KD(temperature=4.0)),
        sp=10 * Term(SP()).on("hidden1"),
        cc=Term(CC()).on("hidden2", student_proj=Linear(6, 8)),
        rkd=Term(RKD()).on("hidden2"),
        crd=0.1 * Term(CRD(24, 6, 9, dim=4, negatives=5)).on("hidden1"),
    )


def networks(**options) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return MLP((4,), (6, 6), classes=3, **options), MLP((4,), (9, 8), classes=3).eval()


def batch_of(size: int) -> Batch:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(24, 4, generator=generator), torch.randint(0, 3, (24,), generator=generator)
    return Batch(x[:size], y[:size], torch.arange(size), (size,))


def gradients(parts: int, size: int = 12, **options) -> tuple[float, list[torch.Tensor], dict[str, torch.Tensor]]:
    student, teacher = networks(**options)
    student, teacher, terms = student.double(), teacher.double(), objective().double()
    batch = batch_of(size)
    batch = Batch(batch.x.double(), batch.targets, batch.index, batch.sizes)
    torch.manual_seed(11)
    out = backward_step(student, teacher, terms, batch, StepSetting(micro_batches=parts), number=3, step=0, total=1)
    grads = [p.grad for p in (*student.parameters(), *terms.parameters())]
    return out.loss.item(), grads, terms.state_dict()


@pytest.mark.parametrize("parts", [2, 4, 5])
def test_micro_batches_change_neither_loss_nor_gradient_nor_memory(parts):
    loss, grads, memory = gradients(1)
    split_loss, split_grads, split_memory = gradients(parts)
    assert split_loss == pytest.approx(loss, rel=1e-12)
    for whole, split in zip(grads, split_grads, strict=True):
        torch.testing.assert_close(split, whole, rtol=1e-10, atol=1e-12)
    assert any(key.endswith("student_bank") for key in memory)
    for key, value in memory.items():
        torch.testing.assert_close(split_memory[key], value, rtol=1e-10, atol=1e-12)


def test_averaging_the_losses_of_the_parts_would_not_do():
    """The check above can fail: relational losses of half batches do not average to that of the whole."""
    student, teacher = networks()
    terms = Objective(sp=Term(SP()).on("hidden1"))
    batch = batch_of(12)
    whole = terms(student, teacher, batch.x).loss.item()
    halves = [terms(student, teacher, part).loss.item() for part in batch.x.split(6)]
    assert abs(sum(halves) / 2 - whole) > 0.01 * whole


def test_dropout_masks_agree_between_the_two_passes():
    """With two passes per part, a different mask in the second would give another gradient than the loss has."""
    _, grads, _ = gradients(3, dropout=0.5)
    student, teacher = networks(dropout=0.5)
    student, teacher, terms, batch = student.double(), teacher.double(), objective().double(), batch_of(12)
    torch.manual_seed(11)
    with torch.enable_grad():
        parts = [terms.student_signals(student, x.double()) for x in batch.x.split(4)]
    state = torch.get_rng_state()
    whole = type(parts[0]).concatenated(parts)
    torch.manual_seed(3)
    out = terms.combine(
        whole, terms.teacher_signals(teacher, batch.x.double()), batch.targets, index=batch.index, step=0
    )
    out.loss.backward()
    for expected, got in zip([*student.parameters(), *terms.parameters()], grads, strict=True):
        torch.testing.assert_close(got, expected.grad, rtol=1e-10, atol=1e-12)
    gradients(3, dropout=0.5)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_a_loss_draws_depends_on_seed_and_step_alone():
    student, teacher = networks()
    terms = Objective(noise=Term(FunctionLoss(lambda mine, theirs: torch.rand(()) + 0 * mine.sum())))

    def drawn(state: int, seed: int, number: int) -> float:
        torch.manual_seed(state)
        setting = StepSetting(seed=seed)
        out = backward_step(student, teacher, terms, batch_of(12), setting, number=number, step=0, total=1)
        after = torch.rand(())
        torch.manual_seed(state)
        assert torch.equal(torch.rand(()), after)  # the stream of the caller, and of dropout, goes on as if untouched
        return out.loss.item()

    assert drawn(0, 3, 5) == drawn(1, 3, 5)
    assert len({drawn(0, seed, number) for seed in (3, 4) for number in (5, 6)}) == 4


def test_frozen_and_unreached_layers_are_left_alone():
    student, teacher = networks()
    student.hidden1.requires_grad_(False)
    terms = Objective(first=Term(SP()).on("hidden1"), second=Term(SP()).on("hidden2"))
    backward_step(student, teacher, terms, batch_of(12), StepSetting(micro_batches=3), number=0, step=0, total=1)
    assert student.hidden1[0].weight.grad is None
    assert student.hidden2[0].weight.grad is not None
    assert student.fc.weight.grad is None


def test_running_statistics_count_every_part_once():
    torch.manual_seed(0)
    student, teacher = resnet(8), resnet(8).eval()
    x, y = torch.randn(8, 3, 8, 8), torch.randint(0, 10, (8,))
    expected = copy.deepcopy(student)
    for part in x.split(4):
        expected(part)
    batch = Batch(x, y, torch.arange(8), (8,))
    terms = Objective(ce=CE(), kd=KD())
    backward_step(student, teacher, terms, batch, StepSetting(micro_batches=2), number=0, step=0, total=1)
    for name, buffer in student.named_buffers():
        torch.testing.assert_close(buffer, expected.get_buffer(name))


def test_mixed_precision_keeps_losses_in_float32_and_gradients_close():
    plain, rough = networks()[0], networks()[0]
    teacher, batch = networks()[1], batch_of(12)
    outs = [
        backward_step(net, teacher, objective(), batch, StepSetting(amp=amp), number=0, step=0, total=1)
        for net, amp in ((plain, False), (rough, True))
    ]
    assert outs[1].loss.dtype == torch.float32
    assert outs[0].loss != outs[1].loss
    torch.testing.assert_close(outs[1].loss, outs[0].loss, rtol=0.05, atol=0.05)
    a, b = (torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (plain, rough))
    assert float(torch.cosine_similarity(a, b, dim=0)) > 0.99


def test_batches_cover_the_data_once_in_an_order_of_seed_and_epoch_alone():
    x, y = torch.arange(10.0)[:, None], torch.arange(10) % 3
    batches = Batches((x, y), 4, seed=1)
    epochs = [[b.index for b in batches.epoch(e)] for e in (0, 1)]
    assert sorted(torch.cat(epochs[0]).tolist()) == list(range(10))
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    again = [b.index for b in Batches((x, y), 4, seed=1).epoch(1, start=1)]
    assert all(torch.equal(a, b) for a, b in zip(again, epochs[1][1:], strict=True))
    for batch in batches.epoch(0):
        assert torch.equal(batch.x[:, 0].long() % 3, batch.targets)


def test_shares_of_two_processes_make_up_the_batch_of_one():
    x, y = torch.randn(11, 2), torch.zeros(11, dtype=torch.long)

    def jitter(x, generator):
        return x + torch.rand(x.shape, generator=generator)

    one = list(Batches((x, y), 5, augment=jitter).epoch(0))
    ranks = [list(Batches((x, y), 5, augment=jitter, rank=r, world=2).epoch(0)) for r in (0, 1)]
    for whole, first, second in zip(one, *ranks, strict=False):
        assert torch.equal(torch.cat([first.x, second.x]), whole.x)
        assert first.sizes == (3, 2)
    assert len(one) == 3
    assert len(ranks[0]) == 2  # one leftover sample cannot be shared by two


def test_map_style_data_sets_work_and_bad_ones_are_refused():
    pairs = [(torch.full((2,), float(i)), i % 3) for i in range(7)]
    batch = next(Batches(pairs, 4, shuffle=False).epoch(0))
    assert torch.equal(batch.x[:, 0], torch.arange(4.0))
    assert torch.equal(batch.targets, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match="4 inputs but 3 labels"):
        Batches((torch.zeros(4, 1), torch.zeros(3)), 2)
    with pytest.raises(ValueError, match="no batch of 8"):
        Batches((torch.zeros(4, 1), torch.zeros(4)), 8, drop_last=True)
