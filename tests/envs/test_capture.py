"""Work that is captured: called, recorded, replayed; and the tape that stands for a CUDA graph on the CPU."""

import pytest
import torch
from tape import record_tape

from policykd.envs.capture import Captured, no_garbage_collection, recorder_for


def test_every_call_does_the_work_once():
    total, calls = torch.zeros(3), []

    def work():
        calls.append(1)
        total.add_(1.0)
        return total * 2

    captured = Captured(work, record_tape)
    results = [captured().clone() for _ in range(6)]
    assert [r[0].item() for r in results] == [2, 4, 6, 8, 10, 12]
    assert len(calls) == 3, "two plain calls and the recording"
    captured.forget()
    assert captured()[0].item() == 14
    assert len(calls) == 4


def test_a_replay_returns_the_same_tensor_and_draws_on():
    draw = torch.Generator().manual_seed(0)
    captured = Captured(lambda: torch.rand(2, generator=draw), record_tape, [draw])
    got = [captured() for _ in range(5)]
    assert got[3] is got[4]
    expected = torch.Generator().manual_seed(0)
    assert torch.equal(got[4], [torch.rand(2, generator=expected) for _ in range(5)][4])


def test_without_a_recorder_work_is_called():
    captured = Captured(lambda: torch.zeros(2), None)
    assert captured() is not captured()
    assert recorder_for(torch.device("cpu")) is None


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
        lambda x: bool((x > 0).all()),
    ],
    ids=["item", "mask", "nonzero", "tensor", "bool"],
)
def test_what_a_graph_refuses_is_refused(work):
    with pytest.raises(AssertionError, match="cannot be recorded"):
        record_tape(lambda: work(torch.randn(3)))


def test_a_generator_must_be_named():
    draw = torch.Generator()
    with pytest.raises(AssertionError, match="not named"):
        record_tape(lambda: torch.rand(2, generator=draw))


def test_a_tape_shows_what_changed_behind_its_back():
    """A tensor that is replaced and a number that changes are not seen by a replay, as by a graph."""
    state = {"x": torch.zeros(1), "k": 1.0}
    replay = record_tape(lambda: state["x"] + state["k"])
    assert replay().item() == 1.0
    state["x"] = torch.ones(1)
    assert replay().item() == 1.0
    state["k"] = 5.0
    assert replay().item() == 1.0


def test_garbage_waits():
    import gc

    assert gc.isenabled()
    with no_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
