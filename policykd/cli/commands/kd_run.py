"""``policykd kd run``: run the experiments of KD systems and print their results.

Options and printing only; the work is in ``policykd.kd.experiments``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policykd.cli.options import ExecutorName, Set, Workers
from policykd.cli.output import say_where
from policykd.errors import ConfigError

if TYPE_CHECKING:
    from policykd.kd.experiments.results import Result


@dataclass(frozen=True)
class KdRun:
    """Run the experiments of KD systems on paired seeds: all arms, intervals and verdicts."""

    systems: tyro.conf.Positional[tuple[str, ...]]
    """Systems such as hinton_kd, or all."""
    out: Path = Path("results/kd")
    """Results folder; each system gets a subfolder with its name."""
    seeds: int | None = None
    """Number of seeds; default the experiment's own (10)."""
    first_seed: int = 0
    """The first seed; a run that a pilot planned needs seeds that the pilot did not have."""
    data: Path | None = None
    """File that `policykd kd data` prepared: run the system's experiment on real data instead of its own data."""
    workers: Workers = None
    executor: ExecutorName = "processes"
    """Where cells run: processes or inline on this machine, ray or ray:ADDRESS, slurm or slurm:PARTITION."""
    resume: bool = False
    """Continue a run: finished cells are kept, also when seeds are added."""
    set: Set = ()
    """Setting of the system, for example temperature=2 (a field of its configuration); needs a single system."""

    def run(self, console: Console) -> None:
        """Run the named systems and print their results and, for several systems, a summary.

        Raises:
            PolicykdError: for bad input.
        """
        chosen = _chosen(self)  # before torch is loaded, so that a mistyped name fails at once
        from policykd.cli.output import Bars
        from policykd.executors import make_executor
        from policykd.kd.experiments.runner import run_experiment
        from policykd.kd.experiments.summary import paper_table, write_summary
        from policykd.paper_tables import write_paper_tables

        executor = make_executor(self.executor, self.workers, self.out)
        results: list[Result] = []
        for experiment, config in chosen:
            result = run_experiment(
                experiment,
                self.out / experiment.name,
                config=config,
                seeds=self.seeds,
                first=self.first_seed,
                resume=self.resume,
                executor=executor,
                progress=Bars(console),
            )
            print_result(result, console)
            file = self.out / experiment.name / "result.json"
            for path in (file, *write_paper_tables(file, paper_table(result))):
                say_where(console, path)
            results.append(result)
            if len(self.systems) > 1 or "all" in self.systems:
                write_summary(results, self.out)  # after every system, so that an interrupted run leaves a table
        if len(results) > 1:
            print_summary(results, console)
            say_where(console, self.out / "summary.md")


def _chosen(command: KdRun) -> list[tuple[Any, Any]]:
    """Return the experiments with their configurations; all are checked before the first one runs."""
    from policykd.cli.overrides import with_overrides
    from policykd.kd.evidence import EVIDENCE
    from policykd.kd.systems import SYSTEMS

    known = SYSTEMS if command.data is None else EVIDENCE
    if not command.systems:
        raise ConfigError(f"name a system to run, or all (valid: {', '.join(known)})")
    chosen = known.names() if "all" in command.systems else tuple(dict.fromkeys(command.systems))
    if command.data is not None and len(chosen) > 1:
        raise ConfigError("--data is the file of one system; name only that system")
    if command.set and len(chosen) > 1:
        raise ConfigError("--set changes the configuration of one system; name only that system")
    experiments = [known.resolve(name) for name in chosen]
    given = command.set if command.data is None else (f"data={command.data}", *command.set)
    try:
        return [(experiment, with_overrides(experiment.config, given)) for experiment in experiments]
    except ValueError as error:
        raise ConfigError(f"--set {' '.join(command.set)}: {error}") from None


def print_result(result: Result, console: Console) -> None:
    """Print one experiment: claim, table of arms, table of comparisons, notes."""
    console.print(Text.assemble((result.title, "bold"), f" ({result.paper})"), highlight=False)
    console.print(f"claim: {result.claim}", highlight=False)
    console.print(_arms(result), _comparisons(result))
    console.print(Text.assemble("verdict: ", (result.verdict, "bold"), f" over {_counted(result)}"), highlight=False)
    for note in result.notes:
        console.print(f"note: {note}", highlight=False)


def print_summary(results: Sequence[Result], console: Console) -> None:
    """Print one row per system."""
    from policykd.kd.experiments.summary import required_effects

    table = Table("system", "claim", "effect [95 % interval]", "verdict", title="systems")
    for result in results:
        effects = "\n".join(effect for _, effect in required_effects(result))
        table.add_row(result.name, result.claim, effects, result.verdict)
    console.print(table)


def _arms(result: Result) -> Table:
    """Return the table of mean and standard deviation over the seeds, per arm and metric."""
    metrics = list(dict.fromkeys(metric for own in result.values.values() for metric in own))
    table = Table("arm", *metrics, title=f"mean ± standard deviation, {_counted(result)}")
    for arm, own in result.values.items():
        table.add_row(arm, *(_spread(own[metric]) if metric in own else "" for metric in metrics))
    return table


def _comparisons(result: Result) -> Table:
    from policykd.kd.experiments.summary import effect_text, gate_text, p_text

    table = Table("comparison", "effect [95 % interval]", "gate", "p, corrected", "verdict")
    for outcome in result.outcomes:
        verdict = outcome.verdict if outcome.comparison.required else f"{outcome.verdict} (not required)"
        table.add_row(outcome.comparison.text, effect_text(outcome), gate_text(outcome), p_text(outcome), verdict)
    return table


def _spread(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4g} ± {deviation:.2g}"


def _counted(result: Result) -> str:
    return f"{len(result.seeds)} seed{'s' if len(result.seeds) != 1 else ''}"
