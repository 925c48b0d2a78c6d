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
SIZES = {"biped/steps": (ContactSizes(40, 160), 6), "quadruped/stairs": (ContactSizes(32, 128), 8)}
"""Room for contacts and numbers of worlds of the other tests, so that the CPU's kernels are compiled once."""


@pytest.fixture
def compiled_into(tmp_path, monkeypatch):
    """A function that compiles modules for sm_90 into an empty cache, so that nothing was compiled before."""
    import warp

    from policykd.envs.physics.warp_kernels import compile_modules

    monkeypatch.chdir(tmp_path)

    def compile_all(modules):
        monkeypatch.setattr(warp.config, "kernel_cache_dir", str(tmp_path / "kernels"))
        failed = compile_modules(modules, 90)
        return failed, [path for path in (tmp_path / "kernels").rglob("*sm90*") if path.suffix in (".cubin", ".ptx")]

    return compile_all


def launched_by(name):
    from policykd.envs.physics.warp_kernels import launched_modules

    sizes, count = SIZES[name]
    env = MaskedEnv([get_skill(name)], count, config=FEW, threads=1, make_engine=partial(warp_engine, sizes=sizes))
    env.reset()
    return launched_modules(lambda: env.step_masked(torch.zeros(count, env.num_actions)))


def test_all_kernels_of_steps_compile_for_sm_90(compiled_into):
    planar, spatial = launched_by("biped/steps"), launched_by("quadruped/stairs")
    for modules in (planar, spatial):
        names = {module for module, _ in modules}
        assert any("solver" in module for module in names)
        assert any(module.endswith("physics.mujoco_warp") for module in names), "our own kernels are among them"
        assert len(modules) > 25
    assert set(planar) - set(spatial), "nothing differs between the robots"
    failed, files = compiled_into(planar | spatial)
    assert failed == {}
    assert len(files) >= len({module for module, _ in planar | spatial})


def test_modules_that_do_not_compile_are_named(monkeypatch):
    import warp

    from policykd.envs.physics.warp_kernels import compile_modules

    class Module:
        def __init__(self, name):
            self.name, self.options = name, {"block_dim": 256}

    seen = []

    def compile_one(module, arch):
        seen.append((module.name, module.options["block_dim"], arch))
        if module.name == "bad":
            raise RuntimeError("line 7: not C++")

    monkeypatch.setattr(warp, "compile_aot_module", compile_one)
    good, bad = Module("good"), Module("bad")
    failed = compile_modules({("good", 64): good, ("bad", 32): bad, ("good", 128): good}, 80)
    assert failed == {("bad", 32): "line 7: not C++"}
    assert seen == [("good", 64, 80), ("bad", 32, 80), ("good", 128, 80)]
    assert good.options["block_dim"] == bad.options["block_dim"] == 256
