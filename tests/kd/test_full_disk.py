"""A disk that is full while weights are written ends in one line, and leaves no half file."""

import resource
import signal

import pytest
import torch
from torch import nn

from policykd.errors import OutputError
from policykd.kd.training import checkpoint, export


@pytest.fixture
def small_disk():
    """Files that cannot grow beyond 4096 bytes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: export.save_weights(nn.Linear(100, 100), path),
        lambda path: checkpoint.save(path, {"weights": torch.zeros(10_000)}),
    ],
)
def test_a_full_disk_is_named_with_the_file(write, small_disk, tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*a\.safetensors: File too large"):
        write(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
