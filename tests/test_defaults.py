"""Defaults are part of the interface: a changed default, constant or gate must be a decision and not an accident.

``tests/data/defaults.json`` holds the defaults of every public function, method and configuration, the constants of
modules, the limits of configurations, the recipes of presets and demos, the claims of every KD system and the records
of all losses. Entries that it lacks are not compared, so that
an addition needs no edit. After a deliberate change, and now and then for additions, write it again with::

    .venv/bin/python tests/test_defaults.py
"""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from policykd.errors import PolicykdError

FILE = Path(__file__).parent / "data" / "defaults.json"
PACKAGES = ("agents", "curriculum", "evaluation", "finetune", "kd", "merge")
MODULES = ("divergences", "relaxed", "schedules", "stats")


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


def is_data(value):
    """Return whether a constant is data to compare: numbers, texts, records, and containers of them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return True
    if isinstance(value, Mapping):
        return all(is_data(entry) for entry in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(is_data(entry) for entry in value)
    return value is None or isinstance(value, (bool, int, float, str))


def refused(function, *arguments, **options):
    """Return a call that is refused after its ranges were checked."""

    def call():
        with pytest.raises(PolicykdError):
            function(*arguments, **options)

    return call


def limits():
    """Return the limits that configurations and functions check values against: name -> smallest and largest value."""
    from policykd.agents.architecture import Architecture, Encoder, Latent, Memory, Mixture
    from policykd.agents.audit import audit_policy
    from policykd.agents.export.export import export_policy
    from policykd.agents.importing.importer import import_policy
    from policykd.agents.injection.files import inject_file
    from policykd.agents.policy import Policy
    from policykd.agents.training.config import PpoConfig, SacConfig, TrainConfig
    from policykd.curriculum.bisect import bisect_skill
    from policykd.curriculum.comparison import run_comparison
    from policykd.curriculum.presets import preset, preset_names
    from policykd.curriculum.recipe import Injection, Measurement, SkillPlan
    from policykd.envs.batched_env import EnvConfig
    from policykd.envs.skills import get_skill
    from policykd.evaluation.curves import area
    from policykd.evaluation.evaluate import evaluate
    from policykd.kd.log_mel import LogMel
    from policykd.merge.config import MergeConfig
    from policykd.merge.weights.config import WeightMergeConfig
    from policykd.stats import bootstrap

    nowhere, flat = Path("nowhere"), get_skill("biped/flat")
    plain_policy = Policy(flat.group_sizes, flat.robot.num_actions, Architecture((1,), (1,)), 0)
    made = {
        "Architecture": lambda: Architecture(mean_clip=2.0), "Encoder": lambda: Encoder("terrain"),
        "PpoConfig": PpoConfig, "SacConfig": SacConfig,
        "TrainConfig": lambda: TrainConfig(start_level=0.5, init_noise=0.3),
        "MergeConfig": lambda: MergeConfig(support=4.0), "Injection": Injection, "Measurement": Measurement,
        "SkillPlan": lambda: SkillPlan("biped/flat", 1000, start_level=0.5), "EnvConfig": EnvConfig,
        "LogMel": lambda: LogMel(rate=16000), "Memory": lambda: Memory("lstm", 4), "Mixture": Mixture,
        "Latent": Latent, "frames": lambda: Memory("frame-stack", 4),
        "WeightMergeConfig": lambda: WeightMergeConfig("ties", scale=1.0, density=0.5),
        "evaluate": refused(evaluate, {}, ()), "area": refused(area, [], 1.0), "bootstrap": refused(bootstrap, []),
        "run_comparison": refused(run_comparison, None, nowhere, curricula=("none",)),
        "bisect": refused(bisect_skill, nowhere, "biped/flat"),
        "inject_file": refused(inject_file, nowhere, nowhere, ("terrain",)),
        "Recipe": lambda: dataclasses.replace(preset(preset_names()[0]), transfer_noise=0.1),
        "audit_policy": refused(audit_policy, plain_policy, flat, groups=("none",)),
        "export_policy": refused(export_policy, nowhere, nowhere),
        "import_policy": refused(import_policy, nowhere, nowhere),
    }  # fmt: skip
    found = {}
    for name, make in made.items():
        seen = {}

        def record(field, value, low, high, unit="", seen=seen):
            seen[field] = [low, high]

        with pytest.MonkeyPatch.context() as patch:
            for module in list(sys.modules.values()):
                if getattr(module, "__name__", "").startswith("policykd.") and hasattr(module, "check_range"):
                    patch.setattr(module, "check_range", record)
            make()
        found[name] = seen
    return found


def of_module(module, known):
    """Return name -> defaults of the public functions, classes and constants that a module defines."""
    found = {}
    for name, value in list(vars(module).items()):
        if name.startswith("_"):
            if name.isupper() and not name.startswith("__") and is_data(value) and id(value) not in known:
                found[name] = plain(value)
            continue
        if inspect.isclass(value) and value.__module__ == module.__name__:
            found[name] = of_class(value)
        elif inspect.isfunction(value) and value.__module__ == module.__name__:
            found[name] = of_function(value)
        elif name.isupper() and is_data(value) and id(value) not in known:
            found[name] = plain(value)
            if isinstance(value, Mapping):  # modules that import it need not list it again
                known.add(id(value))
    return {name: value for name, value in found.items() if value not in ({}, None)}


def snapshot():
    """Return all defaults, the claims of the systems and the records of the losses."""
    from policykd.curriculum.presets import preset, preset_names
    from policykd.demo import DEMO_PLANS
    from policykd.kd.registry import LOSSES
    from policykd.kd.systems import SYSTEMS

    names = [f"policykd.{name}" for name in MODULES]
    for package in PACKAGES:
        place = importlib.import_module(f"policykd.{package}").__path__
        names += [f"policykd.{package}", *(m.name for m in pkgutil.walk_packages(place, f"policykd.{package}."))]
    known = {id(LOSSES), id(SYSTEMS)}
    modules = {name: of_module(importlib.import_module(name), known) for name in names}
    recipes = {name: plain(preset(name)) for name in preset_names()}
    demos = {robot: plain(plan) for robot, plan in DEMO_PLANS.items()}
    systems = {name: {"comparisons": plain(entry.comparisons), "seeds": entry.seeds} for name, entry in SYSTEMS.items()}
    losses = {name: plain(entry) for name, entry in LOSSES.items()}
    content = {name: found for name, found in modules.items() if found}
    records = {"systems": systems, "losses": losses, "recipes": recipes, "demos": demos, "limits": limits()}
    return json.loads(json.dumps({**content, **records}))


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
