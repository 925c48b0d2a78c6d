"""Child processes of tests that start warm: importing torch and its optimizers again takes seconds."""

import multiprocessing
import sys
from multiprocessing.process import BaseProcess

import torch


def start_children(work, *arguments: tuple) -> list[BaseProcess]:
    """Start ``work(*arguments[i])`` in one process each.

    They are forks of this one, so what is imported is there, and compute on one thread, because torch's threads do not
    survive a fork. A CUDA device does not survive it either, and systems other than Linux fork badly: there, the
    processes are new ones.
    """
    fork = sys.platform == "linux" and not torch.cuda.is_available()
    context = multiprocessing.get_context("fork" if fork else "spawn")
    children = [context.Process(target=_run_alone, args=(work, *given)) for given in arguments]
    for child in children:
        child.start()
    return children


def join_children(children: list[BaseProcess], seconds: float = 600) -> list[int | None]:
    """Return the exit codes of all, minus the signal's number for one that was killed."""
    for child in children:
        child.join(seconds)  # a busy machine is slow
        child.kill()
        child.join()
    return [child.exitcode for child in children]


def _run_alone(work, *given) -> None:
    torch.set_num_threads(1)
    work(*given)
