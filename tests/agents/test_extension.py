"""A training whose budget is spent goes on while no validation has reached a success."""

import json
from dataclasses import replace

import pytest
from small_training import SMALL

from policykd.agents.training import train_expert
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError

FLAT = get_skill("biped/flat")
FEW = replace(SMALL, steps=2048, segment_steps=1024, finalists=1, extension=0.75, extend_below=0.5)


def trained(config, tmp_path, monkeypatch, successes, rewards=()):
    """Return the steps of the validations of a training whose validations find these successes and rewards."""
    found = iter(successes), iter(rewards)
    measure = lambda self, policy: {"success": next(found[0]), "reward_per_step": next(found[1], 0.1)}  # noqa: E731
    monkeypatch.setattr("policykd.agents.validation.Validation.measure", measure)
    train_expert([FLAT], tmp_path, config)
    return [json.loads(line)["steps"] for line in (tmp_path / "progress.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("extension", "successes", "steps"),
    [
        (0.75, (0.0, 0.49, 0.2, 0.1), [1024, 2048, 3072, 3584]),  # 2048 and three quarters of it
        (0.75, (0.0, 0.5), [1024, 2048]),
        (0.75, (0.6, 0.0), [1024, 2048]),  # an earlier validation counts: its weights can be the result
        (0.75, (0.0, 0.0, 0.7), [1024, 2048, 3072]),
        (0.0, (0.0, 0.0), [1024, 2048]),
    ],
)
def test_it_goes_on_until_a_success_or_the_end_of_the_extension(extension, successes, steps, tmp_path, monkeypatch):
    assert trained(replace(FEW, extension=extension), tmp_path, monkeypatch, successes) == steps


@pytest.mark.parametrize(
    ("rewards", "steps"),
    [
        ((0.5, 0.7, 0.76, 0.9), [1024, 2048]),  # the rise to the last of the budget is 0.4 of 0.5, below extend_rise
        ((0.5, 0.8, 0.9), [1024, 2048, 3072]),
        ((0.5, 0.8, 1.3, 2.2), [1024, 2048, 3072, 3584]),  # to the end of the extension
        ((-1.0, -0.4, -0.3), [1024, 2048, 3072]),  # rises by 0.6 and by 0.1
    ],
)
def test_it_goes_on_while_the_reward_rises(rewards, steps, tmp_path, monkeypatch):
    config = replace(FEW, extend_rise=0.5)
    assert trained(config, tmp_path, monkeypatch, (0.6,) * 4, rewards) == steps


def test_a_rising_reward_counts_in_a_resumed_training(tmp_path, monkeypatch):
    config = replace(FEW, extend_rise=0.5)
    with pytest.raises(StopIteration):
        trained(config, tmp_path, monkeypatch, (0.6, 0.6), (0.5, 0.8))
    found = iter((0.9,))
    measure = lambda self, policy: {"success": 0.6, "reward_per_step": next(found)}  # noqa: E731
    monkeypatch.setattr("policykd.agents.validation.Validation.measure", measure)
    train_expert([FLAT], tmp_path, config, resume=True)
    lines = (tmp_path / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line)["steps"] for line in lines] == [1024, 2048, 3072]


def test_a_segment_ends_at_the_budget_so_that_an_extension_changes_nothing_before_it(tmp_path, monkeypatch):
    config = replace(FEW, steps=1536)
    assert trained(config, tmp_path, monkeypatch, (0.0, 0.0, 0.0, 0.0)) == [1024, 1536, 2560, 3072]  # whole rollouts
    assert round(1536 * 0.75) + 1536 == 2688  # the last rollout of 512 steps passes it


def test_extensions_out_of_range_are_refused():
    for change in ({"extension": -0.1}, {"extend_below": 1.5}, {"extend_rise": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(change))):
            replace(SMALL, **change)
