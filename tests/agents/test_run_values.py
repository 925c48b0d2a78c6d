"""Training runs without learning: segments, validations, finalists, files and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_training import SMALL
from training_samples import FLAT, STEPS, small_policy

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.agents.training import experts, trainer
from policykd.agents.training.algorithm import Adaptation
from policykd.agents.training.algorithms import ALGORITHMS
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.config import FINAL_EPISODES
from policykd.agents.training.experts import request, train_expert
from policykd.agents.training.trainer import Run
from policykd.errors import ConfigError, ContractError, OutputError, UnknownNameError
from policykd.progress import Silent
from policykd.seeding import integer_seed
from told import Told


class Learner:
    """Stands in for an algorithm: takes 40 steps for every call and notes the arguments."""

    def __init__(self):
        self.num_timesteps, self.calls = 0, []
        self.action_space = SimpleNamespace(seed=lambda seed: self.calls.append(("seed", seed)))
        self.seeds = []

    def learn(self, steps, callback, reset_num_timesteps):
        self.calls.append((steps, reset_num_timesteps, float(torch.rand(1)), float(np.random.rand())))  # noqa: NPY002
        self.num_timesteps += steps
        callback.model = SimpleNamespace(ep_info_buffer=None)


def run_of(config, measured, folder=None):
    """A run without environment and algorithm."""
    run = Run.__new__(Run)
    run._config, run._folder, run._progress, run._name = config, folder, Told(), "train x"
    run._skills, run._validate_on, run._init = (FLAT,), (FLAT,), None
    run._policy = small_policy()
    run._average = WeightAverage(run._policy, 0)
    run._adaptation = Adaptation(1e-3)
    run._algorithm = ALGORITHMS["ppo"]
    run._learner = Learner()
    run._env = SimpleNamespace(seed=lambda seed: run._learner.seeds.append(seed), level=0.5, failures=3, robot="biped")
    run._env.skills = [SimpleNamespace(absent_groups=())]
    run._policy.normalizer.update(torch.randn(4, 3))
    run._steps, run._segment, run._streak, run._seconds, run._best, run._rewards = 0, 0, 0, 0.0, [], []
    measured = iter(measured)

    def measure(policy):
        success, reward = next(measured)
        return {"success": success, "reward_per_step": reward, "distance": 1.0}

    run._validation = SimpleNamespace(measure=measure)
    return run


def test_every_segment_has_its_own_streams_and_the_last_one_the_rest_of_the_budget():
    config = replace(SMALL, steps=100, segment_steps=40, seed=6)
    run = run_of(config, [])
    for segment, steps in enumerate((40, 40, 20)):
        run._learn_segment()
        seed = integer_seed(6, "segment", segment)
        torch.manual_seed(seed)
        drawn = float(torch.rand(1)), float(np.random.RandomState(seed).rand())
        assert run._learner.calls == [("seed", seed), (steps, False, *drawn)]
        assert run._learner.seeds == [seed]
        run._learner.calls.clear()
        run._learner.seeds.clear()
    assert (run._steps, run._segment) == (100, 3)


def test_a_new_normalizer_is_warmed_up_before_the_first_segment(monkeypatch):
    run, warmed = run_of(replace(SMALL, steps=100, segment_steps=40), []), []
    monkeypatch.setattr(trainer, "warm_up_normalizer", lambda policy, env: warmed.append((policy, env)))
    run._learn_segment()
    assert warmed == []
    run._policy = small_policy()
    run._learn_segment()
    assert warmed == [(run._policy, run._env)]


@pytest.mark.parametrize(
    ("steps", "streak", "over"), [(99, 0, False), (100, 0, True), (101, 0, True), (5, 2, True), (5, 1, False)]
)
def test_a_run_is_over_when_its_budget_is_spent_or_its_targets_are_held(steps, streak, over):
    run = run_of(replace(SMALL, steps=100, patience=2), [])
    run._steps, run._streak = steps, streak
    assert run._over is over


@pytest.mark.parametrize(("successes", "budget"), [((), 175), ((0.4, 0.45), 175), ((0.4, 0.5), 100)])
def test_a_run_is_extended_while_no_validation_was_good_enough(successes, budget):
    run = run_of(replace(SMALL, steps=100, extension=0.75, extend_below=0.5), [])
    run._best = [{"success": success} for success in successes]
    assert run._budget == budget


def test_validations_keep_the_finalists_and_count_those_that_reach_the_targets():
    config = replace(SMALL, finalists=2, target_success=0.8, target_reward=0.5, patience=3)
    measured = [(0.8, 0.5), (0.9, 0.4), (0.7, 0.9), (0.9, 0.6), (1.0, 0.5)]
    run, streaks = run_of(config, measured), []
    for number in range(5):
        run._average.policy.log_std.data.fill_(float(number))
        assert run._validate()["distance"] == 1.0
        streaks.append(run._streak)
    assert streaks == [1, 0, 0, 1, 2]
    assert [(b["success"], b["reward_per_step"]) for b in run._best] == [(1.0, 0.5), (0.9, 0.6)]
    assert [b["weights"]["log_std"].tolist() for b in run._best] == [[4.0, 4.0], [3.0, 3.0]]  # copies


def finalists(*scores):
    found = []
    for number, (success, reward) in enumerate(scores):
        policy = small_policy()
        policy.log_std.data.fill_(float(number))
        weights = {k: v.clone() for k, v in policy.state_dict().items()}
        found.append({"success": success, "reward_per_step": reward, "weights": weights})
    return found


def test_finalists_are_measured_again_on_other_tracks(monkeypatch):
    run, made = run_of(replace(SMALL, patience=2, validation_episodes=4), []), []

    def make(skills, config, purpose):
        made.append((skills, config.validation_episodes, purpose))
        scores = iter([(0.5, 0.9), (0.7, 0.2), (0.7, 0.3)])
        return SimpleNamespace(measure=lambda p: dict(zip(("success", "reward_per_step"), next(scores), strict=True)))

    monkeypatch.setattr(trainer, "make_validation", make)
    monkeypatch.setattr(trainer, "FINAL_EPISODES", FINAL_EPISODES)  # other tests have fewer
    run._best = finalists((1.0, 0.9), (0.9, 0.9), (0.8, 0.9))
    best = run._final_choice()
    assert made == [((FLAT,), 256, "final validation")]
    assert (best["success"], best["reward_per_step"], best["weights"]["log_std"].tolist()) == (0.7, 0.3, [2.0, 2.0])
    run._config = replace(SMALL, validation_episodes=300)
    run._final_choice()
    assert made[-1][1] == 300
    for streak, best in ((2, finalists((1.0, 0.9), (0.9, 0.9))), (0, finalists((1.0, 0.9)))):
        run._streak, run._best = streak, best
        assert run._final_choice() is best[0]
    assert len(made) == 2


def test_the_file_and_the_result_of_a_run(monkeypatch, tmp_path):
    saved, finished = [], []
    monkeypatch.setattr(trainer, "save_policy", lambda path, policy, **record: saved.append((path, policy, record)))
    folder = SimpleNamespace(path=tmp_path, finish=finished.append)
    for streak, reached in ((2, True), (1, False)):
        run = run_of(replace(SMALL, patience=2, seed=6), [], folder)
        run._best, run._streak, run._steps, run._seconds = finalists((0.75, 0.5)), streak, 1_234_000, 100.0
        run._best[0]["weights"]["log_std"].fill_(0.25)
        run._finish()
        path, policy, record = saved.pop()
        assert (path, policy.log_std.tolist()) == (tmp_path / "policy", [0.25, 0.25])
        metrics = record.pop("metrics")
        assert metrics == {"success": 0.75, "reward_per_step": 0.5, "steps": 1_234_000, "seconds": run._seconds}
        assert record["skills"] == ["biped/flat"]
        assert (record["operation"], record["seed"], record["parents"], record["robot"]) == ("train", 6, [], "biped")
        assert record["config"]["patience"] == 2
        assert finished.pop() == {**metrics, "reached_target": reached, "failures": 3}
        assert 100.0 <= run._seconds < 110.0
        assert run._progress.all == [("train x", "success 0.75 after 1.23 M steps, 100 s")]


def test_a_run_from_a_policy_names_it_as_its_parent(monkeypatch, tmp_path):
    saved = []
    monkeypatch.setattr(trainer, "save_policy", lambda path, policy, **record: saved.append(record["parents"]))
    run = run_of(SMALL, [], SimpleNamespace(path=tmp_path, finish=lambda result: None))
    run._init = SimpleNamespace(manifest=SimpleNamespace(as_parent=lambda name: name, skills=("a", "b")))
    run._best = finalists((0.75, 0.5))
    run._finish()
    assert saved == [["a b"]]


def test_a_loop_learns_validates_logs_and_saves_until_it_is_over():
    config = replace(SMALL, steps=100, segment_steps=40, target_success=2.0)
    logged, saved, finished = [], [], []
    folder = SimpleNamespace(append=logged.append, load_checkpoint=lambda: None, save_checkpoint=saved.append)
    run = run_of(config, [(0.1, 0.2), (0.3, 0.4), (0.2, 0.6)], folder)
    run._learner_state = dict
    run._finish = lambda: finished.append(True)
    run.go()
    assert [row["steps"] for row in logged] == [40, 80, 100]
    assert [(row["success"], row["reward_per_step"], row["level"]) for row in logged] == [
        (0.1, 0.2, 0.5), (0.3, 0.4, 0.5), (0.2, 0.6, 0.5),
    ]  # fmt: skip
    seconds = [row["seconds"] for row in logged]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < 60
    assert run._progress.all == [("train x", 100, "steps")]
    assert finished == [True]
    last = saved[-1]
    assert (last["steps"], last["segment"], last["streak"], last["learning_rate"]) == (100, 3, 0, 1e-3)
    again = run_of(config, [], SimpleNamespace(load_checkpoint=lambda: {**last, "learning_rate": 2e-3, "streak": 1}))
    loaded = []
    again._load_learner_state = loaded.append
    again._restore()
    assert (again._steps, again._segment, again._streak, again._adaptation.value) == (100, 3, 1, 2e-3)
    assert again._best is last["best"]
    assert again._seconds == last["seconds"] == seconds[-1]
    assert loaded
    assert again._over


@pytest.mark.parametrize(("noise", "expected"), [(None, 0.5), (0.3, 0.3)])
def test_a_training_from_a_policy_trains_it_with_the_noise_that_was_asked_for(noise, expected):
    run = run_of(replace(SMALL, init_noise=noise), [])
    policy = small_policy()
    run._init = SimpleNamespace(policy=policy)
    assert run._first_policy() is policy
    assert policy.log_std.exp().tolist() == pytest.approx([expected] * 2)


@pytest.mark.parametrize(
    ("wanted", "algorithm", "symmetric"), [(True, "ppo", True), (False, "ppo", False), (True, "sac", False)]
)
def test_new_weights_are_symmetric_where_configuration_and_algorithm_allow_it(wanted, algorithm, symmetric):
    run = run_of(replace(SMALL, symmetric=wanted, seed=4), [])
    run._algorithm = ALGORITHMS[algorithm]
    run._env = SimpleNamespace(skill=FLAT, num_actions=11)
    policy = run._first_policy()
    assert (policy.symmetry is not None) is symmetric
    again = Policy(FLAT.group_sizes, 11, SMALL.architecture, integer_seed(4, "weights", "biped/flat"), policy.symmetry)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in policy.state_dict().items())


def test_a_run_makes_its_environment_and_validation_from_its_seed(monkeypatch, tmp_path):
    made, validated = [], []

    def make_env(skills, count, **options):
        made.append((skills, count, options))
        return SimpleNamespace(level=None, skill=FLAT, num_actions=11, num_envs=count)

    monkeypatch.setattr(Run, "_make_env", staticmethod(make_env))
    monkeypatch.setattr(Run, "_make_learner", lambda self: None)
    monkeypatch.setattr(trainer, "Validation", lambda *args, **options: validated.append((args, options)))
    for curriculum, level in ((True, 0.1), (False, 1.0)):
        config = replace(SMALL, seed=4, curriculum=curriculum, averaging_steps=77)
        run = Run((STEPS,), SimpleNamespace(path=tmp_path), config, None, (FLAT,), Silent())
        ((skills, count, options),) = made
        assert (skills, count) == ((STEPS,), 32)
        assert options.pop("config").graded is curriculum
        assert options == {"seed": integer_seed(4, "training"), "threads": 1, "device": "cpu"}
        assert run._env.level == level
        seed = integer_seed(4, "validation")
        assert validated == [(((FLAT,), 4), {"seed": seed, "threads": 1, "device": "cpu"})]
        assert (run._average._horizon, run._name) == (77, "train biped/steps")
        assert (run._steps, run._segment, run._streak, run._seconds, run._best) == (0, 0, 0, 0.0, [])
        made.clear()
        validated.clear()


@pytest.fixture
def ran(monkeypatch):
    """Runs that finish at once; their arguments."""
    found = []

    def make(skills, folder, config, init, validate_on, progress):
        def go():
            found.append((skills, config, init, validate_on))
            folder.finish({"steps": 1, "seconds": 2.0, "success": 0.5, "reward_per_step": 0.25,
                           "reached_target": True, "failures": 0})  # fmt: skip

        return SimpleNamespace(go=go)

    monkeypatch.setattr(experts, "_run_class", lambda config: make)
    return found


def test_a_finished_training_is_not_run_again(ran, tmp_path):
    result = train_expert([FLAT], tmp_path, SMALL)
    assert ran == [([FLAT], SMALL, None, [FLAT])]
    assert (result.steps, result.success, result.reached_target) == (1, 0.5, True)
    assert result.policy_path == tmp_path / "policy"
    assert train_expert([FLAT], tmp_path, SMALL, resume=True) == result
    with pytest.raises(OutputError, match="--resume"):
        train_expert([FLAT], tmp_path, SMALL)
    with pytest.raises(ConfigError, match=r"train\.seed"):
        train_expert([FLAT], tmp_path, replace(SMALL, seed=1), resume=True)
    with pytest.raises(ConfigError, match="validate_on"):
        train_expert([FLAT], tmp_path, SMALL, validate_on=[STEPS], resume=True)
    assert len(ran) == 1
    train_expert([FLAT], tmp_path / "other", SMALL, validate_on=[STEPS])
    assert ran[1][3] == [STEPS]


def init_of(groups=("proprio", "terrain"), squash=False):
    sizes = {name: FLAT.group_sizes[name] for name in groups}
    policy = Policy(sizes, 11, Architecture((4,), (4,), squash=squash), 0)
    return SimpleNamespace(policy=policy, manifest=SimpleNamespace(weights_sha256="f" * 64))


def test_trainings_that_cannot_work_leave_no_folder(ran, tmp_path):
    shorter = replace(STEPS, episode_steps=100)
    sac, single = replace(SMALL, algorithm="sac"), replace(SMALL, validation_episodes=1)
    cases = [
        (ContractError, "episode_steps", {"skills": [FLAT, shorter]}),
        (ContractError, "episode_steps", {"validate_on": [shorter]}),
        (ConfigError, "validation_episodes is 4", {"validate_on": [FLAT] * 5}),
        (ConfigError, "validation_episodes is 1", {"config": single, "skills": [FLAT, STEPS]}),
        (ConfigError, r"set architecture\.squash", {"config": sac}),
        (ConfigError, r"set architecture\.squash", {"config": sac, "init": init_of()}),
        (ContractError, "the initial policy reads", {"init": init_of(("terrain", "proprio"))}),
        (ContractError, "the initial policy reads", {"init": init_of(("proprio",))}),
        (UnknownNameError, "did you mean", {"config": replace(SMALL, device="cudaa")}),
    ]  # fmt: skip
    for error, message, given in cases:
        options = {"skills": [FLAT], "config": SMALL, **given}
        with pytest.raises(error, match=message):
            train_expert(options.pop("skills"), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    assert ran == []
    squashed = replace(sac, architecture=Architecture((4,), (4,), squash=True))
    train_expert([FLAT], tmp_path / "a", squashed)
    train_expert([FLAT], tmp_path / "b", sac, init=init_of(squash=True))
    train_expert([FLAT], tmp_path / "c", SMALL, init=init_of())
    assert len(ran) == 3


def test_the_record_of_a_training_holds_what_it_depends_on():
    assert request([FLAT], SMALL, None) == {"skills": [FLAT], "train": SMALL, "init": None}
    found = request([FLAT], SMALL, init_of(), [STEPS])
    assert found == {"skills": [FLAT], "train": SMALL, "init": "f" * 64, "validate_on": [STEPS]}


def test_the_class_of_a_run_is_that_of_its_device():
    from policykd.agents.training.device_trainer import DeviceRun

    assert experts._run_class(SMALL) is Run
    assert experts._run_class(replace(SMALL, device="cuda")) is DeviceRun
