"""The algorithms of expert training, and one that another package adds without an edit here."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from outside_algorithm import A2cConfig

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.agents.training import ALGORITHMS, PpoConfig, SacConfig, TrainConfig, train_expert
from policykd.agents.training.trainer import Run
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, UnknownNameError
from policykd.plain import as_plain, from_plain

FLAT = get_skill("biped/flat", ("proprio",))
A2C = TrainConfig(
    algorithm="outside_algorithm:ALGORITHM",
    settings=A2cConfig(envs=16),
    steps=512,
    segment_steps=256,
    validation_episodes=2,
    threads=1,
    architecture=Architecture(hidden=(16,), critic_hidden=(16,)),
)


def test_known_algorithms_say_what_they_can_do():
    assert set(ALGORITHMS.names()) >= {"ppo", "sac"}
    ppo, sac = ALGORITHMS["ppo"], ALGORITHMS["sac"]
    assert (ppo.config, ppo.devices, ppo.squash, ppo.symmetric) == (PpoConfig, ("cpu", "cuda"), False, True)
    assert (sac.config, sac.devices, sac.squash, sac.symmetric) == (SacConfig, ("cpu",), True, False)
    assert (TrainConfig().envs, TrainConfig(algorithm="sac").envs) == (PpoConfig().envs, SacConfig().envs)


def test_an_algorithm_of_another_package_trains_an_expert(tmp_path):
    result = train_expert([FLAT], tmp_path, A2C)
    assert result.steps == 512
    policy = load_policy(result.policy_path).policy
    assert policy.symmetry is not None
    config = json.loads((tmp_path / "config.json").read_text())["train"]
    assert config["algorithm"] == "outside_algorithm:ALGORITHM"
    assert config["settings"]["envs"] == 16
    untrained = Policy(FLAT.group_sizes, 11, A2C.architecture, 0)
    assert not torch.equal(policy.actor[0].weight.norm(), untrained.actor[0].weight.norm())


def test_it_is_resumed_as_if_nothing_had_happened(tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    whole = train_expert([FLAT], tmp_path / "whole", A2C)
    save = Run._save

    def dying(run):
        save(run)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_save", dying)
        with pytest.raises(Killed):
            train_expert([FLAT], tmp_path / "killed", A2C)
    resumed = train_expert([FLAT], tmp_path / "killed", A2C, resume=True)
    first, second = (load_policy(r.policy_path).manifest.weights_sha256 for r in (whole, resumed))
    assert first == second


def test_its_own_adaptation_sets_the_step_size(tmp_path, monkeypatch):
    rates = []
    validate = Run._validate

    def noted(run):
        rates.append(run._adaptation.value)
        return validate(run)

    monkeypatch.setattr(Run, "_validate", noted)
    train_expert([FLAT], tmp_path, replace(A2C, algorithm="outside_algorithm:FALLING"))
    assert rates == [1e-3 / 2, 1e-3 / 4]  # two rollouts per segment; the first follows no update of its segment


def test_settings_may_be_a_mapping_and_are_checked():
    assert replace(A2C, settings={"envs": 4}).algorithm_config == A2cConfig(envs=4)
    assert from_plain(TrainConfig, as_plain(A2C)).algorithm_config == A2C.algorithm_config
    with pytest.raises(UnknownNameError, match="did you mean envs"):
        _ = replace(A2C, settings={"env": 4}).envs
    with pytest.raises(ConfigError, match=r"settings.envs is 'many'"):
        _ = replace(A2C, settings={"envs": "many"}).envs
    with pytest.raises(ConfigError, match="ppo reads the field ppo"):
        TrainConfig(settings={"envs": 4})


def test_reading_a_configuration_imports_nothing(tmp_path, monkeypatch):
    """A stored result may come from a stranger; only a training imports the algorithm that it names."""
    (tmp_path / "surprise.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = from_plain(TrainConfig, {"algorithm": "surprise:ALGORITHM"})
    assert "surprise" not in sys.modules
    with pytest.raises(SystemExit):
        _ = config.envs


@pytest.mark.parametrize(
    ("name", "message"),
    [("no_such_package:X", "cannot be imported"), ("outside_algorithm:A2cConfig", "must be a Algorithm")],
)
def test_what_is_not_an_algorithm_is_refused_before_the_folder_is_used(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        train_expert([FLAT], tmp_path / "run", replace(A2C, algorithm=name))
    assert not (tmp_path / "run").exists()


def test_bounded_actions_are_asked_for_before_the_folder_is_used(tmp_path):
    with pytest.raises(ConfigError, match=r"algorithm sac needs .*architecture\.squash"):
        train_expert([FLAT], tmp_path / "run", TrainConfig(algorithm="sac", steps=100))
    assert not (tmp_path / "run").exists()


def test_equal_seeds_give_equal_experts_of_sac(tmp_path):
    """Its critics and random first actions come from the run's seed, too."""
    config = TrainConfig(
        algorithm="sac",
        steps=320,
        segment_steps=160,
        validation_episodes=2,
        threads=1,
        architecture=Architecture(hidden=(16,), critic_hidden=(16,), squash=True),
        sac=SacConfig(envs=16, warmup_steps=64, minibatch=32, gradient_steps=2),
    )
    paths = [train_expert([FLAT], tmp_path / name, config).policy_path for name in ("one", "two")]
    first, second = (load_policy(path).manifest.weights_sha256 for path in paths)
    assert first == second
