"""Logs of runs in trackers: every row once and in order, also while it is written; the packages themselves offline."""

import json
import sys
import threading
import time

import pytest

from policykd import tracking
from policykd.cli.main import main
from policykd.errors import MissingDependencyError, OutputError, UnknownNameError
from policykd.tracking import flatten, track_run

ROWS = [
    {"steps": 0, "skills": {"biped/flat": {"success": 0.5}}, "rolled_back": False, "name": "x"},
    {"steps": 128, "skills": {"biped/flat": {"success": 0.75}}, "rolled_back": True, "note": None},
]
FIGURES = [{"steps": 0.0, "skills/biped/flat/success": 0.5, "rolled_back": 0.0},
           {"steps": 128.0, "skills/biped/flat/success": 0.75, "rolled_back": 1.0}]  # fmt: skip


class Memory:
    """A tracker that keeps what it gets."""

    made = None

    def __init__(self, *arguments):
        self.arguments, self.rows, self.finished = arguments, [], 0
        Memory.made = self

    def log(self, figures, step):
        self.rows.append((step, figures))

    def finish(self):
        self.finished += 1


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setitem(tracking.TRACKERS, "memory", Memory)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "my-run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"train": {"steps": 128}}))
    (folder / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def test_numbers_keep_the_names_around_them():
    assert [flatten(row) for row in ROWS] == FIGURES
    assert flatten({"a": {"b": {"c": 1}}, "d": [1], "e": "f"}) == {"a/b/c": 1.0}


def test_every_row_is_sent_at_its_step(run, memory):
    (run / "progress.jsonl").open("a").write('{"steps": 256')  # not yet whole
    assert track_run(run, "memory", project="p", offline=True) == 2
    assert Memory.made.arguments == ("p", "my-run", {"train": {"steps": 128}}, run, True)
    assert Memory.made.rows == list(zip((0, 128), FIGURES, strict=True))
    assert Memory.made.finished == 1


def test_states_rounds_and_rows_count_where_steps_do_not(run, memory):
    (run / "progress.jsonl").write_text('{"round": 1, "states": 50}\n{"round": 2}\n{"loss": 0.5}\n')
    track_run(run, "memory", name="other")
    assert [step for step, _ in Memory.made.rows] == [50, 2, 2]
    assert Memory.made.arguments[1] == "other"


def test_a_run_is_followed_to_its_end(run, memory):
    def write():
        time.sleep(0.05)
        with (run / "progress.jsonl").open("a") as file:
            file.write('{"steps": 256}\n')
        (run / "result.json").write_text("{}")

    thread = threading.Thread(target=write)
    thread.start()
    assert track_run(run, "memory", follow=True, pause=0.01) == 3
    thread.join()
    assert Memory.made.rows[2] == (256, {"steps": 256.0})


def test_what_is_wrong_is_named(run, tmp_path, monkeypatch, capsys):
    with pytest.raises(UnknownNameError, match="did you mean wandb"):
        track_run(run, "wanbd")
    with pytest.raises(OutputError, match=r"no config\.json"):
        track_run(tmp_path, "wandb")
    for name in ("wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingDependencyError, match=rf"policykd\[{name}\]"):
            track_run(run, name)
    assert main(["track", str(run), "--to", "wandb", "--offline"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_wandb_offline(run, capsys):
    pytest.importorskip("wandb", reason="the extra [wandb] is not installed")
    assert main(["track", str(run), "--to", "wandb", "--offline"]) == 0
    assert "wandb: 2 rows" in capsys.readouterr().out
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert content.count(b"skills/biped/flat/success") >= 2
    assert b"0.75" in content
    assert json.loads((run / "config.json").read_text()) == {"train": {"steps": 128}}


def test_trackio(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="the extra [trackio] is not installed")
    assert track_run(run, "trackio", project="p") == 2
    assert list((tmp_path / "trackio").rglob("p*.db"))
