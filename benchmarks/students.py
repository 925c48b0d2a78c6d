"""Students that see less than their teachers: how much of the teachers' skills each kind keeps at equal cost.

    python benchmarks/students.py --experts results/demo/experts/* --seeds 0 1 2

A cell is one merge and its evaluation on tracks that no validation used. Every student gets the same number of
environment steps. The same command continues an interrupted run; finished cells are not run again. ``sighted``, the
student that reads what its teachers read, is the control: where it fails, the table says nothing of the others.

With ``--finetune STEPS`` every student is also fine-tuned on all skills but the first, which it rehearses, in a cell of
its own, whose ``states`` are the environment steps of the fine-tuning.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from cells import experts_in_words
from policykd.agents.architecture import STUDENTS, Architecture
from policykd.agents.files.policy_file import LoadedPolicy, load_named, load_policy
from policykd.agents.files.skills import skills_for
from policykd.agents.training.defaults import default_config
from policykd.cli.commands.evaluate import expert_of
from policykd.cli.commands.finetune import slow_ppo
from policykd.cli.output import Bars
from policykd.cli.overrides import with_overrides
from policykd.envs.observations import chosen_groups
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, UnknownNameError
from policykd.evaluation import evaluate
from policykd.finetune import FinetuneConfig, finetune
from policykd.merge import MergeConfig, merge_experts, teachers_from
from policykd.storage import prepare_folder, read_json, write_json

BLIND = {
    True: ("imu", "joints", "last_action", "command"),
    False: ("proprio", "phase"),
}
"""What a robot in space, or a planar one, measures of itself."""

PRIVILEGED = ("base_velocity",)
"""Groups of teachers that a real robot does not measure, although it may see the ground."""

BASE = MergeConfig(
    rounds=12, envs=32, noise=0.05, minibatch=512, averaging=0.9995, critic="none", target_retention=2.0,
    validation_every=3, updates=800, threads=2,
)  # fmt: skip
"""Settings of all students. A merge never stops early, so that all have the same environment steps, and no skill gets
more of them than another: shares by the gap to the expert would go to gaps, which a blind student cannot learn."""

FINETUNING: Mapping[str, Any] = {"warm_up_steps": 294_912, "target_share": 0.75}
"""Settings of all fine-tunings. All skills but one are targets. Merges have no critic here, so it learns longer."""

_MLP = Architecture(hidden=(256, 128))
_RECURRENT: Mapping[str, Any] = {
    "updates": 250, "minibatch": 2048, "averaging": 0.998, "learning_rate": 1e-3,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of student.

    Attributes:
        architecture: its networks.
        settings: changed settings of the merge.
        history: number of readings of each of its groups.
        keeps_newest: whether it also reads the groups themselves, next to their histories.
        sees: ``all`` groups of the teachers, all ``without velocity`` of the base, or ``itself`` alone.
    """

    architecture: Architecture
    settings: Mapping[str, Any] = field(default_factory=dict)
    history: int = 1
    keeps_newest: bool = False
    sees: str = "itself"


