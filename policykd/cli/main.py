"""Entry point of ``policykd``: parse the command line, run the command, turn errors into one line.

It is the only place where an error of policykd becomes an exit code.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence

import tyro
from rich.console import Console
from rich.text import Text

from policykd import __version__
from policykd.cli.choices import check_choices, unchecked_choices
from policykd.cli.commands import ANY_COMMAND, Command
from policykd.errors import ConfigError, PolicykdError
from policykd.parallel import LostProcessError, Processes, joined, launched
from policykd.storage import reason_of

_EXTRAS = {
    "gymnasium": "gym", "stable_baselines3": "gym", "numba": "gym", "tensorboard": "gym", "mujoco": "sim",
    "torchmetrics": "kd", "sklearn": "kd",
}  # fmt: skip
"""Packages that only some commands need, and the extra that brings each."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; None for the process's own.

    Returns:
        The exit status: 0, 1 for an interruption, 2 for bad input.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        sys.stdout.write(f"policykd {__version__}\n")
        return 0
    command: Command = tyro.cli(
        ANY_COMMAND,
        args=given,
        prog="policykd",
        description="Train one expert per skill, distill them into one student, measure retention and forgetting. "
        "--version prints the version.",
        config=(tyro.conf.OmitArgPrefixes,),
        # a script that completes commands in a shell needs the choices
        registry=None if any(one.startswith("--tyro-") for one in given) else unchecked_choices(),
    )
    for stream in (sys.stdout, sys.stderr):  # an old locale must not end the run where the result is printed
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Tables written to a file or a pipe have a fixed width.
    width = None if sys.stdout.isatty() else 160
    group = launched()
    # Output is data: do not interpret [gpu] or results[1] as markup.
    console = Console(width=width, markup=False, quiet=not group.first)
    errors = Console(stderr=True, markup=False, quiet=not group.first)
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: worker processes end, and the run can be resumed
    try:
        check_choices(command)
        _check_parallel(command, group)
        with joined(group):
            command.run(console)
    except LostProcessError as error:
        return _left(group, 2, str(error))
    except PolicykdError as error:
        errors.print(Text.assemble(("error:", "bold red"), f" {error}"), highlight=False, soft_wrap=True)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        cure = f" {package} is not installed, which this command needs: pip install 'policykd[{_EXTRAS[package]}]'"
        errors.print(Text.assemble(("error:", "bold red"), cure), highlight=False, soft_wrap=True)
        return 2
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        text = f" {about}{reason_of(error)}"
        errors.print(Text.assemble(("error:", "bold red"), text), highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        chosen = getattr(command, "command", command)  # a group holds the command
        how = "with --resume to continue" if hasattr(chosen, "resume") else "again"
        return _left(group, 1, f"interrupted; run the same command {how}")
    return 0


def _left(group: Processes, status: int, reason: str) -> int:
    """Say why the command ends early and return its status; a process of torchrun, of which any may be the last, ends.

    It ends at once: at a regular exit, threads of gloo would wait for processes that are gone.
    """
    name = "" if group.alone else f"process {group.rank}: "
    Console(stderr=True, markup=False).print(name + reason, highlight=False, soft_wrap=True)
    if not group.alone:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _check_parallel(command: Command, group: Processes) -> None:
    """Raise ConfigError if torchrun started several processes of a command that runs in one."""
    if not group.alone and not getattr(command, "data_parallel", False):
        raise ConfigError(
            f"torchrun started {group.size} processes, but only policykd merge shares its work among them; start this "
            f"command without torchrun (its own options, such as --threads or --executor, use the cores)"
        )


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
