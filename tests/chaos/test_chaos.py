"""The chaos run finds what is lost: its cases are tried on a small program in the place of policykd's commands."""

import json
import sys

import chaos_campaign
import pytest
from chaos_campaign import CASES, draw, killed_case, read_only_case, reference, two_at_once_case
from chaos_runs import RUNS, Run, differences, fingerprint, leftovers, steady

PROGRAM = """
import fcntl, json, pathlib, sys, time
out, careless = pathlib.Path(sys.argv[1]), "careless" in sys.argv
out.mkdir(parents=True, exist_ok=True)
lock = open(out / ".lock", "w")
time.sleep(0.2 if "slow to lock" in sys.argv else 0.0)
try:
    fcntl.flock(lock, fcntl.LOCK_UN if "unlocked" in sys.argv else fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit("another process works in this folder")
kept = out / "count.json"
count = json.loads(kept.read_text())["count"] if kept.exists() and not careless else 0
total = 0 if not careless else time.time_ns() % 1000
while count < 10:
    time.sleep(0.01)
    count += 1
    (out / "new").write_text(json.dumps({"count": count, "seconds": time.time()}))
    (out / "new").replace(kept)
(out / "result.json").write_text(json.dumps({"total": total + count, "wall_seconds": time.time()}))
"""


class Program(Run):
    def command(self, out, *, resume, folder):
        return [sys.executable, "-c", PROGRAM, str(out), *self.words]


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    for name in ("careful", "careless", "slow to lock", "unlocked"):
        monkeypatch.setitem(chaos_campaign.RUNS, name, Program((name,)))


def test_a_program_that_resumes_is_equal_after_kills(tmp_path):
    hits = 0
    for case in range(3):
        found, fault = killed_case("careful", 0, case, tmp_path)
        assert fault is None
        hits += found
    assert hits >= 1
    assert not list(tmp_path.glob("case-*")), "what is equal is not kept"


def test_a_program_that_does_not_is_reported(tmp_path):
    assert killed_case("careless", 0, 0, tmp_path)[1] == "differ: result.json"
    assert (tmp_path / "case-0" / "result.json").exists(), "what differs is kept"


def test_a_second_process_is_refused_and_the_first_ends(tmp_path):
    assert two_at_once_case("slow to lock", 0, 0, tmp_path) == (1, None)


def test_two_processes_in_one_folder_are_a_fault(tmp_path):
    assert two_at_once_case("unlocked", 0, 0, tmp_path)[1].startswith("ended with 0")


def test_a_traceback_in_a_folder_that_cannot_be_written_is_a_fault(tmp_path):
    fault = read_only_case("careful", 0, 0, tmp_path)[1]
    assert fault.startswith("a traceback: ")


def test_a_program_that_fails_has_no_reference(tmp_path, monkeypatch):
    monkeypatch.setitem(chaos_campaign.RUNS, "broken", Program(()))
    monkeypatch.setattr(Program, "command", lambda *_, **__: [sys.executable, "-c", "raise SystemExit('no')"])
    with pytest.raises(RuntimeError, match="no"):
        reference(RUNS["broken"], tmp_path)


def test_moments_depend_on_command_seed_and_case_only():
    first = draw("merge", 0, 1).random()
    assert draw("merge", 0, 1).random() == first
    assert first not in {draw("merge", 0, 2).random(), draw("merge", 1, 1).random(), draw("train", 0, 1).random()}


def test_what_must_be_equal(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights.safetensors").write_bytes(b"x")
    (tmp_path / "log.jsonl").write_text(json.dumps({"loss": 1, "cpu_seconds": 2}) + "\n")
    (tmp_path / "page.html").write_text("")
    (tmp_path / "b.tmp").write_text("")
    (tmp_path / ".film.mp4.0123abcd.tmp.mp4").write_text("")
    found = fingerprint(tmp_path)
    assert found.keys() == {"a/weights.safetensors", "log.jsonl"}
    assert found["log.jsonl"] == [{"loss": 1}]
    (tmp_path / "a" / "weights.safetensors").write_bytes(b"y")
    assert differences(found, fingerprint(tmp_path)) == ["a/weights.safetensors"]
    assert differences(found, {}) == sorted(found)
    assert leftovers(tmp_path) == [".film.mp4.0123abcd.tmp.mp4", "b.tmp"]
    assert steady({"seconds": 1, "x": [{"wall_seconds": 2, "steps": 3}]}) == {"x": [{"steps": 3}]}


def test_all_commands_that_train_are_killed():
    assert list(RUNS)[:6] == ["train", "merge", "plaid", "finetune", "kd bench", "kd run"]
    assert set(CASES) == {"kill", "small disk", "read-only", "two at once"}
