"""Fixtures of all tests of agents."""

import pytest


@pytest.fixture(autouse=True)
def few_final_episodes():
    """Let the validation that chooses between the finalists of a run have 8 episodes: 256 cost more than the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("policykd.agents.training.trainer.FINAL_EPISODES", 8)
        yield
