"""A disk that is full while weights are written ends in one line, and leaves no half file."""

import pytest
from safetensors import SafetensorError
from torch import nn

from policykd.errors import OutputError
from policykd.kd.training import checkpoint, export


@pytest.mark.parametrize(
    ("module", "write"),
    [
        (export, lambda path: export.save_weights(nn.Linear(2, 2), path)),
        (checkpoint, lambda path: checkpoint.save(path, {"step": 1})),
    ],
)
def test_a_full_disk_is_named_with_the_file(module, write, tmp_path, monkeypatch):
    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: File too large (os error 27)")

    monkeypatch.setattr(module, "save_file", fail)
    with pytest.raises(OutputError, match=r"cannot write .*a\.safetensors: I/O error: File too large"):
        write(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
