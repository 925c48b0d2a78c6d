"""Policies with a latent: what they act on, what trains which part, what leaves for a robot."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.agents.architecture import Architecture, Encoder, Latent, Memory
from policykd.agents.export import export_policy
from policykd.agents.export.runtime import missing_for_c
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.injection import inject
from policykd.agents.latent_policy import LatentPolicy, _restricted, without_encoder
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.agents.training.config import TrainConfig
from policykd.agents.training.experts import train_expert
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import MirrorSymmetry, mirror_symmetry
from policykd.errors import ConfigError, ContractError, UnknownNameError
from policykd.merge import MergeConfig
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.fitting import Fitting

needs_compiler = pytest.mark.skipif(missing_for_c() is not None, reason="no C compiler")

GROUPS = {"secret": 2, "own": 3, "own:4": 12}
SHAPE = Architecture((8,), (6,), latent=Latent(4, (5,), history=("own:4",), privileged=("secret",)))
SKILL = get_skill("biped/flat", ("terrain", "proprio", "proprio:2"))


def policy_of(shape=SHAPE, groups=GROUPS, actions=2, seed=0, symmetry=None):
    policy = make_policy(groups, actions, shape, seed, symmetry)
    assert isinstance(policy, LatentPolicy)
    with torch.no_grad():
        policy.actor[-1].weight.mul_(100.0)
        draws = torch.randn(50, policy.observation_size, generator=torch.Generator().manual_seed(seed))
        policy.update_normalizer(2.0 * draws + 0.5)
    return policy


def walker(seed=0):
    """A symmetric policy of the biped that estimates the terrain from the last readings of its body."""
    shape = Architecture((8,), (6,), latent=Latent(4, (5,), ("proprio:2",), ("terrain",)))
    robot = SKILL.robot
    return policy_of(shape, SKILL.group_sizes, robot.num_actions, seed, mirror_symmetry(SKILL.groups, robot))


@torch.no_grad()
def test_it_acts_on_what_it_estimates_from_its_history():
    policy, rows = policy_of(), torch.randn(9, 17)
    features = policy.normalizer(rows)
    latent = policy.adaptation(features[:, 5:])
    torch.testing.assert_close(policy(rows), policy.actor(torch.cat([features[:, 2:5], latent], dim=1)))
    other = rows.clone()
    other[:, :2] += 3.0
    assert torch.equal(policy(other), policy(rows))  # what a robot does not measure does not count
    assert (policy.value(other) - policy.value(rows)).abs().max() > 1e-3  # but to the critic, which helps learning
    other[:, 5:] += 1.0
    assert (policy(other) - policy(rows)).abs().max() > 1e-2
    assert policy.architecture.parameters(GROUPS, 2) == sum(p.numel() for p in policy.parameters())


def test_imitation_trains_the_actor_on_the_encoder_and_the_estimate_toward_it():
    policy, rows = policy_of(), torch.randn(9, 17)
    mean, error = policy.imitate(rows)
    features = policy.normalizer(rows)
    encoded, estimated = policy.encoder(features[:, :2]), policy.adaptation(features[:, 5:])
    torch.testing.assert_close(mean, policy.actor(torch.cat([features[:, 2:5], encoded], dim=1)))
    difference = estimated - encoded
    assert error.item() == pytest.approx(1.1 * difference.square().mean().item(), rel=1e-5)
    found = torch.autograd.grad(error, [policy.adaptation[-1].bias, policy.encoder[-1].bias], retain_graph=True)
    slope = 2 * difference.mean(dim=0) / 4
    torch.testing.assert_close(found[0], slope, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found[1], -0.1 * slope, atol=1e-6, rtol=1e-4)
    assert torch.autograd.grad(mean.sum(), policy.adaptation[-1].bias, allow_unused=True) == (None,)
    assert len(policy.acting_parameters()) == len(list(policy.parameters())) - len(list(policy.critic.parameters())) - 1


def test_what_a_history_tells_of_a_hidden_number_is_learned():
    """The label is the hidden number; the history holds it with noise, the other group says nothing of it."""
    draws = torch.Generator().manual_seed(0)
    hidden = torch.randn(600, 2, generator=draws)
    history = hidden.repeat(1, 6) + 0.3 * torch.randn(600, 12, generator=draws)
    rows = torch.cat([hidden, torch.randn(600, 3, generator=draws), history], dim=1)
    no, zero = torch.zeros(600, 1, dtype=torch.bool), torch.zeros(600)
    none = torch.zeros(0, dtype=torch.long)
    rollout = LabeledRollout(rows, 0.3 * hidden, zero[:, None], no, no, ~no, none, rows[:0], zero, zero)
    policy = make_policy(GROUPS, 2, SHAPE, 0)
    policy.update_normalizer(rows)
    pool = StatePool(1)
    pool.add(0, rollout)
    config = MergeConfig(rounds=2, updates=200, minibatch=64, learning_rate=1e-2)
    fitting = Fitting(policy, torch.zeros(1, 2), config)
    for round_ in (0, 1):
        fitting.fit(pool, [64], round_, torch.Generator().manual_seed(round_))
    with torch.no_grad():
        error = (policy(rows) - 0.3 * hidden).square().mean() / (0.3 * hidden).var()
    assert float(error) < 0.1  # the mean of six noisy copies leaves 0.015
    # Validation and held-out losses are those of the policy that acts, without its encoder.
    batch = pool.sample([64], torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = (policy(batch.observations) - batch.labels).square().mean()
    assert fitting.loss(batch) == pytest.approx(float(expected), rel=1e-5)


@torch.no_grad()
def test_what_leaves_for_a_robot_reads_no_privileged_group_and_acts_alike():
    policy = walker()
    rows = torch.randn(200, policy.observation_size)
    mirrored = policy.canonical(rows)[1]
    assert 0.2 < float(mirrored.double().mean()) < 0.8
    deployed = without_encoder(policy)
    assert deployed.groups == {"proprio": 49, "proprio:2": 98}
    torch.testing.assert_close(deployed(rows[:, 50:]), policy(rows), atol=1e-6, rtol=1e-5)
    plain = without_encoder(policy_of())
    seen = torch.randn(9, 17)
    torch.testing.assert_close(plain(seen[:, 2:]), policy_of()(seen), atol=1e-6, rtol=1e-5)


@needs_compiler
@torch.no_grad()
def test_files_hold_the_encoder_and_exports_do_not(tmp_path):
    policy = walker()
    save_policy(tmp_path / "student", policy, robot=SKILL.robot, skills=["biped/flat"], operation="merge", seed=0)
    loaded, manifest = load_policy(tmp_path / "student")
    assert manifest.format_version == 6
    assert manifest.parameters == sum(v.numel() for v in policy.state_dict().values())
    rows = torch.randn(20, policy.observation_size)
    assert torch.equal(loaded(rows), policy(rows))
    assert torch.equal(loaded.imitate(rows)[0], policy.imitate(rows)[0])
    report = export_policy(tmp_path / "student", tmp_path / "out", per_group=True, states=64, episodes=2, threads=1)
    for file in report.files.values():
        assert file.comparison.largest_action <= 1e-5
    header = (tmp_path / "out" / "policy.h").read_text()
    assert "const float proprio[49], const float proprio_2[98], float actions" in header
    assert "terrain" not in header.split("#ifndef")[1]
    assert np.isfinite(report.files["onnx"].comparison.largest_target)


def test_shapes_that_cannot_be_are_refused(tmp_path):
    for shape, groups, message in (
        (Latent(4, (5,), (), ("secret",)), GROUPS, "name a history that the student reads"),
        (Latent(4, (5,), ("own:4", "own"), ("secret",)), GROUPS, "leave one to the actor itself"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_policy(groups, 2, replace(SHAPE, latent=shape), 0)
    with pytest.raises(UnknownNameError, match="group of the latent 'own:5'"):
        make_policy(GROUPS, 2, replace(SHAPE, latent=Latent(4, (5,), ("own:5",), ())), 0)
    with pytest.raises(ConfigError, match="both name own"):
        Latent(4, (5,), ("own",), ("own",))
    for wrong in ({"size": 0}, {"hidden": (0,)}, {"hidden": (1,) * 65}):
        with pytest.raises(ConfigError, match=r"latent\."):
            Latent(**wrong)
    for other in ({"memory": Memory("gru", 4)}, {"encoders": (Encoder("secret"),)}):
        with pytest.raises(ConfigError, match="neither encoders nor a memory"):
            replace(SHAPE, **other)
    with pytest.raises(ConfigError, match=r"leave out architecture\.latent"):
        Policy(GROUPS, 2, SHAPE)
    with pytest.raises(ConfigError, match="needs an architecture with a latent"):
        LatentPolicy(GROUPS, 2, Architecture())
    with pytest.raises(ContractError, match=r"injection needs one network .* has a latent.*policykd merge POLICY"):
        inject(walker(), ["command"], robot=SKILL.robot, sizes={"command": 3})
    with pytest.raises(ConfigError, match="have no latent"):
        train_expert([SKILL], tmp_path / "out", TrainConfig(architecture=SHAPE))


@torch.no_grad()
def test_what_leaves_for_a_robot_keeps_noise_statistics_and_mode():
    policy = policy_of(replace(SHAPE, initial_std=0.7))
    policy.normalizer.min_std, policy.normalizer.clip = 0.125, 4.0
    for mode in (True, False):
        deployed = without_encoder(policy.train(mode))
        assert deployed.training is mode
    assert torch.equal(deployed.log_std, policy.log_std)
    for name in ("mean", "var"):
        assert torch.equal(getattr(deployed.normalizer, name), getattr(policy.normalizer, name)[2:])
    assert torch.equal(deployed.normalizer.count, torch.full((15,), float(policy.normalizer.count)))
    assert (deployed.normalizer.min_std, deployed.normalizer.clip) == (0.125, 4.0)
    assert deployed.architecture.latent == replace(SHAPE.latent, privileged=())


def test_a_symmetry_of_some_features_keeps_their_exchange_and_their_signs():
    # Features 0 and 1 leave; 2 and 5 are exchanged, 3 and 4 stay in place, and 4 changes its sign.
    whole = MirrorSymmetry((1, 0, 5, 3, 4, 2), (1, 0), (2, 5), (-1.0, -1.0, 1.0, 1.0, -1.0, 1.0))
    assert _restricted(whole, [2, 3, 4, 5]) == MirrorSymmetry((3, 1, 2, 0), (1, 0), (0, 3), (1.0, 1.0, -1.0, 1.0))
    assert _restricted(whole, [2, 3, 5]) == MirrorSymmetry((2, 1, 0), (1, 0), (0, 2))
    unsigned = MirrorSymmetry((1, 0, 3, 2), (1, 0), (2, 3))
    assert _restricted(unsigned, [2, 3]) == MirrorSymmetry((1, 0), (1, 0), (0, 1))


def test_a_new_estimate_has_the_size_of_its_input():
    """The output layers of both networks are orthogonal with gain 1, so that a latent is neither blown up nor lost."""
    policy = make_policy(GROUPS, 2, SHAPE, 0)
    for network in (policy.adaptation, policy.encoder):
        weight = network[-1].weight
        torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, Architecture((8,), (6,)), Architecture((8,), (6,), memory=Memory("gru", 4))])
def test_a_seed_determines_the_weights_and_leaves_other_draws_alone(shape):
    def made(seed, before):
        torch.manual_seed(before)
        policy = make_policy(GROUPS, 2, shape, seed)
        return torch.cat([value.flatten() for value in policy.parameters()]), torch.rand(1)

    torch.manual_seed(3)
    untouched = torch.rand(1)
    (weights, after), (again, _), (other, _) = made(5, 3), made(5, 4), made(6, 3)
    assert torch.equal(after, untouched)
    assert torch.equal(weights, again)
    assert not torch.equal(weights, other)
    (drawn, after), (other, _) = made(None, 3), made(None, 4)
    assert not torch.equal(after, untouched)
    assert not torch.equal(drawn, other)
    acting = [name for name, _ in make_policy(GROUPS, 2, shape, 5).named_parameters() if "critic" not in name]
    one, two = (dict(make_policy(GROUPS, 2, shape, seed).named_parameters()) for seed in (5, 6))
    assert all(not torch.equal(one[name], two[name]) for name in acting if name.endswith("weight"))
