"""Edges of several rooms of policies: files of torch, folders of zips, audits, exports, PPO on the device, episodes."""

import math
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from policykd.agents import audit
from policykd.agents.acting import Acting
from policykd.agents.architecture import Architecture, Memory
from policykd.agents.episodes import EpisodeOutcomes
from policykd.agents.export.c_writer import _number
from policykd.agents.export.check import TOLERANCE, Comparison
from policykd.agents.export.runtime import split_groups
from policykd.agents.files import container
from policykd.agents.function_policy import FunctionPolicy
from policykd.agents.importing import torch_files
from policykd.agents.importing.formats import policy_path
from policykd.agents.importing.torch_files import TorchFile, _Tensors, is_torch_file, read_torch_file
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import FrameStack, TimeFeature, make_policy
from policykd.agents.training.algorithms.ppo import PpoAdaptation, PpoConfig
from policykd.agents.training.device_ppo import DevicePpo, EpisodeMeans
from policykd.agents.validation import check_episodes
from policykd.errors import ConfigError, ContractError, PolicyFileError
from policykd.symbolic_pickle import PickleError, Record

SMALL = Architecture(hidden=(4,), critic_hidden=(4,))


def saved(path, tree, **options):
    torch.save(tree, path, **options)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("dtype", "values"),
    [(torch.float32, [0.5, -2.0]), (torch.float64, [0.1, 3.0]), (torch.float16, [0.5, 2.0]), (torch.int64, [-5, 7]),
     (torch.int32, [1, 2]), (torch.int16, [3, -4]), (torch.int8, [-1, 5]), (torch.uint8, [0, 255]),
     (torch.bool, [True, False])],
)  # fmt: skip
def test_tensors_of_every_type_are_read(dtype, values, tmp_path):
    tree = {"a": torch.tensor(values, dtype=dtype), "b": [1, (torch.nn.Parameter(torch.ones(2, 3)), "text")]}
    found = read_torch_file(saved(tmp_path / "x.pt", tree), "x.pt")
    assert isinstance(found, TorchFile)
    assert not found.script
    assert found.tree["a"].tolist() == values
    assert found.tree["b"][1][0].shape == (2, 3)
    assert found.tree["b"][1][1] == "text"
    strided = torch.arange(12.0).reshape(3, 4)
    tree = {"t": strided.T, "s": strided[1:, ::2], "e": torch.zeros(0, 3)}
    found = read_torch_file(saved(tmp_path / "x.pt", tree), "x.pt").tree
    assert found["t"].tolist() == strided.T.tolist()
    assert found["s"].tolist() == [[4.0, 6.0], [8.0, 10.0]]
    assert found["e"].shape == (0, 3)


def test_files_before_torch_1_6(tmp_path):
    strided = torch.arange(12.0).reshape(3, 4)
    tree = {"t": strided.T, "s": strided[1:, ::2], "n": torch.tensor([1, -2]), "text": "x", "e": torch.zeros(0, 3),
            "p": torch.nn.Parameter(torch.ones(2, dtype=torch.float64))}  # fmt: skip
    old = saved(tmp_path / "old.pt", tree, _use_new_zipfile_serialization=False)
    assert is_torch_file(old)
    found = read_torch_file(old, "old.pt")
    assert not found.script
    assert found.tree["text"] == "x"
    assert found.tree["e"].shape == (0, 3)
    for key in ("t", "s", "n", "p"):
        assert found.tree[key].tolist() == tree[key].tolist()
        assert found.tree[key].dtype == tree[key].detach().numpy().dtype
    for content, reason in (
        (old[:-1], r"storage \d+ of \d+ numbers is not in the file"),
        (old[:40], r"the pickle is damaged"),
        (old.replace(b"FloatStorage", b"BadlyStorage"), r"the file holds a torch\.BadlyStorage, which is not read"),
        (old.replace(b"storageq", b"stolageq"), r"refers to something that is not a storage"),
    ):
        with pytest.raises(PolicyFileError, match=rf"old\.pt cannot be read: .*{reason}"):
            read_torch_file(content, "old.pt")
    keys = old.index(b"\x80\x02]")  # the list of the storages' keys
    with pytest.raises(PolicyFileError, match=r"does not hold the storages that its tensors refer to"):
        read_torch_file(old[:keys] + b"\x80\x02]q\x00." + old[keys:], "old.pt")


