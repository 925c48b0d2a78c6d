"""Every kernel that a policy step launches compiles for sm_90, on a machine without a GPU."""

from functools import partial
from importlib.util import find_spec

import pytest
import torch
from warp_worlds import warp_engine

from policykd.envs.batched_env import EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.physics.contact_budget import ContactSizes
from policykd.envs.skills import get_skill

pytestmark = [
    pytest.mark.warp,
    pytest.mark.skipif(find_spec("mujoco_warp") is None, reason="mujoco_warp is not installed: make test-warp"),
]
FEW = EnvConfig(tracks=8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, so that nothing was compiled before."""
    import warp

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warp.config, "kernel_cache_dir", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def worlds(name):
    engine = partial(warp_engine, sizes=ContactSizes(32, 128))
    env = MaskedEnv([get_skill(name)], 2, config=FEW, threads=1, make_engine=engine)
    env.reset()
    return env


@pytest.mark.parametrize("name", ["biped/steps", "quadruped/stairs"])
def test_all_kernels_of_a_step_compile_for_sm_90(name, cache):
    from policykd.envs.physics.warp_kernels import compile_modules, launched_modules

    env = worlds(name)
    modules = launched_modules(lambda: env.step_masked(torch.zeros(2, env.num_actions)))
    names = {module for module, _ in modules}
    assert any("mujoco_warp" in module and "solver" in module for module in names)
    assert any(module.endswith("physics.mujoco_warp") for module in names), "our own kernels are among them"
    assert len(modules) > 25
    assert compile_modules(modules, 90) == {}
    compiled = list(cache.rglob("*sm90*.cubin")) + list(cache.rglob("*sm90*.ptx"))
    assert len(compiled) >= len(names)


def test_a_kernel_that_does_not_compile_is_named(cache):
    import warp as wp

    from policykd.envs.physics.warp_kernels import compile_modules

    @wp.func_native("this is not C++;")
    def broken(x: float): ...

    @wp.kernel(module="unique")
    def kernel(x: wp.array[float]):
        broken(x[0])

    failed = compile_modules({(kernel.module.name, 256): kernel.module}, 90)
    assert list(failed) == [(kernel.module.name, 256)]
