"""Tables of a benchmark: for the terminal and as Markdown, from the saved result alone.

It formats the numbers of a result and reads nothing else.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.benchmark.placements import PLACEMENTS
from policykd.kd.benchmark.reference import bench_config
from policykd.kd.benchmark.results import BenchResult, Verdict
from policykd.kd.registry import LOSSES
from policykd.paper_tables import PaperTable
from policykd.plain import as_plain
from policykd.stats import BRACKETS, Interval, format_interval

_MEANS = ("agreement", "kl", "ece", "brier", "seconds_per_epoch")
_EFFECTS = ("agreement", "kl", "ece", "brier", "nll")


@dataclass(frozen=True)
class Row:
    """One method as tables show it.

    Attributes:
        method: Its name.
        verdict: On accuracy.
        accuracy: Mean with interval.
        effect: Paired difference of accuracy to the baseline with interval; empty for the baseline.
        means: Measure -> mean.
        effects: Measure -> paired difference with interval and what it shows; empty for the baseline.
    """

    method: str
    verdict: Verdict
    accuracy: str
    effect: str
    means: Mapping[str, str]
    effects: Mapping[str, str]


def rows(result: BenchResult) -> list[Row]:
    """The methods, the highest mean accuracy first."""
    return [_row(result, method) for method in result.ranked()]


def mean_text(measure: str, value: float) -> str:
    """A value in the unit and digits of its measure."""
    return f"{MEASURES[measure].scale * value:.{MEASURES[measure].digits}f}"


def interval_text(measure: str, interval: Interval, *, signed: bool = False) -> str:
    """An estimate with its interval, ``95.20 [94.61, 95.70]`` or ``+1.20 [+0.80, +1.61]``."""
    shown = MEASURES[measure]
    return format_interval(interval, shown.digits, style=BRACKETS, signed=signed, scale=shown.scale, always=True)


def teacher_means(result: BenchResult) -> dict[str, str]:
    """Measure -> the teachers' mean on test data, for the measures that a teacher has."""
    known = result.teachers[0]["test"]
    return {m: mean_text(m, sum(result.teacher_values(m)) / result.seeds) for m in MEASURES if m in known}


def rich_table(result: BenchResult) -> Table:
    """The benchmark as a table for the terminal."""
    title = f"{result.config['task']}: test figures over {result.seeds} seeds [95 % intervals], effects paired"
    headings = [MEASURES[name].label for name in _MEANS]
    table = Table("method", "accuracy, %", f"vs {result.baseline}", "shown", *headings, title=title)
    taught = teacher_means(result)
    table.add_row("teacher", taught["accuracy"], "", "", *(taught.get(name, "") for name in _MEANS), style="dim")
    for row in rows(result):
        means = (row.means[name] for name in _MEANS)
        table.add_row(row.method, row.accuracy, row.effect, row.verdict, *means)
    return table


def paper_table(result: BenchResult) -> PaperTable:
    """The benchmark for LaTeX and CSV: accuracy, its effect against the baseline, fidelity and calibration."""
    measures = [name for name in MEASURES if name != "seconds_per_epoch"]
    head = ["method", *(MEASURES[name].label for name in measures), f"accuracy vs {result.baseline}, points", "shown"]
    found = []
    for method in result.ranked():
        means = (_scaled(result.mean(method, name), MEASURES[name].scale) for name in measures)
        own = method == result.baseline
        effect = None if own else _scaled(result.effect(method, "accuracy"), MEASURES["accuracy"].scale)
        found.append((method, *means, effect, "" if own else result.verdict(method, "accuracy")))
    return PaperTable(tuple(head), tuple(found), (0, *(MEASURES[name].digits for name in measures), 2, 0))


def _scaled(interval: Interval, scale: float) -> Interval:
    low, high = interval.low * scale, interval.high * scale
    return Interval(interval.estimate * scale, low, high, interval.confidence)


def remarks(result: BenchResult) -> list[str]:
    """What a reader must know besides the numbers."""
    compared = len(result.methods) - 1
    found = [
        f"Each effect is the mean over {result.seeds} seeds of the difference to {result.baseline} on the same split, "
        "teacher, initial student and data order, with its 95 % interval by Student's t.",
        f"Verdicts follow paired t-tests, corrected by Holm over {_counted(compared, 'method')} per measure. The wide "
        "intervals hold for all methods together (Bonferroni).",
    ]
    tune = int(result.config["tune"])
    found.append(
        "Every method runs at its default setting; no setting was chosen."
        if tune == 1
        else f"Per seed every method had {tune} candidate settings; validation accuracy chose one."
    )
    return found


def command(result: BenchResult) -> str:
    """The command that runs the benchmark again."""
    config = dict(result.config)
    words = ["--task", config["task"], "--methods", ",".join(result.methods), "--seeds", str(config["seeds"])]
    words += ["--tune", str(config["tune"]), "--baseline", result.baseline]
    reference = bench_config(config["task"], ("ce",))
    told = ("task", "methods", "seeds", "tune", "baseline", "task_options")
    standard = dict(_flat(as_plain(reference)))
    changed = [(path, value) for path, value in _flat(config) if path.partition(".")[0] not in told]
    fields = [f"{path}={json.dumps(value)}" for path, value in changed if standard.get(path) != value]
    standard_options = as_plain(reference.task_options)
    options = [f"{n}={json.dumps(v)}" for n, v in as_plain(config["task_options"]) if [n, v] not in standard_options]
    words += ["--set", *fields] if fields else []
    words += ["--task-option", *options] if options else []
    return " ".join(["policykd", "kd", "bench", *map(shlex.quote, words)])


