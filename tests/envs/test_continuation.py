"""An environment that went through a file goes on as if nothing had happened."""

import pytest
import torch
from worlds import FEW

from policykd.envs.batched_env import BatchedEnv
from policykd.envs.physics import BatchEngine, LoopEngine
from policykd.envs.skills import get_skill


@pytest.mark.parametrize("engine", [BatchEngine, LoopEngine])
def test_state_dict_continues_bit_for_bit(engine, tmp_path):
    skills = [get_skill("biped/gaps"), get_skill("biped/slopes")]
    first, second = (BatchedEnv(skills, 12, seed=4, config=FEW, make_engine=engine) for _ in "ab")
    generator = torch.Generator().manual_seed(0)
    first.reset(stagger=True)
    first.level = 0.5
    for _ in range(70):
        first.step(torch.randn(12, 11, generator=generator) * 0.4)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.level == 0.5
    ended = 0
    for _ in range(120):  # falls, restarts on other tracks, windows that move
        actions = torch.randn(12, 11, generator=generator) * 0.4
        a, b = first.step(actions), second.step(actions)
        assert torch.equal(a.reward, b.reward)
        assert torch.equal(a.truncated, b.truncated)
        for name, value in a.observations.items():
            assert torch.equal(value, b.observations[name])
        ended += len(a.episodes.ids)
    assert ended > 12
