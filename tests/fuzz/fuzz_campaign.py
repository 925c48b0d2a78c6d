"""A fuzz campaign: mutated files are read in child processes, and every case is refused, loaded, or a fault.

A case is refused when policykd raises one of its own errors, and loaded when all numbers that it returns are finite. A
fault is any other exception, more than a second of processor time, more memory than :data:`MOST_MEGABYTES`, a number
that is not finite, or a crash. Cases depend on format, seed and number only.
"""

import dataclasses
import math
import os
import pickle
import resource
import shutil
import signal
import tempfile
import time
import traceback
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from byte_mutations import mutate_bytes, mutate_zip
from fuzz_formats import FORMATS
from model_mutations import mutate_xml
from onnx_mutations import mutate_onnx
from pickle_mutations import mutate_pickle
from record_mutations import mutate_json, mutate_lines, mutate_yaml
from tensor_mutations import mutate_hdf5, mutate_npy, mutate_safetensors

SECONDS = 1.0
MOST_MEGABYTES = 300
_HARD_SECONDS, _HARD_GIGABYTES = 20, 6
_SLICE = 500


def _by_name(name, content, rng):
    """Mutate the inside of a file by what its name says it is; bytes for everything else."""
    suffix = Path(name).suffix
    kinds = {
        ".json": mutate_json, ".jsonl": mutate_lines, ".yaml": mutate_yaml, ".yml": _zoo_yaml, ".pkl": mutate_pickle,
        ".safetensors": mutate_safetensors, ".npy": mutate_npy, ".xml": mutate_xml, ".urdf": mutate_xml,
        ".onnx": mutate_onnx, ".hdf5": mutate_hdf5,
    }  # fmt: skip
    if content[:2] == b"PK":
        return mutate_zip(content, rng, _by_name)
    if suffix in kinds:
        return kinds[suffix](content, rng)
    if name == "data" and content[:1] == b"{":
        return mutate_json(content, rng)
    if content[:1] == b"\x80" and content[-1:] == b".":
        return mutate_pickle(content, rng)
    return mutate_bytes(content, rng)


def _zoo_yaml(content, rng):
    return mutate_yaml(b"- normalize: true\n  n_envs: 4\n", rng)


def mutate(files, rng):
    """Return the files with one of them changed or missing."""
    names = sorted(files)
    name, kind = names[rng.integers(len(names))], rng.random()
    if kind < 0.02:
        return {other: content for other, content in files.items() if other != name}
    if kind < 0.3:
        return {**files, name: mutate_bytes(files[name], rng)}
    try:
        return {**files, name: _by_name(name, files[name], rng)}
    except (
        ValueError,
        TypeError,
        KeyError,
        OverflowError,
        OSError,
        RuntimeError,
    ):  # a second mutation of a damaged part
        return {**files, name: mutate_bytes(files[name], rng)}


def samples_of(name):
    """Return the valid files of a format's variants."""
    return [form.sample() for form in FORMATS[name]]


def case_of(name, samples, seed, number):
    """Return the variant and the mutated files of a case."""
    place = number % len(samples)
    form = FORMATS[name][place]
    return form, _sealed(form, samples[place], np.random.default_rng([seed, number, zlib.crc32(name.encode())]))


def _sealed(form, files, rng):
    """Return mutated files, mostly with their hashes made again."""
    changed = mutate(files, rng)
    if form.seal is not None and rng.random() < 0.7:
        try:
            return form.seal(changed)
        except Exception:  # what is damaged too badly keeps its old hashes
            return changed
    return changed


def finite(value, depth=0):
    """Return whether all numbers in a value are finite."""
    if depth > 200:
        return True
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all()) if value.is_floating_point() else True
    if isinstance(value, np.ndarray):
        return bool(np.isfinite(value).all()) if value.dtype.kind == "f" else True
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(finite(item, depth + 1) for item in value.values())
    if isinstance(value, list | tuple):
        return all(finite(item, depth + 1) for item in value)
    return all(finite(item, depth + 1) for item in vars(value).values()) if dataclasses.is_dataclass(value) else True


class SlowError(BaseException):
    """A case took longer than the hard limit."""


@contextmanager
def _limited():
    def stop(*_):
        raise SlowError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, _HARD_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _megabytes():
    """Return the largest memory of this process since the last call of :func:`_forget_peak`, MB."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1000


def _forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def judge(read, folder):
    """Read a case and return (verdict, detail): refused, loaded, or the kind of a fault."""
    from policykd.errors import PolicykdError

    _forget_peak()
    memory, began = _megabytes(), time.process_time()
    try:
        with _limited():
            good = finite(read(folder))
        verdict = ("loaded", "") if good else ("not finite", "")
    except PolicykdError as error:
        verdict = ("refused", f"{type(error).__name__}: {str(error)[:200]}")
    except SlowError:
        return "slow", traceback.format_exc(limit=-4)
    except Exception:
        return "other exception", traceback.format_exc(limit=-6)
    spent, grown = time.process_time() - began, _megabytes() - memory
    if grown > MOST_MEGABYTES:  # first, since filling memory takes time, too
        return "memory", f"{grown:.0f} MB, {spent:.1f} s, {verdict}"
    return ("slow", f"{spent:.1f} s, {verdict}") if spent > SECONDS else verdict


def _write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run_cases(name, seed, numbers, samples, report):
    """Judge cases in this process, and report each as (number, verdict, detail)."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        for form, files in zip(FORMATS[name], samples, strict=True):
            shutil.rmtree(place, ignore_errors=True)
            _write(place, files)
            verdict = judge(form.read, place)  # imports what the reader needs, too
            if verdict[0] not in ("loaded", "slow"):
                raise AssertionError(f"a sample of {name} itself is not loaded: {verdict}")
        for number in numbers:
            report((number, "begun", ""))
            shutil.rmtree(place, ignore_errors=True)
            form, files = case_of(name, samples, seed, number)
            _write(place, files)
            report((number, *judge(form.read, place)))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _child(name, seed, numbers, samples, pipe):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_HARD_GIGABYTES << 30,) * 2)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    with os.fdopen(pipe, "wb") as file:

        def report(row):
            pickle.dump(row, file)
            file.flush()

        run_cases(name, seed, numbers, samples, report)


def run_isolated(name, seed, numbers, samples):
    """Judge cases in child processes; a child that dies is a fault of its case, and another one goes on behind it.

    Returns:
        Rows (number, verdict, detail).
    """
    rows, numbers = [], list(numbers)
    while numbers:
        slice_ = numbers[:_SLICE]
        source, target = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(source)
            try:
                _child(name, seed, slice_, samples, target)
            finally:
                os._exit(0)
        os.close(target)
        last, done = None, set()
        with os.fdopen(source, "rb") as file:
            while True:
                try:
                    row = pickle.load(file)
                except (EOFError, pickle.UnpicklingError):
                    break
                last = row[0]
                if row[1] != "begun":
                    rows.append(row)
                    done.add(row[0])
        _, status = os.waitpid(child, 0)
        if len(done) < len(slice_):
            rows.append((last, "crash", f"wait status {status}"))
            done.add(last)
        numbers = [number for number in numbers if number not in done]
    return rows
