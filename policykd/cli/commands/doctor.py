"""``policykd doctor``: report versions, devices and throughput of this machine, and what to install.

Options and printing only; the work is in ``policykd.doctor``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from policykd.cli.output import say, say_where

if TYPE_CHECKING:
    from policykd.doctor import Findings


@dataclass(frozen=True)
class Doctor:
    """Report versions, devices, rendering, threads and throughput of this machine, and what to install."""

    seconds: float = 10.0
    """Length of the throughput probe, s; 0 skips it."""
    device: str = "auto"
    """Device of the probe: auto, cpu or cuda."""
    warm: tuple[str, ...] = ()
    """Skills whose kernels are compiled for the CUDA device in advance, for example biped/steps."""
    out: Path = Path("doctor.json")
    """JSON file for all findings, to attach to a bug report."""

    def run(self, console: Console) -> None:
        """Examine this machine, print the findings and save them.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.doctor import examine
        from policykd.storage import prepare_file, write_json

        prepare_file(self.out)
        if self.warm:
            self._warm(console)
        findings = examine(self.seconds, self.device)
        write_json(self.out, asdict(findings))
        _print(findings, console)
        say_where(console, self.out)

    def _warm(self, console: Console) -> None:
        """Compile kernels and say what is done."""
        from policykd.warming import warm_kernels

        for done in warm_kernels(self.warm, "cuda" if self.device == "auto" else self.device):
            say(console, f"{done.skill}, {done.worlds} worlds: {done.seconds:.1f} s")


def _print(findings: Findings, console: Console) -> None:
    table = Table("", "found", show_header=False)
    versions = [f"{name} {number}" for name, number in findings.versions.items() if number]
    table.add_row("versions", ", ".join(versions))
    table.add_row("machine", ", ".join(f"{name} {value}" for name, value in findings.machine.items() if value))
    devices = [f"{d['name']}, {d['memory_gib']} GiB" for d in findings.device["devices"]]
    table.add_row("CUDA devices", "; ".join(devices) or "none")
    table.add_row("driver", findings.device["driver"] or "none")
    table.add_row("--device auto", findings.device["auto"])
    if findings.cache:
        table.add_row("Warp cache", "{folder}: {modules} modules, {megabytes} MB".format(**findings.cache))
    table.add_row("drawing", findings.drawing.get("backend") or "does not work")
    if findings.probe:
        table.add_row(
            "simulation",
            "{steps_per_second:,} env steps/s: {skill}, {simulations} simulations on {device}, over {seconds} s".format(
                **findings.probe
            ),
        )
    console.print(table)
    for sentence in findings.advice:
        say(console, f"- {sentence}")
    if not findings.advice:
        console.print("nothing is missing")
