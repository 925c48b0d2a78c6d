"""Run folders: refused, resumed, cut back and finished."""

import json
import subprocess
import sys
import threading
import time
import zipfile

import pytest
import torch

from children import start_children
from policykd import runs
from policykd.errors import ConfigError, OutputError
from policykd.runs import RunFolder
from policykd.storage import prepare_folder, write_bytes, write_json


def test_a_folder_with_a_run_needs_resume(tmp_path):
    RunFolder(tmp_path, {"steps": 1}, resume=False)
    with pytest.raises(OutputError, match="--resume"):
        RunFolder(tmp_path, {"steps": 1}, resume=False)
    RunFolder(tmp_path, {"steps": 1}, resume=True)


def test_resume_names_the_field_that_differs(tmp_path):
    RunFolder(tmp_path, {"train": {"steps": 1, "seed": 0}}, resume=False)
    with pytest.raises(ConfigError, match=r"train\.steps: 1 in the folder, 2 now"):
        RunFolder(tmp_path, {"train": {"steps": 2, "seed": 0}}, resume=True)


def test_a_checkpoint_of_a_device_is_read_without_it(tmp_path):
    folder = RunFolder(tmp_path, {}, resume=False)
    folder.save_checkpoint({"weights": torch.arange(3.0)})
    file, moved = tmp_path / "checkpoint.pt", tmp_path / "moved.pt"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(moved, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):  # the place of a tensor is a text of its own length
                assert b"X\x03\x00\x00\x00cpu" in content
                content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(name, content)
    moved.replace(file)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(file, weights_only=True)
    assert folder.load_checkpoint()["weights"].tolist() == [0, 1, 2]


def test_log_is_cut_back_to_the_checkpoint(tmp_path):
    folder = RunFolder(tmp_path, {}, resume=False)
    folder.append({"steps": 1})
    folder.save_checkpoint({"weights": torch.arange(3)})
    folder.append({"steps": 2})
    with (tmp_path / "progress.jsonl").open("a") as file:
        file.write('{"steps": 3')  # killed in the middle of a line
    state = RunFolder(tmp_path, {}, resume=True).load_checkpoint()
    assert state["weights"].tolist() == [0, 1, 2]
    assert folder.log() == [{"steps": 1}]


def test_a_log_without_a_checkpoint_starts_again(tmp_path):
    folder = RunFolder(tmp_path, {}, resume=False)
    folder.append({"steps": 1})
    assert folder.load_checkpoint() is None
    assert folder.log() == []


def test_checkpoints_do_not_execute_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    folder = RunFolder(tmp_path, {}, resume=False)
    torch.save({"bomb": Bomb()}, tmp_path / "checkpoint.pt")
    with pytest.raises(OutputError, match=r"checkpoint\.pt"):
        folder.load_checkpoint()
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_of_another_version_is_refused_with_the_cure(tmp_path):
    folder = RunFolder(tmp_path, {}, resume=False)
    torch.save({"average": {"normaliser.mean": torch.zeros(1)}, "log_rows": 0}, tmp_path / "checkpoint.pt")
    with pytest.raises(OutputError, match=r"written by another version of policykd; .* delete it to start over"):
        folder.load_checkpoint()


def test_truncated_checkpoint_is_refused(tmp_path):
    folder = RunFolder(tmp_path, {}, resume=False)
    folder.save_checkpoint({"weights": torch.arange(1000)})
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(OutputError, match="cannot be read"):
        folder.load_checkpoint()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_json(file, {"value": 1})
    monkeypatch.setattr("policykd.storage.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        write_json(file, {"value": 2})
    assert json.loads(file.read_text()) == {"value": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_unwritable_output_is_said_first(tmp_path):
    write_bytes(tmp_path / "file", b"")
    with pytest.raises(OutputError, match="choose another --out"):
        prepare_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="MB are free"):
        prepare_folder(tmp_path / "folder", megabytes=1e12)


def hold(path, what, held):
    """Open a folder in a process of its own, and stay there."""
    folder = RunFolder(path, {"steps": 1}, resume=True)
    if what == "finish":
        folder.finish({})
    held.touch()
    time.sleep(60)


@pytest.fixture
def other_process(tmp_path_factory):
    started = []

    def start(path, what):
        held = tmp_path_factory.mktemp("other") / "held"
        started.extend(start_children(hold, (path, what, held)))
        for _ in range(600):
            if held.exists():
                return started[-1]
            time.sleep(0.1)
        return pytest.fail("the folder was not opened within a minute")

    yield start
    for process in started:
        process.kill()
        process.join()


def test_two_processes_cannot_work_in_one_folder(tmp_path, monkeypatch, other_process):
    monkeypatch.setattr(runs, "PATIENCE", 0.2)
    other = other_process(tmp_path, "work")
    with pytest.raises(OutputError, match=f"another process is working in {tmp_path}"):
        RunFolder(tmp_path, {"steps": 1}, resume=True)
    other.kill()  # kill -9 leaves nothing behind that would have to be removed by hand
    other.join()
    RunFolder(tmp_path, {"steps": 1}, resume=True)


def test_a_job_that_ends_in_time_is_waited_for(tmp_path, other_process):
    other = other_process(tmp_path, "work")
    threading.Timer(0.5, other.kill).start()
    RunFolder(tmp_path, {"steps": 1}, resume=True)


def test_a_finished_run_may_be_opened_by_any_process(tmp_path, monkeypatch, other_process):
    monkeypatch.setattr(runs, "PATIENCE", 0.0)
    other_process(tmp_path, "finish")
    assert RunFolder(tmp_path, {"steps": 1}, resume=True).result == {}


def test_one_process_may_open_its_own_folder_again(tmp_path):
    first = RunFolder(tmp_path, {"steps": 1}, resume=False)
    RunFolder(tmp_path, {"steps": 1}, resume=True).append({"steps": 2})
    assert first.log() == [{"steps": 2}]


@pytest.mark.parametrize("stopped_at", ["write", "replace"])
def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path, stopped_at):
    """Of the run and of runs within it; files of the user stay, whatever their names are."""
    folder = tmp_path / "run"
    (folder / "experts" / "flat").mkdir(parents=True)
    code = """
import os, pathlib, sys
from policykd import storage
folder, stopped_at = pathlib.Path(sys.argv[1]), sys.argv[2]
if stopped_at == "write":
    os.fsync = lambda descriptor: os._exit(9)
else:
    pathlib.Path.replace = lambda path, target: os._exit(9)
storage.write_text(folder / "experts" / "flat" / "stage.json", "{}")
"""
    assert subprocess.run([sys.executable, "-c", code, str(folder), stopped_at], check=False).returncode == 9
    begun = [path.name for path in folder.rglob("*") if path.is_file()]
    assert len(begun) == 1
    (folder / ".film.mp4.0123abcd.tmp.mp4").touch()
    copied = folder / ".policy.0123abcd.tmp"
    copied.mkdir()
    (copied / "weights").touch()
    for name in (".notes.tmp", "mine.tmp", ".draft.0123ABCD.tmp"):
        (folder / name).touch()
    run = RunFolder(folder, {"seed": 1}, resume=True)
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {
        ".lock", "config.json", ".notes.tmp", "mine.tmp", ".draft.0123ABCD.tmp",
    }  # fmt: skip
    assert not copied.exists()
    (folder / ".policy.89abcdef.tmp").touch()
    again = RunFolder(folder, {"seed": 1}, resume=True)
    assert (folder / ".policy.89abcdef.tmp").exists(), "this process may be writing it"
    del run, again