def test_types_and_files_that_are_not_read(tmp_path):
    with pytest.raises(PolicyFileError, match=r"x\.pt cannot be read: the file holds a torch.BFloat16Storage"):
        read_torch_file(saved(tmp_path / "x.pt", {"a": torch.ones(1, dtype=torch.bfloat16)}), "x.pt")
    with pytest.raises(PolicyFileError, match=r"x\.pt is not a file of torch\.save, or a damaged one"):
        read_torch_file(b"no zip", "x.pt")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("data.pkl", b"x")
    content = (tmp_path / "z.zip").read_bytes()
    assert not is_torch_file(content)
    with pytest.raises(PolicyFileError, match=r"z\.zip holds no data\.pkl"):
        read_torch_file(content, "z.zip")
    whole = saved(tmp_path / "x.pt", {"a": torch.ones(3)})
    assert is_torch_file(whole)
    with zipfile.ZipFile(tmp_path / "x.pt") as archive, zipfile.ZipFile(tmp_path / "y.pt", "w") as other:
        for name in archive.namelist():
            if not name.endswith("data/0"):
                other.writestr(name, archive.read(name))
    with pytest.raises(PolicyFileError, match="lacks its storage 0"):
        read_torch_file((tmp_path / "y.pt").read_bytes(), "y.pt")


def test_files_may_unpack_to_the_limit(tmp_path, monkeypatch):
    content = saved(tmp_path / "x.pt", {"a": torch.ones(3)})
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        size = sum(info.file_size for info in archive.infolist())
    monkeypatch.setattr(torch_files, "MOST_BYTES", size)
    assert read_torch_file(content, "x").tree["a"].tolist() == [1.0] * 3
    monkeypatch.setattr(torch_files, "MOST_BYTES", size - 1)
    with pytest.raises(PolicyFileError, match="x unpacks to more than"):
        read_torch_file(content, "x")


def test_trees_may_be_sixty_levels_deep():
    for depth in (60, 61):
        tree = 1.0
        for _ in range(depth):
            tree = [tree]
        if depth == 60:
            assert _Tensors(1).of(tree) == tree
        else:
            with pytest.raises(PickleError, match="deeper than 60 levels"):
                _Tensors(1).of(tree)


def test_numbers_of_tensors_are_counted_together():
    storage = np.arange(4.0)
    reader = _Tensors(6)
    assert reader._tensor(storage, 0, (2, 2), (2, 1)).tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert reader._tensor(storage, 1, (2,), (2,)).tolist() == [1.0, 3.0]
    with pytest.raises(PickleError, match="unfold to far more numbers"):
        reader._tensor(storage, 0, (1,), (1,))
    assert _Tensors(4)._tensor(storage, 0, (4,), (0,)).tolist() == [0.0] * 4
    for shape, strides, offset, message in (((5,), (0,), 0, "repeats the numbers"), ((2,), (1, 1), 0, "strides"),
                                            ((2,), (-1,), 3, "strides"), ((2,), (1,), -1, "strides"),
                                            ((2.0,), (1,), 0, "strides")):  # fmt: skip
        with pytest.raises(PickleError, match=message):
            _Tensors(100)._tensor(storage, offset, shape, strides)
    with pytest.raises(PickleError, match="strides"):
        _Tensors(100)._tensor([1.0], 0, (1,), (1,))
    kept = Record("a.B", (), {"x": [storage]}, {"k": (1, 2)}, [3])
    found = _Tensors(9).of(kept)
    assert (found.name, found.items, found.elements) == ("a.B", {"k": (1, 2)}, [3])


def test_a_folder_stands_for_its_only_zip(tmp_path):
    own = tmp_path / "run"
    own.mkdir()
    assert policy_path(tmp_path / "x.zip") == tmp_path / "x.zip"
    with pytest.raises(PolicyFileError, match="run is a folder with 0 zips; name the policy's file"):
        policy_path(own)
    (tmp_path / "run.zip").write_bytes(b"")
    assert policy_path(own) == tmp_path / "run.zip"
    (own / "a.zip").write_bytes(b"")
    assert policy_path(own) == own / "a.zip"
    (own / "b.zip").write_bytes(b"")
    with pytest.raises(PolicyFileError, match="with 2 zips"):
        policy_path(own)
    (tmp_path / "f.zip").mkdir()
    with pytest.raises(PolicyFileError, match=r"f\.zip is a folder with 0 zips"):
        policy_path(tmp_path / "f.zip")


