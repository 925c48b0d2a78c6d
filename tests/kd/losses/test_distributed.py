"""Two gloo processes against one: relational losses with gathered batches, and CRD's memory, Z and negatives."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from children import join_children, start_children
from policykd.kd import losses

RELATIONAL = {
    "sp": losses.SP,
    "cc": losses.CC,
    "rkd": losses.RKD,
    "pkt": losses.PKT,
    "dist": losses.DIST,
    "mlkd": losses.MLKD,
}


def relational_step(rank, world):
    """Loss and gradient of a small network, averaged over processes as data-parallel training does."""
    torch.manual_seed(0)
    net = nn.Linear(6, 5).double()
    x, goal = torch.randn(8, 6).double(), torch.randn(8, 5).double()
    part = slice(rank * 8 // world, (rank + 1) * 8 // world)
    results = {}
    for name, kind in RELATIONAL.items():
        net.zero_grad()
        value = kind(gather_distributed=True)(net(x[part]), goal[part])
        value.backward()
        gradient = net.weight.grad.clone()
        if world > 1:
            dist.all_reduce(gradient)
        results[name] = (value.item(), gradient / world)
    return results


def crd_run(rank, world):
    torch.manual_seed(0)
    loss = losses.CRD(40, 6, 5, dim=4, negatives=9, labels=torch.arange(40) % 4).double()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(5)
    values = []
    for _ in range(4):
        index = torch.randperm(40, generator=generator)[:8]
        s = torch.randn(8, 6, generator=generator).double()
        t = torch.randn(8, 5, generator=generator).double()
        part = slice(rank * 8 // world, (rank + 1) * 8 // world)
        optimizer.zero_grad()
        value = loss(s[part], t[part], index[part])
        value.backward()
        total = value.detach().clone()
        if world > 1:
            dist.all_reduce(total)
            for parameter in loss.parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= world
        values.append(total.item() / world)
        optimizer.step()
    return values, {k: v.clone() for k, v in loss.state_dict().items()}


def worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save((relational_step(rank, 2), crd_run(rank, 2)), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Results of both processes, in the order of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    assert join_children(start_children(worker, *((rank, folder) for rank in (0, 1)))) == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", RELATIONAL)
def test_relational_losses_equal_one_process(two_processes, name):
    value, gradient = relational_step(0, 1)[name]
    for relational, _ in two_processes:
        assert relational[name][0] == pytest.approx(value, rel=1e-10)
        torch.testing.assert_close(relational[name][1], gradient, rtol=1e-9, atol=1e-11)


def test_crd_equals_one_process(two_processes):
    values, state = crd_run(0, 1)
    for _, (theirs, their_state) in two_processes:
        assert theirs == pytest.approx(values, rel=1e-9)
        for key, value in state.items():
            torch.testing.assert_close(their_state[key], value, rtol=1e-9, atol=1e-11)


def test_gathering_needs_a_mean():
    with pytest.raises(ValueError, match="gather_distributed needs reduction mean"):
        losses.SP(gather_distributed=True, reduction="sum")
