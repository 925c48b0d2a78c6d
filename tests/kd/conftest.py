"""Values of small runs that must stay as they are: recorded once and compared within float32 precision since then.

A recorded value says that nothing in the path from the seed to the number has changed; tests against worked values and
independent formulas say that the number is right. After a deliberate change, and for a new test, write the files with::

    POLICYKD_RECORD=1 .venv/bin/python -m pytest -n 0 tests/kd

and read the differences before you commit them. Files are in ``tests/data/recorded``, one entry per line.
"""

import importlib
import json
import math
import os
import pkgutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import policykd.kd
from policykd.errors import check_range

FOLDER = Path(__file__).parents[1] / "data" / "recorded"


def as_plain(value):
    """Return values as JSON has them: numbers, texts and containers; an array as its shape and a few weighted sums."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        flat = value.astype(np.float64).ravel()
        place = np.arange(1, len(flat) + 1)
        sums = (flat.sum(), np.abs(flat).sum(), (flat * np.sin(place)).sum(), (flat * np.cos(place)).sum())
        return {"shape": list(value.shape), "sums": [float(one) for one in sums]}
    if isinstance(value, dict):
        return {str(key): as_plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(entry) for entry in value]
    if isinstance(value, (np.floating, np.integer)):
        value = float(value)
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def differences(old, new, path="", tolerance=0.0, relative=1e-4):
    """Yield a line per value that is not the recorded one."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        if old.keys() == {"shape", "sums"}:
            tolerance = 0.1 * relative * abs(old["sums"][1])
        for key, value in old.items():
            yield from differences(value, new[key], f"{path} > {key}", tolerance, relative)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{path}[{place}]", tolerance, relative)
    elif not close(old, new, tolerance, relative):
        yield f"{path.removeprefix(' > ')}: {old!r} -> {new!r}"


def close(old, new, tolerance, relative):
    """Return whether two values are equal; floats may differ by the tolerance, or by a part of their size."""
    if not all(isinstance(v, float) for v in (old, new)):
        return old == new and type(old) is type(new)
    return abs(old - new) <= (tolerance or 1e-6 + relative * abs(old))


@pytest.fixture
def recorded():
    """Compare values with the entry of a name in the file of a group.

    What a training made depends on the processor's instructions: ``relative`` is how much its values may differ.
    """

    def check(group, name, values, relative=1e-4):
        file, new = FOLDER / f"{group}.json", json.loads(json.dumps(as_plain(values)))
        known = json.loads(file.read_text()) if file.exists() else {}
        if os.environ.get("POLICYKD_RECORD") == "1":
            FOLDER.mkdir(exist_ok=True)
            known[name] = new
            rows = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(known.items()))
            file.write_text("{\n" + ",\n".join(rows) + "\n}\n")
        if name not in known:  # an addition needs no edit of recorded files, as in test_defaults.py
            pytest.skip(f"{name!r} is not in {file.name}; the head of tests/kd/conftest.py says how to record it")
        changed = list(differences(known[name], new, relative=relative))
        assert not changed, "\n".join(
            [*changed[:20], f"({len(changed)} in all; see the head of {Path(__file__).name})"]
        )

    return check


@pytest.fixture
def is_recorded():
    """Whether a group's file has an entry of a name: a comparison with nothing is skipped and proves nothing."""

    def check(group, name):
        return name in json.loads((FOLDER / f"{group}.json").read_text())

    return check


@pytest.fixture
def limits(monkeypatch):
    """The ranges that checked fields and arguments must be in, by name, of everything that a test calls."""
    _import_all()
    found = {}

    def recording(name, value, low, high, *unit):
        pairs = found.setdefault(name, [])
        if [low, high] not in pairs:
            pairs.append([low, high])
            pairs.sort(key=str)
        return check_range(name, value, low, high, *unit)

    for name, module in list(sys.modules.items()):
        if name.startswith("policykd.") and getattr(module, "check_range", None) is check_range:
            monkeypatch.setattr(module, "check_range", recording)
    return found


@cache
def _import_all():
    """Import all of policykd.kd: a module that a test imports first would check ranges without a record."""
    for module in pkgutil.walk_packages(policykd.kd.__path__, "policykd.kd."):
        importlib.import_module(module.name)


@pytest.fixture
def trainings():
    """The trainings of a test in their order: number of steps, and mean absolute gradient over all of them."""
    found, places = [], {}

    def after(optimizer, *_):
        if id(optimizer) not in places:
            places[id(optimizer)] = (len(found), optimizer)  # kept, so that no other gets its id
            found.append([0, 0.0])
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        own = found[places[id(optimizer)][0]]
        size = sum(grad.numel() for grad in grads)
        value = sum(float(grad.abs().sum()) for grad in grads) / size
        own[0], own[1] = own[0] + 1, (own[0] * own[1] + value) / (own[0] + 1)

    handle = register_optimizer_step_post_hook(after)
    yield found
    handle.remove()