def test_a_comparison_passes_up_to_the_tolerance():
    base = Comparison(1, 0.0, 0.0, (1.0, 1.0), 1, 1, (0.5, 0.5), by_success=True)
    assert TOLERANCE == 1e-5
    above = math.nextafter(TOLERANCE, 1.0)
    for field in ("largest_action", "largest_target"):
        assert replace(base, **{field: TOLERANCE}).passed
        assert not replace(base, **{field: above}).passed


def test_numbers_of_a_header_read_back_to_the_same_bits():
    assert [_number(v) for v in (1.0, -3.0, 0.5, 1e20, 1e-7)] == ["1.0f", "-3.0f", "0.5f", "1e+20f", "1e-07f"]
    for value in np.random.default_rng(0).normal(size=100).astype(np.float32):
        assert np.float32(_number(float(value)).removesuffix("f")) == value


def test_groups_are_columns_in_order():
    rows = np.arange(12.0).reshape(2, 6)
    parts = split_groups(rows, {"a": 1, "b": 3, "c": 2})
    assert [part.tolist() for part in parts] == [[[0.0], [6.0]], [[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]],
                                                 [[4.0, 5.0], [10.0, 11.0]]]  # fmt: skip


@pytest.mark.parametrize(("fault", "rows"), [("frozen", [0, 0, 0, 0, 0]), ("delayed", [0, 0, 0, 1, 2])])
def test_disturbances_take_a_group_from_earlier_observations(fault, rows):
    seen = [torch.full((3, 4), float(step)) for step in range(5)]
    disturb, history = audit._disturbance(fault, slice(1, 3), 2, 0), []
    for step, row in enumerate(rows):
        changed = disturb(seen[step], history)
        assert changed[:, 1:3].unique().tolist() == [float(row)]
        assert changed[:, [0, 3]].unique().tolist() == [float(step)]
        history.append(seen[step])


def test_shuffled_observations_are_those_of_other_simulations():
    disturb = audit._disturbance("shuffled", slice(0, 2), 2, 0)
    now = torch.arange(40.0).reshape(10, 4)
    changed = disturb(now, [])
    assert not torch.equal(changed, now)
    assert torch.equal(changed[:, :2].sort(0).values, now[:, :2])
    assert torch.equal(changed[:, 1] - changed[:, 0], torch.ones(10))
    assert torch.equal(changed[:, 2:], now[:, 2:])


def test_the_change_of_actions_is_a_root_mean_square_of_what_is_executed():
    def policy(rows):
        return rows[:, :2]

    states = torch.tensor([[[0.5, 3.0], [0.25, -0.5]], [[0.0, 0.0], [1.0, 1.0]]])
    found = audit._change(policy, states, lambda now, history: now + 0.5 * len(history) + 0.25)
    first, second = states[0].clamp(-1, 1), states[1]
    gaps = torch.cat([(states[0] + 0.25).clamp(-1, 1) - first, (second + 0.75).clamp(-1, 1) - second])
    assert found == pytest.approx(float(gaps.square().mean().sqrt()))


def device_ppo(minibatch=2):
    env = SimpleNamespace(device=torch.device("cpu"), num_envs=2, num_actions=1, stagger=None)
    env.picker, env.engine = torch.Generator(), SimpleNamespace(generators=())

    def reset(*, stagger):
        env.stagger = stagger
        return {"a": torch.zeros(2, 1), "b": torch.ones(2, 2)}

    env.reset = reset
    policy = Policy({"a": 1, "b": 2}, 1, SMALL, 0)
    config = PpoConfig(envs=2, rollout_steps=1, minibatch=minibatch, entropy_weight=0.1)
    return DevicePpo(policy, env, config, 0), policy, env


