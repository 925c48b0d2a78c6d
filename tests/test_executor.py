"""Executors: order, progress across processes, and failure."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from executor_jobs import fail, square, supervise, wait_for
from policykd.errors import ConfigError
from policykd.executor import Inline, Processes


class Notes:
    """Progress that takes notes."""

    def __init__(self):
        self.notes = []

    def begin(self, name, total, unit):
        self.notes.append(("begin", name, total, unit))

    def update(self, name, done, **figures):
        self.notes.append(("update", name, done, figures))

    def end(self, name, message=""):
        self.notes.append(("end", name, message))


@pytest.fixture(scope="module", params=[Inline(), Processes(2)])
def mapped(request):
    """Executor, the results of three jobs, what was reported, and the results as they were told."""
    notes, told = Notes(), []
    return request.param, request.param.map(square, [0, 1, 2], notes, told.append), notes.notes, told


def test_results_are_in_order_and_progress_arrives(mapped):
    _, results, notes, _ = mapped
    assert [r[0] for r in results] == [0, 1, 4]
    for job in range(3):
        mine = [n for n in notes if n[1] == f"job {job}"]
        assert mine == [
            ("begin", f"job {job}", 1, "squares"),
            ("update", f"job {job}", 1, {"square": job * job}),
            ("end", f"job {job}", "done"),
        ]


def test_every_result_is_told_once(mapped):
    _, results, _, told = mapped
    assert sorted(told) == sorted(results)


def test_processes_are_other_processes(mapped):
    executor, results, _, _ = mapped
    assert (os.getpid() in {pid for _, pid in results}) == isinstance(executor, Inline)


def test_a_result_is_told_while_others_are_still_at_work(tmp_path):
    told = tmp_path / "told"
    assert Processes(2).map(wait_for, [told, None], Notes(), lambda result: told.touch()) == [True, True]


@pytest.mark.parametrize("executor", [Inline(), Processes(2)])
def test_the_first_failure_is_raised(executor):
    with pytest.raises(ConfigError, match="job 1 is wrong"):
        executor.map(fail, [0, 1, 2, 3, 4, 5], Notes())


@pytest.mark.parametrize("executor", [Inline(), Processes(1)])
def test_workers_are_kept(executor):
    with executor.keep_workers():
        found = [executor.map(square, [number], Notes()) for number in (0, 1)]
        with pytest.raises(ConfigError, match="job 1 is wrong"):
            executor.map(fail, [1], Notes())
        found.append(executor.map(square, [2], Notes()))  # a failure ends the workers; others take their place
        processes = multiprocessing.active_children()
    squares, (first, second, third) = zip(*(result for (result,) in found), strict=True)
    assert squares == (0, 1, 4)
    assert first == second
    assert (third == first) == isinstance(executor, Inline)
    assert not [process for process in processes if process.is_alive()]


def test_no_workers_are_refused():
    with pytest.raises(ConfigError, match="workers"):
        Processes(0)


def test_jobs_of_a_killed_parent_end(tmp_path):
    """kill -9 of the parent: the job must not go on writing beside a resumed run."""
    file = tmp_path / "ticks"
    parent = multiprocessing.get_context("spawn").Process(target=supervise, args=(file,))
    parent.start()
    for _ in range(200):
        if file.exists():
            break
        time.sleep(0.1)
    parent.kill()
    parent.join()
    time.sleep(1.0)
    last = file.read_text()
    time.sleep(0.5)
    assert file.read_text() == last
    assert int(last) < 900


COMMAND = """
import signal, sys, time
sys.path.insert(0, {folder!r})

if __name__ == "__main__":  # the workers load this file, too, and need none of it
    from policykd.cli.commands.describe import Describe
    from policykd.cli.main import main
    from policykd.executor import Processes
    from policykd.progress import Silent
    from executor_jobs import sleep_on

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    Describe.run = lambda self, console: Processes(2).map(sleep_on, [{ready!r} + str(i) for i in range(2)], Silent())
    sys.exit(main(["describe", "policy"]))
"""


def processes_of(session):
    """Return the processes of a session that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 1), (signal.SIGINT, 1)])
def test_no_process_is_left_behind(number, status, tmp_path):
    """Jobs that report nothing, the queue's server and the tracker of resources end with the command."""
    script = tmp_path / "command.py"
    script.write_text(COMMAND.format(folder=str(Path(__file__).parent), ready=str(tmp_path / "ready")))
    parent = subprocess.Popen([sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(tmp_path.glob("ready*"))) == 2, "the jobs have begun")
        assert len(processes_of(parent.pid)) >= 4
        parent.send_signal(number)
        assert parent.wait(30) == status
        wait_until(lambda: not processes_of(parent.pid), "all processes have ended")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)


def wait_until(condition, what):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"not after a minute: {what}")
