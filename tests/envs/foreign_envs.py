"""Small gymnasium environments for tests: a point that is steered, with known returns."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Point(gymnasium.Env):
    """A point on a line; the reward is minus its squared distance from a goal. It ends early beyond 3."""

    metadata = {"render_modes": [], "render_fps": 20}

    def __init__(self, goal=1.0, named=False, gain=0.5, low=-2.0, high=4.0):
        self.goal, self.named, self.gain = goal, named, gain
        self.action_space = spaces.Box(np.float32(low), np.float32(high), (1,))
        box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.observation_space = spaces.Dict({"z_place": box, "a_goal": spaces.Box(-9, 9, (1,))}) if named else box

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.v = self.np_random.uniform(-1, 1), 0.0
        return self._observe(), {}

    def _observe(self):
        place = np.array([self.x, self.v])
        return {"z_place": place, "a_goal": np.array([self.goal], np.float32)} if self.named else place

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, dtype=np.float32))
        self.v = self.gain * float(action[0])
        self.x += 0.1 * self.v
        far = abs(self.x) > 3.0
        return (
            self._observe(),
            -((self.x - self.goal) ** 2) - 10.0 * far,
            far,
            False,
            {"is_success": abs(self.x - self.goal) < 0.1},
        )


class Steps(gymnasium.Env):
    """A point on a line that is moved by two discrete actions: a direction of three, and a length of two."""

    metadata = {"render_modes": [], "render_fps": 20}

    def __init__(self, goal=1.0, several=True):
        self.goal, self.several = goal, several
        self.action_space = spaces.MultiDiscrete([3, 2]) if several else spaces.Discrete(3)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1)
        return np.array([self.x, self.goal]), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        direction, length = action if self.several else (action, 1)
        self.x += (int(direction) - 1) * (0.05, 0.2)[int(length)]
        return np.array([self.x, self.goal]), -abs(self.x - self.goal), abs(self.x) > 3, False, {}


def register():
    """Register the environments under ids of their own."""
    if "policykd-tests/Point-v0" not in gymnasium.registry:
        gymnasium.register("policykd-tests/Point-v0", entry_point=Point, max_episode_steps=30)
        gymnasium.register("policykd-tests/Steps-v0", entry_point=Steps, max_episode_steps=30)


register()