def test_gains_are_standardized_where_there_are_several():
    ppo, policy, _ = device_ppo()
    features = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actions = policy.actor(features) + 0.1
        std = policy.log_std.exp()
        log_probs = torch.distributions.Normal(policy.actor(features), std).log_prob(actions).sum(1)
        values = policy.critic(features).squeeze(1)
        bonus = 0.1 * torch.distributions.Normal(torch.zeros(1), std).entropy().sum()
    gains = torch.tensor([1.0, 4.0])
    for count in (1, 2):
        rows = slice(0, count)
        with torch.no_grad():
            loss = ppo._loss(features[rows], actions[rows], log_probs[rows], values[rows], gains[rows])
        # the ratio is one: the surrogate is the mean gain, which is 0 once standardized; the critic's error is the gain
        expected = (-1.0 if count == 1 else 0.0) + 0.5 * float(gains[rows].square().mean()) - float(bonus)
        assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_the_ratio_is_clipped_where_that_is_worse():
    ppo, policy, _ = device_ppo()
    features = torch.zeros(1, 3)
    with torch.no_grad():
        mean, std = policy.actor(features), policy.log_std.exp()
        now = torch.distributions.Normal(mean, std).log_prob(mean).sum(1)
        bonus = 0.1 * float(torch.distributions.Normal(torch.zeros(1), std).entropy().sum())
        value = policy.critic(features).squeeze(1)
        for ratio, gain, surrogate in ((2.0, 1.0, 1.2), (2.0, -1.0, -2.0), (0.5, 1.0, 0.5), (0.5, -1.0, -0.8)):
            loss = ppo._loss(features, mean, now - math.log(ratio), value, torch.tensor([gain]))
            assert float(loss) == pytest.approx(-surrogate + 0.5 * gain**2 - bonus, rel=1e-4)


def test_the_first_episodes_begin_at_different_times_and_columns_are_in_order():
    ppo, _, env = device_ppo()
    ppo._begin()
    assert env.stagger is True
    assert ppo._flat.tolist() == [[0.0, 1.0, 1.0]] * 2
    ppo._flat += 5.0
    ppo._begin()
    assert ppo._flat[0, 0] == 5.0, "only the first rollout begins with a reset"
    state = ppo.state_dict()
    other, _, _ = device_ppo()
    other.load_state_dict(state)
    assert torch.equal(other._flat, ppo._flat)


def test_means_of_episodes_wait_for_enough_of_them():
    means = EpisodeMeans(torch.device("cpu"))
    assert means.take() == {}
    means.sums.copy_(torch.tensor([4.0, 8.0, 40.0, 2.0, 1.0]))
    assert means.take(5) == {}
    assert means.take(4) == {"train_return": 2.0, "train_length": 10.0, "train_distance": 0.5, "train_success": 0.25}
    assert means.sums.sum() == 0
    means.sums[0] = 1.0
    assert means.take()["train_return"] == 0.0


@pytest.mark.parametrize(
    ("divergence", "spent", "factor"),
    [(0.04, 0.0, 1.0), (0.041, 0.0, 1 / 1.5), (0.01, 0.0, 1.0), (0.0099, 0.0, 1.5), (0.03, 0.5, 1.0),
     (0.0301, 0.5, 1 / 1.5), (0.0301, 0.0, 1.0), (0.0051, 1.0, 1.0), (0.0049, 1.0, 1.5)],
)  # fmt: skip
def test_step_sizes_follow_the_divergence(divergence, spent, factor):
    made = PpoAdaptation(PpoConfig(learning_rate=4e-4, target_kl=0.02, final_target_kl=0.01))
    made.adapt(divergence, spent)
    assert made.value == pytest.approx(4e-4 * factor)


def test_step_sizes_stay_within_their_range():
    made = PpoAdaptation(PpoConfig(learning_rate=1e-3, learning_rate_range=(9e-4, 1.2e-3)))
    made.adapt(1.0, 0.0)
    assert made.value == 9e-4
    made.value = 1e-3
    made.adapt(0.0, 0.0)
    assert made.value == 1.2e-3


def test_outcomes_over_the_steps_of_a_whole_episode():
    zeros = torch.zeros(2)
    outcomes = EpisodeOutcomes(torch.tensor([5.0, 2.0]), zeros, zeros, zeros.bool(), 10)
    assert outcomes.reward_per_step.tolist() == pytest.approx([0.5, 0.2])
    check_episodes([1, 2], 2)
    with pytest.raises(ConfigError, match=r"validation_episodes is 1 but must be at least the number of skills \(2\)"):
        check_episodes([1, 2], 1)


