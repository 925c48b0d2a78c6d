"""Defaults are part of the interface: a changed default, constant or gate must be a decision and not an accident.

``tests/data/defaults.json`` holds the defaults of every public function, method and configuration, the public
constants, the claims of every KD system and the records of all losses. Entries that it lacks are not compared, so that
an addition needs no edit. After a deliberate change, and now and then for additions, write it again with::

    .venv/bin/python tests/test_defaults.py
"""

import dataclasses
import importlib
import inspect
import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).parent / "data" / "defaults.json"
PACKAGES = ("agents", "curriculum", "evaluation", "kd", "merge")
MODULES = ("divergences", "schedules", "stats")


def plain(value):
    """Return a default as JSON: values as they are, code by its name, anything else by its type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **named}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value if value not in (float("inf"), float("-inf")) else str(value)
    return getattr(value, "__qualname__", None) or type(value).__name__


def of_function(function):
    """Return parameter -> default."""
    given = inspect.signature(function).parameters.values()
    return {p.name: plain(p.default) for p in given if p.default is not p.empty}


def of_fields(kind):
    """Return field -> default of a dataclass."""
    found = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            found[field.name] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = plain(field.default_factory())
    return found


def of_class(kind):
    """Return the defaults of a class's fields and public methods."""
    found = of_fields(kind) if dataclasses.is_dataclass(kind) else {}
    for name, member in vars(kind).items():
        method = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        public = inspect.isfunction(method) and (name == "__init__" or not name.startswith("_"))
        if public and not (name == "__init__" and dataclasses.is_dataclass(kind)):
            found |= {f"{name}({parameter})": value for parameter, value in of_function(method).items()}
    return found


def of_module(module):
    """Return name -> defaults of the public functions, classes and constants that a module defines."""
    found = {}
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if inspect.isclass(value) and value.__module__ == module.__name__:
            found[name] = of_class(value)
        elif inspect.isfunction(value) and value.__module__ == module.__name__:
            found[name] = of_function(value)
        elif name.isupper() and not callable(value) and isinstance(value, (bool, int, float, str, tuple)):
            found[name] = plain(value)
    return {name: value for name, value in found.items() if value not in ({}, None)}


def snapshot():
    """Return all defaults, the claims of the systems and the records of the losses."""
    from policykd.kd.registry import LOSSES
    from policykd.kd.systems import SYSTEMS

    names = [f"policykd.{name}" for name in MODULES]
    for package in PACKAGES:
        place = importlib.import_module(f"policykd.{package}").__path__
        names += [f"policykd.{package}", *(m.name for m in pkgutil.walk_packages(place, f"policykd.{package}."))]
    modules = {name: of_module(importlib.import_module(name)) for name in names}
    systems = {name: {"comparisons": plain(entry.comparisons), "seeds": entry.seeds} for name, entry in SYSTEMS.items()}
    losses = {name: plain(entry) for name, entry in LOSSES.items()}
    content = {name: found for name, found in modules.items() if found}
    return json.loads(json.dumps({**content, "systems": systems, "losses": losses}))


def written(content):
    """Return the text of the file: one line per function, class, constant, system or loss."""
    parts = []
    for group, entries in sorted(content.items()):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(entries.items()))
        parts.append(f" {json.dumps(group)}: {{\n{rows}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def differences(old, new, path=""):
    """Yield a line per recorded value that is not the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            yield from differences(old.get(key, "missing"), new.get(key, "missing"), f"{path} > {key}")
    elif old != new or type(old) is not type(new):
        yield f"{path.removeprefix(' > ')}: {old!r} -> {new!r}"


def test_no_default_changes_by_accident():
    changed = list(differences(json.loads(FILE.read_text()), snapshot()))
    assert not changed, "\n".join([*changed[:30], f"({len(changed)} in all; see the head of {Path(__file__).name})"])


if __name__ == "__main__":
    FILE.write_text(written(snapshot()))
