"""Executors by name, for commands whose jobs can run on other machines: inline, processes, ray, slurm.

``policykd.executor`` has the protocol and the first two; each of the others is one module, imported when it is chosen.
"""

from __future__ import annotations

from pathlib import Path

from policykd.errors import UnknownNameError
from policykd.executor import Executor, Inline, Processes
from policykd.threads import cores_for

NAMES = ("processes", "inline", "ray", "slurm", "local")
"""Executors; ``local`` is that of ``slurm`` without a cluster, for trying things out."""


def make_executor(name: str, workers: int | None, folder: Path) -> Executor:
    """Return an executor.

    Args:
        name: one of :data:`NAMES`; ``ray`` and ``slurm`` may be followed by a colon and the address of a cluster or the
            name of a partition, for example ``ray:auto`` or ``slurm:gpu``.
        workers: largest number of jobs at a time; None for one per usable core, or as many as the cluster takes.
        folder: folder of the run, visible to all machines; logs of jobs go there.

    Raises:
        UnknownNameError: for an unknown name.
        ConfigError: for fewer workers than one.
        MissingDependencyError: without the extra that it needs.
    """
    kind, _, where = name.partition(":")
    if kind not in NAMES:
        raise UnknownNameError("executor", kind, NAMES)
    if kind == "inline":
        return Inline()
    if kind == "processes":
        cores = cores_for(workers, "workers")
        return Inline() if cores == 1 else Processes(cores)
    if kind == "ray":
        from policykd.executors.ray_executor import RayExecutor

        return RayExecutor(workers, address=where or None)
    from policykd.executors.slurm_executor import SlurmExecutor

    cluster = "local" if kind == "local" else "slurm"
    return SlurmExecutor(folder / "jobs", workers, cluster=cluster, partition=where or None)
