"""Settings of a CUDA device: what they change, that they are valid, and which commands choose them."""

from dataclasses import replace

import pytest

from policykd.agents.training.config import PpoConfig, TrainConfig
from policykd.agents.training.defaults import PLANAR, SPATIAL, TWO_LEGS
from policykd.agents.training.device_settings import DEVICE, DeviceSettings, device_ppo, device_settings
from policykd.agents.training.sb3_callback import next_level
from policykd.cli.commands.train import Train
from policykd.curriculum.presets import preset, preset_names
from policykd.envs import devices
from policykd.envs.devices import is_card
from policykd.envs.skills import get_skill
from policykd.envs.world_counts import round_worlds
from policykd.merge.config import MergeConfig
from policykd.merge.device_settings import device_merge

WALLS = get_skill("biped/walls")


@pytest.mark.parametrize("config", [PLANAR, SPATIAL, TWO_LEGS], ids=["planar", "spatial", "two-legs"])
def test_a_device_has_many_worlds_and_short_rollouts(config):
    found = device_settings(config)
    ppo, before = found.ppo, config.ppo
    assert ppo.envs == DEVICE.worlds == round_worlds(DEVICE.worlds)
    assert ppo.envs * ppo.rollout_steps == DEVICE.minibatches * ppo.minibatch
    assert ppo.target_kl == DEVICE.target_kl * before.target_kl
    assert ppo.final_target_kl == DEVICE.target_kl * before.final_target_kl
    assert (ppo.gamma, ppo.epochs, ppo.learning_rate) == (before.gamma, before.epochs, before.learning_rate)
    assert found.steps == DEVICE.budget * config.steps
    assert found.averaging_steps == DEVICE.budget * config.averaging_steps
    assert found.segment_steps == DEVICE.segment * ppo.envs * ppo.rollout_steps
    assert found.level_step == DEVICE.level_step > config.level_step
    assert (found.architecture, found.seed, found.device) == (config.architecture, config.seed, config.device)


def test_settings_are_taken_from_the_record():
    own = DeviceSettings(worlds=512, rollout_steps=10, minibatches=5, target_kl=3.0, budget=1.5, segment=7)
    found = device_settings(replace(PLANAR, review_steps=1000), own)
    assert (found.ppo.envs, found.ppo.rollout_steps, found.ppo.minibatch) == (512, 10, 1024)
    assert (found.steps, found.segment_steps, found.review_steps) == (4_500_000, 7 * 5120, 1500)
    assert device_ppo(PpoConfig(envs=800), own).envs == 1024, "a configuration that asks for more keeps more, rounded"


def test_other_algorithms_keep_their_settings():
    config = TrainConfig(algorithm="sac", symmetric=False)
    assert device_settings(config) is config


@pytest.mark.parametrize(
    ("count", "rounded"),
    [(1, 64), (64, 64), (65, 128), (240, 256), (1000, 1024), (1025, 2048), (4096, 4096), (4097, 8192), (9000, 12288)],
)
def test_numbers_of_worlds_are_rounded_up(count, rounded):
    assert round_worlds(count) == rounded


def test_the_level_rises_by_the_configured_step():
    class Env:
        level = 0.5
        config = type("Config", (), {"graded": True, "own_levels": None})

    assert next_level(Env, TrainConfig(), 0.5) == pytest.approx(0.54)
    assert next_level(Env, TrainConfig(level_step=0.1), 0.5) == pytest.approx(0.6)
    assert next_level(Env, TrainConfig(level_step=0.9), 0.5) == 1.0
    assert next_level(Env, TrainConfig(level_step=0.1), 0.3) == 0.5


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_has_settings_for_a_device(name):
    recipe = preset(name)
    found = recipe.on_device("cuda:1")
    assert [plan.steps for plan in found.skills] == [DEVICE.budget * plan.steps for plan in recipe.skills]
    assert found.train == replace(device_settings(recipe.train), device="cuda:1")
    assert found.joint == device_ppo(recipe.joint)
    assert found.merge == replace(device_merge(recipe.merge), device="cuda:1")
    assert found.measurement == replace(recipe.measurement, device="cuda:1")
    here = replace(recipe, train=replace(recipe.train, device="cpu"))
    assert here.on_device("cpu") == recipe


def test_a_merge_collects_more_at_once():
    found = device_merge(MergeConfig(envs=32, rounds=6))
    assert (found.envs, found.batched_teachers, found.rounds) == (128, True, 6)


def test_train_chooses_them_and_leaves_given_budgets():
    """On a skill without settings of its own."""
    assert Train(("biped/walls",), device="cuda")._config(WALLS) == replace(device_settings(PLANAR), device="cuda")
    assert Train(("biped/walls",), device="cuda", steps=777)._config(WALLS).steps == 777
    assert Train(("biped/walls",), device="cpu")._config(WALLS) == PLANAR
    assert Train(("biped/walls",), device="cuda", algorithm="sac")._config(WALLS).steps == PLANAR.steps
    fewer = Train(("biped/walls",), device="cuda", set=("ppo.envs=512",))._config(WALLS)
    assert fewer.ppo.envs == 512


def test_auto_is_a_card_where_nothing_is_missing(monkeypatch):
    assert [is_card(name) for name in ("cpu", "cuda", "cuda:3", "meta")] == [False, True, True, False]
    for missing, card in (([], True), (["a driver"], False)):
        monkeypatch.setattr(devices, "missing_for_cuda", lambda missing=missing: missing)
        assert is_card("auto") is card