def test_memories_of_wrappers_step_by_step():
    time, rows = TimeFeature(4), torch.ones(2, 3)
    seen, state = time(rows, torch.tensor([[0.0], [3.0]]))
    assert seen[:, 3].tolist() == [1.0, 0.25]
    assert state.tolist() == [[1.0], [4.0]]
    assert (time.state_size(3), FrameStack(3, first=False).state_size(3)) == (1, 7)
    for first, before in ((False, 0.0), (True, 1.0)):
        stack, state = FrameStack(3, first=first), torch.zeros(1, 5)
        seen, state = stack(torch.tensor([[1.0, 1.0]]), state)
        assert seen.tolist() == [[before] * 4 + [1.0, 1.0]]
        seen, state = stack(torch.tensor([[2.0, 2.0]]), state)
        assert seen.tolist() == [[before, before, 1.0, 1.0, 2.0, 2.0]]
        assert state.tolist() == [[1.0, 1.0, 2.0, 2.0, 1.0]]


@pytest.mark.parametrize(("kind", "size"), [("lstm", 8), ("gru", 4), ("time-feature", 1), ("frame-stack", 3 * 3 + 1)])
def test_sizes_of_states_and_forgetting(kind, size):
    policy = make_policy({"a": 3}, 2, replace(SMALL, memory=Memory(kind, 4)), 0).eval()
    assert policy.state_size == size
    acting = Acting(policy)
    with torch.no_grad():
        first = acting(torch.ones(2, 3))
        spread = acting.distribution(torch.ones(2, 3))
        assert torch.allclose(spread.stddev, policy.log_std.exp().expand(2, 2))
        acting.forget(torch.tensor([True, False]))
        assert acting.state[0].abs().sum() == 0
        assert acting.state[1].abs().sum() > 0
        torch.testing.assert_close(acting(torch.ones(2, 3))[0], first[0])
        acting.begin()
        torch.testing.assert_close(acting(torch.ones(5, 3))[4], first[0])
    outputs = {"lstm": 4, "gru": 4, "time-feature": 4, "frame-stack": 12}[kind]
    assert policy.actor[0].in_features == outputs
    assert policy.architecture.memory.parameters(3) == sum(p.numel() for p in policy.memory.parameters())


def test_seeds_of_recurrent_policies_leave_the_stream_of_the_caller_alone():
    shape = replace(SMALL, memory=Memory("gru", 4))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = make_policy({"a": 3}, 2, shape, 5)
    assert torch.equal(torch.rand(1), expected)
    two = make_policy({"a": 3}, 2, shape, 5)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    torch.manual_seed(3)
    make_policy({"a": 3}, 2, shape)
    assert not torch.equal(torch.rand(1), expected)


def test_functions_act_within_their_bounds():
    policy = FunctionPolicy(lambda rows: rows[:, :2] * [1.0, 10.0], {"a": 3}, [-2.0, 0.0], [2.0, 5.0])
    found = policy(torch.tensor([[1.0, 0.25, 9.0], [-9.0, 9.0, 0.0], [0.0, -1.0, 0.0]]))
    assert found.tolist() == [[0.5, 0.0], [-1.0, 1.0], [0.0, -1.0]]
    assert policy.value(torch.ones(3, 3)).tolist() == [0.0] * 3
    wrong = FunctionPolicy(lambda rows: rows, {"a": 3}, [-2.0, 0.0], [2.0, 5.0])
    with pytest.raises(ContractError, match=r"shape \(1, 3\) for 1 observations; it must return \(1, 2\)"):
        wrong(torch.ones(1, 3))
    rows = torch.tensor([[1.0, 1.0, 0.0], [2.0, math.nan, 0.0]])
    with pytest.raises(ContractError, match=r"returned \[2.0, nan\] for observation \[2.0, nan, 0.0\]"):
        policy(rows)


def test_names_next_to_a_missing_file_are_suggested(tmp_path):
    assert container._hint(tmp_path / "none" / "x") == ""
    for name in ("walker", "runner.zip", ".walkers"):
        (tmp_path / name).touch()
    assert container._hint(tmp_path / "wolker") == f"; did you mean {tmp_path / 'walker'}?"
    assert container._hint(tmp_path / "runner") == f"; did you mean {tmp_path / 'runner.zip'}?"
    assert container._hint(tmp_path / "qqqqqq") == ""