def markdown(result: BenchResult) -> str:
    """The benchmark as a Markdown document: command, protocol, accuracy, fidelity and calibration, settings."""
    config = result.config
    lines = [
        f"# Benchmark of the losses on `{config['task']}`",
        "",
        "Made from a saved result by `policykd kd bench --redraw`; do not edit.",
        "",
        "```",
        command(result),
        "```",
        "",
        *(f"- {remark}" for remark in remarks(result)),
        f"- Student `{config['student']}`, teacher `{config['teacher']}` (`task`: the task's own network); "
        f"{config['train']['epochs']} epochs in batches of {config['train']['batch_size']}.",
        f"- {_cost(result)}",
        "",
        "## Accuracy and means",
        "",
        *_accuracy_table(result),
        "",
        "## Fidelity and calibration: paired effects",
        "",
        *(f"- {MEASURES[name].label}: {MEASURES[name].text}; {MEASURES[name].better} is better" for name in _EFFECTS),
        "",
        *_effects_table(result),
        "",
        "## Settings",
        "",
        *_settings_table(result),
    ]
    return "\n".join(lines) + "\n"


def settings(result: BenchResult) -> Iterator[tuple[str, str, str, str]]:
    """Yield per method its place, its default setting in words, and how often each candidate was chosen."""
    for method in result.methods:
        cells = result.cells[method]
        first = cells[0]["candidates"][0]["setting"]
        places = [cell["chosen"] for cell in cells]
        counts = ", ".join(f"{place + 1}: {places.count(place)}" for place in sorted(set(places)))
        info = LOSSES.known(method)
        placement = PLACEMENTS.resolve(info.placement) if info else None
        yield method, placement.where if placement else "", _setting_text(first), counts


def _row(result: BenchResult, method: str) -> Row:
    own = method == result.baseline
    return Row(
        method,
        result.verdict(method, "accuracy"),
        interval_text("accuracy", result.mean(method, "accuracy")),
        "" if own else interval_text("accuracy", result.effect(method, "accuracy"), signed=True),
        {name: mean_text(name, result.mean(method, name).estimate) for name in MEASURES},
        {
            name: ""
            if own
            else f"{interval_text(name, result.effect(method, name), signed=True)} {result.verdict(method, name)}"
            for name in _EFFECTS
        },
    )


def _cost(result: BenchResult) -> str:
    """What the benchmark took, and on what."""
    wall, work, processor = (
        f"{seconds / 60:.1f} min" for seconds in (result.seconds, result.work_seconds, result.processor_seconds)
    )
    machine = result.environment.get("processor", "an unknown processor")
    return (
        f"{wall} of wall time in the last run. One after the other, the trainings of all cells took {work} of wall "
        f"time and {processor} of processor time, on {machine}; torch {result.environment.get('torch', 'unknown')}."
    )


def _accuracy_table(result: BenchResult) -> list[str]:
    versus = f"vs {result.baseline}, points"
    headings = ["method", "accuracy, %", versus, "all together", "could have shown", "p, Holm", "shown"]
    headings += [MEASURES[name].label for name in _MEANS]
    taught, corrected = teacher_means(result), result.corrected("accuracy")
    lines = [_line(headings), _line(["---"] * len(headings))]
    lines.append(
        _line(["*teacher*", taught["accuracy"], "", "", "", "", "", *(taught.get(name, "") for name in _MEANS)])
    )
    for row in rows(result):
        own = row.method == result.baseline
        wide = result.effect(row.method, "accuracy", together=True)
        tested = ["", "", ""] if own else [
            f"[{mean_text('accuracy', wide.low)}, {mean_text('accuracy', wide.high)}]",
            mean_text("accuracy", result.detectable(row.method, "accuracy")),
            f"{corrected[row.method]:.2g}",
        ]  # fmt: skip
        means = (row.means[name] for name in _MEANS)
        lines.append(_line([row.method, row.accuracy, row.effect, *tested, row.verdict, *means]))
    return lines


def _effects_table(result: BenchResult) -> list[str]:
    headings = ["method", *(f"{MEASURES[name].label} vs {result.baseline}" for name in _EFFECTS)]
    others = [row for row in rows(result) if row.method != result.baseline]
    told = [_line([row.method, *(row.effects[name] for name in _EFFECTS)]) for row in others]
    return [_line(headings), _line(["---"] * len(headings)), *told]


def _settings_table(result: BenchResult) -> list[str]:
    headings = ["method", "family", "compares", "default setting", "candidate chosen (seeds)"]
    lines = [_line(headings), _line(["---"] * len(headings))]
    for method, where, text, counts in settings(result):
        info = LOSSES.known(method)
        family = info.family if info else ""
        lines.append(_line([method, family, where, text, counts]))
    return lines


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _setting_text(setting: Mapping[str, Any]) -> str:
    parts = [f"weight {setting['weight']:.4g}"]
    parts += [f"{label} {setting[key]:g}" for key, label in (("ce_weight", "CE"), ("kd_weight", "KD")) if setting[key]]
    parts += [f"{name} {value}" for name, value in setting["options"].items()]
    if setting["warmup"]:
        parts.append(f"rising over {setting['warmup']:.1%} of the epochs")
    if setting["first_stage"]:
        parts.append(f"alone in the first {setting['first_stage']:.1%} of the epochs, then off")
    return ", ".join(parts) + (f" (preset {setting['preset']})" if setting["preset"] else "")


def _flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield from _flat(value, place)
        else:
            yield place, value
