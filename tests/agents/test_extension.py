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


def trained(config, tmp_path, monkeypatch, successes):
    """Return the steps of the validations of a training whose validations find these successes."""
    found = iter(successes)
    measure = lambda self, policy: {"success": next(found), "reward_per_step": 0.1}  # noqa: E731
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


def test_a_segment_ends_at_the_budget_so_that_an_extension_changes_nothing_before_it(tmp_path, monkeypatch):
    config = replace(FEW, steps=1536)
    assert trained(config, tmp_path, monkeypatch, (0.0, 0.0, 0.0, 0.0)) == [1024, 1536, 2560, 3072]  # whole rollouts
    assert round(1536 * 0.75) + 1536 == 2688  # the last rollout of 512 steps passes it


def test_extensions_out_of_range_are_refused():
    for change in ({"extension": -0.1}, {"extend_below": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(change))):
            replace(SMALL, **change)