KINDS: Mapping[str, Kind] = {
    "sighted": Kind(_MLP, sees="all"),
    "without velocity": Kind(_MLP, sees="without velocity"),
    "blind mlp": Kind(_MLP),
    "blind history": Kind(_MLP, history=15),
    "blind gru": Kind(STUDENTS["gru"], _RECURRENT),
    "blind lstm": Kind(STUDENTS["lstm"], _RECURRENT),
    "blind latent": Kind(STUDENTS["latent"], history=15, keeps_newest=True),
    "sighted moe": Kind(STUDENTS["moe"], sees="all"),
}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        experts: policy files, or folders of training runs, of one robot.
        kinds: kinds of students.
        seeds: seeds of the merges.
        episodes: tracks of every skill in the evaluation.
        rounds: rounds of every merge; the number of gradient steps over all rounds stays the same.
        envs: simulations of every skill in a round.
        more_steps: factor of the number of gradient steps of every merge.
        finetune: environment steps of reinforcement learning that follow the merge; 0 for none.
        ppo: changed settings of its PPO, for example envs=512.
        privileged: whether its critic reads what the teachers read and the student does not.
        quick: two tiny rounds, as a smoke test.
        out: folder of the merges.
        results: folder of one JSON file per cell.
    """

    experts: tuple[Path, ...]
    kinds: tuple[str, ...] = tuple(KINDS)
    seeds: tuple[int, ...] = (0,)
    episodes: int = 256
    rounds: int = BASE.rounds
    envs: int = BASE.envs
    more_steps: float = 1.0
    finetune: int = 0
    ppo: tuple[str, ...] = ()
    privileged: bool = False
    quick: bool = False
    out: Path = Path("results/benchmarks/students")
    results: Path = Path("results/benchmarks/students/cells")


def groups_of(kind: Kind, offered: Sequence[str], *, spatial: bool) -> tuple[str, ...]:
    """Return the observation groups of a kind of student; empty for all that its teachers read.

    Raises:
        UnknownNameError: for another choice of groups.
    """
    if kind.sees == "all":
        return ()
    if kind.sees == "without velocity":
        return tuple(name for name in offered if name not in PRIVILEGED)
    if kind.sees != "itself":
        raise UnknownNameError("groups of a student", kind.sees, ("all", "without velocity", "itself"))
    history = [f"history:{kind.history}"] if kind.history > 1 else []
    chosen = chosen_groups([*BLIND[spatial], *history])
    return tuple(dict.fromkeys((*BLIND[spatial], *chosen))) if kind.keeps_newest else chosen


def config_of(kind: Kind, groups: tuple[str, ...], seed: int, options: Options) -> MergeConfig:
    """Return the merge of a cell."""
    base = replace(BASE, rounds=options.rounds, envs=options.envs)
    config = replace(base, architecture=kind.architecture, groups=groups, seed=seed, **kind.settings)
    config = replace(config, updates=max(1, round(config.updates * options.more_steps * BASE.rounds / options.rounds)))
    if options.quick:
        return replace(
            config, rounds=2, envs=2, updates=5, minibatch=64, validation_episodes=2, min_teacher_success=0.0
        )
    return config


def run_cells(
    name: str, seed: int, experts: Mapping[str, LoadedPolicy], options: Options, console: Console
) -> list[dict[str, Any]]:
    """Merge a student, and fine-tune it if that is asked for, or read the results: one cell for each of the two."""
    slug, teachers = name.replace(" ", "-"), teachers_from(list(experts.items()))
    folder, skill = options.out / slug / str(seed), teachers[0].skill
    config = config_of(KINDS[name], groups_of(KINDS[name], skill.groups, spatial=skill.robot.spatial), seed, options)
    ending = "finetuned-privileged" if options.privileged else "finetuned"

    def merge() -> tuple[Path, int]:
        merged = merge_experts(teachers, folder, config, resume=True, progress=Bars(console))
        shutil.rmtree(folder / "data", ignore_errors=True)
        return merged.policy_path, merged.states

    def improve() -> tuple[Path, int]:
        student = load_policy(folder / "policy")
        first, *others = skills_for([student.manifest])
        settings = finetuning_of(skill, student.policy.groups, seed, options)
        found = finetune(
            student, others, folder / ending, settings, rehearsed=[first], resume=True, progress=Bars(console)
        )  # fmt: skip
        return found.policy_path, found.steps

    cells = [_cell(slug, {"student": name, "seed": seed}, merge, experts, options)]
    if options.finetune:
        how = "fine-tuned with a privileged critic" if options.privileged else "fine-tuned"
        about = {"student": f"{name}, {how}", "seed": seed}
        cells.append(_cell(f"{slug}-{ending}", about, improve, experts, options))
    return cells


def finetuning_of(skill: Skill, groups: Collection[str], seed: int, options: Options) -> FinetuneConfig:
    """Return the fine-tuning of a cell, of a student that reads these groups and whose teachers read the skill's."""
    read = {name.partition(":")[0] for name in groups}
    hidden = tuple(name for name in skill.groups if name not in read)
    ppo = with_overrides(slow_ppo(default_config(skill.robot).ppo), options.ppo)
    return FinetuneConfig(
        steps=options.finetune, seed=seed, threads=BASE.threads, ppo=ppo,
        privileged=hidden if options.privileged else (), **FINETUNING,
    )  # fmt: skip


