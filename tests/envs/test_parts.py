"""Loops over parts of the simulations: every row once, the same result for any number of threads, errors arrive."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from policykd.envs import BatchedEnv, get_skill
from policykd.envs.stepping.parts import LEAST, Parts


@pytest.mark.parametrize(
    ("rows", "threads", "count"),
    [(1, 8, 1), (2 * LEAST - 1, 2, 1), (2 * LEAST, 2, 2), (2 * LEAST, 1, 1), (10 * LEAST, 4, 4), (3 * LEAST + 5, 8, 3)],
)
def test_parts_cover_every_row_once_and_are_large_enough(rows: int, threads: int, count: int) -> None:
    parts = Parts(rows, threads)
    visits = np.zeros(rows, int)
    parts.run(lambda part: visits.__setitem__(part, visits[part] + 1))
    assert (visits == 1).all()
    assert len(parts.slices) == count
    assert count == 1 or min(part.stop - part.start for part in parts.slices) >= LEAST


def test_the_first_part_runs_in_the_calling_thread_and_the_others_elsewhere() -> None:
    names: dict[int, int] = {}
    Parts(3 * LEAST, 3).run(lambda part: names.__setitem__(part.start, threading.get_ident()))
    assert names.pop(0) == threading.get_ident()
    assert len(names) == 2
    assert threading.get_ident() not in names.values()


def test_an_error_in_any_part_arrives() -> None:
    def fail(part: slice) -> None:
        if part.start > 0:
            raise ValueError(f"part at {part.start}")

    with pytest.raises(ValueError, match=f"part at {LEAST}"):
        Parts(2 * LEAST, 2).run(fail)


def test_observations_and_rewards_do_not_depend_on_the_number_of_threads() -> None:
    skills = [get_skill("quadruped/gaps"), get_skill("quadruped/flat")]
    one, three = (BatchedEnv(skills, 3 * LEAST, threads=threads, seed=4) for threads in (1, 3))
    one.reset(stagger=True), three.reset(stagger=True)
    actions = torch.rand(one.num_envs, one.num_actions, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for _ in range(30):
        a, b = one.step(actions), three.step(actions)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)
        assert torch.equal(a.terminated, b.terminated)
    assert a.reward.std() > 0
