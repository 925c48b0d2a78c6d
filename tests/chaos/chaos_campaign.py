"""Runs that are killed at random moments, run out of disk, cannot write, or meet each other in one folder."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from chaos_runs import RUNS, differences, fingerprint, leftovers

LIMIT_S = 900
"""Time after which a session counts as hanging."""

_SMALL_DISK = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv = ["policykd", *sys.argv[1:]]
runpy.run_module("policykd.cli.main", run_name="__main__")
"""
"""Runs the command where no file can grow beyond a size: writing fails as on a full disk."""


def session(command, log):
    """Start a session of its own, so that all its processes can be killed together."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=settings, start_new_session=True)


def finish(command, log):
    """Return the status of a session that runs to its end."""
    process = session(command, log)
    try:
        return process.wait(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        kill(process)
        return "hangs"


def kill(process):
    """Kill -9 all processes of a session."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def begun(process, out):
    """Wait until the run holds its folder and writes its first file, or ends; return whether it still runs.

    A lock file alone does not tell: it is made before it is locked.
    """
    while process.poll() is None:
        if out.exists() and any(path.is_file() and path.name != ".lock" for path in out.rglob("*")):
            return True
        time.sleep(0.005)
    return False


def reference(run, folder):
    """Run a command without interruption, once; return fingerprint and seconds from its first file to its end."""
    out, log = folder / "whole", folder / "whole.log"
    if not (folder / "seconds").exists():
        shutil.rmtree(out, ignore_errors=True)
        process = session(run.command(out, resume=False, folder=folder), log)
        begun(process, out)
        began = time.perf_counter()
        if process.wait(timeout=LIMIT_S) != 0:
            raise RuntimeError(f"the uninterrupted run failed:\n{log.read_text()[-3000:]}")
        (folder / "seconds").write_text(str(time.perf_counter() - began))
    return fingerprint(out), float((folder / "seconds").read_text())


def draw(name, seed, case):
    """Return the source of a case's moments, which depends on nothing else."""
    return random.Random(hashlib.sha256(f"{name}/{seed}/{case}".encode()).digest())


def killed_case(name, seed, case, folder):
    """Kill a run one to three times, resume it to its end and compare.

    Returns:
        The number of kills that hit it, and what is wrong, or None.
    """
    run, source = RUNS[name], draw(name, seed, case)
    whole, seconds = reference(run, folder)
    out, log, hits = folder / f"case-{case}", folder / f"case-{case}.log", 0
    shutil.rmtree(out, ignore_errors=True)
    log.unlink(missing_ok=True)
    for _ in range(source.randint(1, 3)):
        command = run.command(out, resume=out.exists(), folder=folder)
        process, moment = session(command, log), source.uniform(0.0, seconds)
        if hits:  # a session that goes on has written files before: its moments begin with the process
            moment += source.uniform(0.0, 5.0)
        elif not begun(process, out):
            break
        try:
            process.wait(timeout=moment)
            break
        except subprocess.TimeoutExpired:
            kill(process)
            hits += 1
    status = finish(run.command(out, resume=out.exists(), folder=folder), log)
    fault = judge(whole, out, log, status)
    if fault is None:
        shutil.rmtree(out)
        log.unlink()
    return hits, fault


def judge(whole, out, log, status):
    """Return what is wrong with a finished run, or None."""
    if status != 0:
        return f"the last session ended with {status}: {log.read_text(errors='replace')[-1500:]}"
    if differ := differences(whole, fingerprint(out)):
        return f"differ: {', '.join(differ[:8])}"
    if left := leftovers(out):
        return f"left behind: {', '.join(left[:8])}"
    return None


def refused(status, text):
    """Return what is wrong with a session that had to fail, or None: it ends with one message and no traceback."""
    if status not in (1, 2):
        return f"ended with {status}: {text[-1500:]}"
    if "Traceback" in text:
        return f"a traceback: {text[-1500:]}"
    return None if text.strip() else "no message"


def small_disk_case(name, seed, case, folder):
    """Let writes fail beyond a random size, then resume with room and compare."""
    run, source = RUNS[name], draw(name, seed, f"disk {case}")
    whole, _ = reference(run, folder)
    out, log = folder / f"disk-{case}", folder / f"disk-{case}.log"
    shutil.rmtree(out, ignore_errors=True)
    log.unlink(missing_ok=True)
    sizes = sorted(path.stat().st_size for path in (folder / "whole").rglob("*") if path.is_file())
    limit = source.randint(64, max(65, sizes[-1] - 1))
    words = run.command(out, resume=False, folder=folder)[3:]
    status = finish([sys.executable, "-c", _SMALL_DISK, str(limit), *words], log)
    if status != 0 and (fault := refused(status, log.read_text(errors="replace"))):
        return 1, f"files of at most {limit} bytes: {fault}"
    status = finish(run.command(out, resume=out.exists(), folder=folder), log)
    return 1, judge(whole, out, log, status)


def read_only_case(name, seed, case, folder):
    """Give a run a folder that cannot be written."""
    log = folder / f"read-only-{case}.log"
    log.unlink(missing_ok=True)
    place = folder / f"read-only-{case}"
    if os.geteuid() == 0:
        place = type(folder)("/proc")  # permissions do not stop root
    else:
        place.mkdir(exist_ok=True)
        place.chmod(0o555)
    status = finish(RUNS[name].command(place / "run", resume=False, folder=folder), log)
    return 1, refused(status, log.read_text(errors="replace"))


def two_at_once_case(name, seed, case, folder):
    """Start a second process in the folder of a run: it is refused, and the first one ends as ever."""
    run = RUNS[name]
    whole, _ = reference(run, folder)
    out, log, second = folder / f"two-{case}", folder / f"two-{case}.log", folder / f"two-{case}-second.log"
    shutil.rmtree(out, ignore_errors=True)
    for file in (log, second):
        file.unlink(missing_ok=True)
    process = session(run.command(out, resume=False, folder=folder), log)
    if not begun(process, out):
        return 0, f"the first did not begin: {log.read_text()[-1500:]}"
    process.send_signal(signal.SIGSTOP)  # so that it cannot end before the second one looks
    status = finish(run.command(out, resume=True, folder=folder), second)
    process.send_signal(signal.SIGCONT)
    first = process.wait(timeout=LIMIT_S)
    return 1, refused(status, second.read_text(errors="replace")) or judge(whole, out, log, first)


CASES = {
    "kill": killed_case,
    "small disk": small_disk_case,
    "read-only": read_only_case,
    "two at once": two_at_once_case,
}