def _cell(
    slug: str,
    about: Mapping[str, Any],
    make: Callable[[], tuple[Path, int]],
    experts: Mapping[str, LoadedPolicy],
    options: Options,
) -> dict[str, Any]:
    """Return the figures of a student: those on record, or of the policy file that ``make`` writes."""
    record = options.results / f"{slug}-{about['seed']}.json"
    if record.exists():
        return read_json(record)
    began = time.process_time()
    path, states = make()
    spent, student = time.process_time() - began, load_policy(path)
    policies = {"student": student, **experts}
    skills, owners = skills_for([one.manifest for one in policies.values()]), expert_of(dict(experts))
    found = evaluate(
        {key: one.policy for key, one in policies.items()}, skills, episodes=options.episodes, seed=about["seed"],
        experts=owners,
    )  # fmt: skip
    figures = {
        **about,
        "groups": list(student.policy.groups.items()),
        "parameters": student.manifest.architecture.parameters(student.policy.groups, student.policy.actions),
        "rounds": options.rounds,
        "states": states,
        "processor_seconds": round(spent, 1),
        "episodes": options.episodes,
        "command": command_of(options),
        "skills": {s.id: _figures(found.summaries["student", s.id]) for s in skills},
        "experts": {s: _figures(found.summaries[e, s]) for s, e in owners.items()},
    }
    prepare_folder(options.results)
    write_json(record, figures)
    return figures


def command_of(options: Options) -> str:
    """Return the command that repeats the cells, with the experts by their last two folders."""
    experts = experts_in_words(options.experts)
    command = f"python benchmarks/students.py --experts {experts} --rounds {options.rounds} "
    command += f"--envs {options.envs} --episodes {options.episodes}"
    if options.more_steps != 1.0:
        command += f" --more-steps {options.more_steps:g}"
    if options.finetune:
        changed = f" --ppo {' '.join(options.ppo)}" if options.ppo else ""
        command += f" --finetune {options.finetune}{changed}" + " --privileged" * options.privileged
    return command


def _figures(summary: Any) -> dict[str, Any]:
    """Return success and retention with their intervals."""
    found = {}
    for name in ("success", "reward_per_step", "retention"):
        one = getattr(summary, name)
        found[name] = None if one is None else [round(float(x), 4) for x in (one.estimate, one.low, one.high)]
    return found


def table_of(cells: Sequence[Mapping[str, Any]]) -> Table:
    """Return success on every skill, and the mean over seeds if there are several."""
    skills = list(cells[0]["skills"])
    table = Table(title="success of students", box=None)
    for column in ("student", "seeds", "parameters", "states", "CPU s", *(s.rpartition("/")[2] for s in skills)):
        table.add_column(column)
    experts = [f"{cells[0]['experts'][s]['success'][0]:.2f}" for s in skills]
    table.add_row("experts", "", "", "", "", *experts)
    for name in dict.fromkeys(c["student"] for c in cells):
        group = [c for c in cells if c["student"] == name]
        row = [f"{sum(c['skills'][s]['success'][0] for c in group) / len(group):.2f}" for s in skills]
        cost = sum(c["processor_seconds"] for c in group) / len(group)
        first = group[0]
        table.add_row(name, str(len(group)), f"{first['parameters']:,}", f"{first['states']:,}", f"{cost:.0f}", *row)
    return table


def main(options: Options) -> None:
    """Run the cells seed by seed and print the table.

    Raises:
        UnknownNameError: for an unknown kind of student.
        ConfigError: without experts.
    """
    console = Console()
    if not options.experts:
        raise ConfigError("give the experts, one policy file or run folder per skill: --experts results/demo/experts/*")
    for name in options.kinds:
        if name not in KINDS:
            raise UnknownNameError("student", name, KINDS)
    experts = load_named(list(options.experts))
    runs = [run_cells(name, seed, experts, options, console) for seed in options.seeds for name in options.kinds]
    console.print(table_of([cell for run in runs for cell in run]))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
