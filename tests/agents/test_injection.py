"""Injection and growth: outputs are kept to float precision, and what is new can learn."""

from pathlib import Path

import pytest
import torch
from injection_samples import ENCODERS, ROBOT, blind_policy, random_groups

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.files.policy_file import load_policy
from policykd.agents.injection import grow, inject, inject_optimizer_state, largest_difference
from policykd.agents.policy import Normalizer, Policy
from policykd.agents.training.sb3_policy import TwoRates, trained_parameters
from policykd.errors import ConfigError, ContractError, UnknownNameError

EXPERT = Path(__file__).parent.parent / "data" / "flat-expert"
BOTH = ("proprio", "terrain")


@pytest.fixture(params=list(ENCODERS))
def encoder(request):
    return ENCODERS[request.param]


@torch.no_grad()
def fingerprint(policy, observations):
    """Sums that no reordering of weights leaves alone."""
    flat = policy.flatten(observations)
    return [float(policy(flat).sum()), float(policy.value(flat).sum())]


@pytest.mark.parametrize("symmetric", [False, True])
def test_exact_injection_keeps_every_output(encoder, symmetric):
    before = blind_policy(symmetric=symmetric)
    after = inject(before, ["terrain"], robot=ROBOT, encoder=encoder)
    observations = random_groups(BOTH, 10_000)
    assert largest_difference(before, after, observations) <= 1e-6 * float(
        before.value(observations["proprio"]).detach().abs().max()
    )
    extreme = {**observations, "terrain": torch.full_like(observations["terrain"], float("inf"))}
    assert largest_difference(before, after, extreme) <= 1e-5
    assert torch.equal(before.log_std, after.log_std)


def test_exact_injection_in_double_precision(encoder):
    before = blind_policy().double()
    after = inject(before, ["terrain"], robot=ROBOT, encoder=encoder)
    assert after.actor[-1].weight.dtype == torch.float64
    assert largest_difference(before, after, random_groups(BOTH, dtype=torch.float64)) < 1e-13


def test_a_trained_expert_keeps_its_actions():
    """The stored expert reads terrain already; a gait clock is new to it once it forgets about left and right."""
    before = load_policy(EXPERT).policy
    before.symmetry = None
    after = inject(before, ["phase"], robot=ROBOT)
    assert list(after.groups) == ["proprio", "terrain", "phase"]
    groups = random_groups(after.groups, 2000)
    assert largest_difference(before, after, {**groups, "terrain": groups["terrain"] / 1000}) <= 1e-6


def test_injection_leaves_the_old_policy_alone_and_repeats(encoder):
    before = blind_policy()
    weights = {name: value.clone() for name, value in before.state_dict().items()}
    a, b, c = (inject(before, ["terrain"], robot=ROBOT, mode="random", encoder=encoder, seed=s) for s in (0, 0, 1))
    assert all(torch.equal(value, weights[name]) for name, value in before.state_dict().items())
    observations = random_groups(BOTH)
    assert fingerprint(a, observations) == fingerprint(b, observations) != fingerprint(c, observations)


def test_scaled_and_random_differ_by_the_scale_alone():
    """New columns of ``scaled`` are a hundredth of those of ``random``; all else is equal."""
    before = blind_policy()
    scaled, random = (inject(before, ["terrain"], robot=ROBOT, mode=mode, seed=3) for mode in ("scaled", "random"))
    for network in ("actor", "critic"):
        small, large = getattr(scaled, network)[0].weight, getattr(random, network)[0].weight
        torch.testing.assert_close(small[:, 49:], 0.01 * large[:, 49:])
        assert torch.equal(small[:, :49], getattr(before, network)[0].weight)
        # the usual initialization: rows of an orthogonal matrix times sqrt(2), of which 50 of 99 columns are new
        assert float(large.detach()[:, 49:].square().mean()) == pytest.approx(2 / 99, rel=0.15)
    observations = random_groups(BOTH)
    assert 0 < largest_difference(before, scaled, observations) < 0.3 * largest_difference(before, random, observations)


def test_scaled_encodings_enter_the_merge_layer_small(encoder):
    if encoder is None:
        pytest.skip("no encoder")
    before = blind_policy()
    modes = ("exact", "scaled", "random")
    exact, scaled, random = (inject(before, ["terrain"], robot=ROBOT, mode=m, encoder=encoder, seed=3) for m in modes)
    merge = [p.actor[0].layers[1].weight[:, 24:] for p in (exact, scaled, random)]
    assert merge[0].abs().max() == 0
    torch.testing.assert_close(merge[1], 0.01 * merge[2])
    for p in (exact, scaled):  # the branch itself is a fresh one in every mode
        assert torch.equal(p.actor[0].encoders[0].dense.weight, random.actor[0].encoders[0].dense.weight)
    assert not torch.equal(exact.actor[0].encoders[0].dense.weight, exact.critic[0].encoders[0].dense.weight)


@pytest.mark.parametrize("mode", ["exact", "random"])
def test_symmetry_survives_injection(encoder, mode):
    after = inject(blind_policy(), ["terrain"], robot=ROBOT, mode=mode, encoder=encoder)
    observations = after.flatten(random_groups(BOTH))
    other, actions = observations[:, list(after.symmetry.features)], list(after.symmetry.actions)
    assert not torch.equal(other, observations)
    assert torch.equal(after(other), after(observations)[:, actions])
    assert torch.equal(after.value(other), after.value(observations))


def test_second_encoder_keeps_the_first():
    first = inject(blind_policy(("phase",), symmetric=False), ["terrain"], robot=ROBOT, mode="random",
                   encoder=ENCODERS["last"])  # fmt: skip
    second = inject(first, ["proprio"], robot=ROBOT, encoder=Encoder("proprio", (), (), (), 7))
    assert largest_difference(first, second, random_groups(second.groups)) <= 1e-5
    with_columns = inject(first, ["proprio"], robot=ROBOT)
    assert largest_difference(first, with_columns, random_groups(with_columns.groups)) <= 1e-5


def test_encoder_network_equals_a_plain_computation():
    """The branch and its join, written out with einsum over unfolded windows."""
    encoder = Encoder("terrain", (4, 3), (8, 4), (1, 2), 10)
    policy = inject(blind_policy(symmetric=False), ["terrain"], robot=ROBOT, mode="random", encoder=encoder).double()
    groups = random_groups(BOTH, 50, dtype=torch.float64)
    normalized = policy.normalizer(policy.flatten(groups))
    elu, hidden = torch.nn.functional.elu, policy.actor[0]
    points = normalized[:, None, 49:]
    for layer, stride in zip(hidden.encoders[0].convolutions[::2], (1, 2), strict=True):
        windows = points.unfold(2, layer.weight.shape[2], stride)
        points = elu(torch.einsum("ncpk,fck->nfp", windows, layer.weight) + layer.bias[:, None])
    encoding = elu(points.flatten(1) @ hidden.encoders[0].dense.weight.T + hidden.encoders[0].dense.bias)
    below = elu(normalized[:, :49] @ hidden.layers[0].weight.T + hidden.layers[0].bias)
    top = elu(torch.cat([below, encoding], 1) @ hidden.layers[1].weight.T + hidden.layers[1].bias)
    expected = top @ policy.actor[1].weight.T + policy.actor[1].bias
    torch.testing.assert_close(policy(policy.flatten(groups)), expected)


def test_new_features_learn_at_once_and_their_encoder_one_step_later():
    """With merge columns of zero nothing flows into the branch, but the columns get gradient and open the way."""
    policy = inject(blind_policy(), ["terrain"], robot=ROBOT, encoder=ENCODERS["last"])
    groups = random_groups(BOTH, 200)
    flat = policy.flatten({**groups, "terrain": groups["terrain"] / 1000})
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)
    branch = [p for n, p in policy.named_parameters() if n.startswith("actor.0.encoders")]
    merge = policy.actor[0].layers[1].weight

    def step():
        optimizer.zero_grad()
        policy(flat).square().sum().backward()
        sizes = float(merge.grad[:, 24:].abs().max()), max(float(p.grad.abs().max()) for p in branch)
        optimizer.step()
        return sizes

    first_columns, first_branch = step()
    assert first_columns > 1e-3
    assert first_branch == 0
    assert step()[1] > 1e-6
    scaled = inject(blind_policy(), ["terrain"], robot=ROBOT, mode="scaled", encoder=ENCODERS["last"])
    scaled(flat).square().sum().backward()
    assert scaled.actor[0].encoders[0].dense.weight.grad.abs().max() > 0


def test_new_statistics_are_those_of_a_fresh_normalizer_and_old_ones_go_on():
    before = blind_policy(symmetric=False)
    twin = blind_policy(symmetric=False)
    after, fresh = inject(before, ["terrain"], robot=ROBOT), Normalizer(50)
    assert after.normalizer.fresh.tolist() == [False] * 49 + [True] * 50
    for seed in range(3):
        groups = random_groups(BOTH, 70, seed)
        after.update_normalizer(after.flatten(groups))
        twin.update_normalizer(groups["proprio"])
        fresh.update(groups["terrain"])
    for name in ("mean", "var"):
        expected = torch.cat([getattr(twin.normalizer, name), getattr(fresh, name)])
        torch.testing.assert_close(getattr(after.normalizer, name), expected, rtol=1e-6, atol=1e-6)
    assert after.normalizer.count.tolist() == [510] * 49 + [210] * 50


def test_only_some_features_are_updated():
    policy = inject(blind_policy(), ["terrain"], robot=ROBOT)
    mean = policy.normalizer.mean.clone()
    policy.update_normalizer(policy.flatten(random_groups(BOTH)), only=policy.normalizer.fresh)
    assert torch.equal(policy.normalizer.mean[:49], mean[:49])
    assert policy.normalizer.mean[49:].abs().min() > 0
    assert not policy.normalizer.fresh.any()
    with pytest.raises(ConfigError, match="count_apart"):
        blind_policy().update_normalizer(torch.zeros(3, 49), only=torch.arange(49) > 3)


@pytest.mark.parametrize("injected", list(ENCODERS))
def test_growth_keeps_the_outputs_and_the_new_units_learn(injected):
    before = inject(blind_policy(), ["terrain"], robot=ROBOT, mode="random", encoder=ENCODERS[injected])
    after = grow(before, hidden=(40, 16), critic_hidden=(20, 30), seed=1)
    assert (after.architecture.hidden, after.architecture.critic_hidden) == ((40, 16), (20, 30))
    observations = random_groups(BOTH, 1000)
    largest = float(before.value(before.flatten(observations)).detach().abs().max())
    assert largest_difference(before, after, observations) <= 1e-6 * max(1.0, largest)
    double = {name: value.double() for name, value in observations.items()}
    assert largest_difference(before.double(), after.double(), double) < 1e-12
    after(after.flatten(double)).square().sum().backward()
    second = after.actor[2] if injected == "columns" else after.actor[0].layers[1]
    assert (second.weight.grad[:, 24:40].abs() > 0).any(dim=0).all()


@pytest.mark.parametrize("hidden", [(24,), (24, 15), (24, 16, 8)])
def test_growth_that_is_none_is_refused(hidden):
    with pytest.raises(ConfigError, match="the same number of layers"):
        grow(blind_policy(), hidden=hidden)


def enlarge(policy, how):
    if how == "grown":
        return grow(policy, hidden=(30, 16), critic_hidden=(20, 18))
    return inject(policy, ["terrain"], robot=ROBOT, encoder=ENCODERS[how])


def new_weights(how):
    """Masks of the weights that do not depend on the old policy's: they are the new ones."""
    moved = blind_policy()
    for p in moved.parameters():
        p.data += 1
    pairs = zip(enlarge(blind_policy(), how).named_parameters(), enlarge(moved, how).named_parameters(), strict=True)
    return {name: p == q for (name, p), (_, q) in pairs}


def train_step(policy, optimizer, groups, still=None):
    """One step on actions, values and noise; the gradient of the weights in ``still`` is taken out."""
    flat = policy.flatten(groups)
    optimizer.zero_grad()
    (policy(flat).square().mean() + policy.value(flat).square().mean() + policy.log_std.square().sum()).backward()
    for name, p in policy.named_parameters():
        if still is not None:
            p.grad[still[name]] = 0
    optimizer.step()


@pytest.mark.parametrize("how", [*ENCODERS, "grown"])
def test_the_optimizer_goes_on_where_it_was(how):
    """While new weights get no gradient, old ones move as they would have, with clipped norms and two step sizes."""
    before, groups = blind_policy(), random_groups(BOTH, 64)
    optimizer = TwoRates(before, 1e-3, 2e-3, 1.0)
    for _ in range(3):
        train_step(before, optimizer, groups)
    after = enlarge(before, how)
    continued = TwoRates(after, 1e-3, 2e-3, 1.0)
    state = inject_optimizer_state(optimizer.state_dict(), before, after, trained=trained_parameters)
    continued.load_state_dict(state)
    new, start = new_weights(how), {name: p.detach().clone() for name, p in after.named_parameters()}
    for _ in range(5):
        train_step(before, optimizer, groups)
        train_step(after, continued, groups, still=new)
    assert largest_difference(before, after, groups) <= 1e-5
    for name, p in after.named_parameters():
        assert torch.equal(p[new[name]], start[name][new[name]])
        assert new[name].all() or (p - start[name])[~new[name]].abs().max() > 1e-3
    cold = TwoRates(enlarge(before, how), 1e-3, 2e-3, 1.0)
    assert len(cold.state_dict()["state"]) == 0 < len(state["state"]), "a new optimizer would have begun anew"


def test_optimizer_state_of_another_policy_is_refused():
    before = blind_policy()
    after = inject(before, ["terrain"], robot=ROBOT)
    other = blind_policy(architecture=Architecture((24,), (20, 12)))
    shapes = blind_policy(architecture=Architecture((25, 16), (20, 12)))
    for policy in (other, shapes):
        optimizer = TwoRates(policy, 1e-3, None, 1.0)
        train_step(policy, optimizer, random_groups(BOTH, 8))
        with pytest.raises(ContractError, match="before injection"):
            inject_optimizer_state(optimizer.state_dict(), before, after, trained=trained_parameters)


@pytest.mark.parametrize(
    ("groups", "options", "error", "message"),
    [
        (["terain"], {}, UnknownNameError, "did you mean terrain"),
        (["proprio"], {}, ConfigError, "already reads observation group 'proprio'"),
        (["terrain", "terrain"], {}, ConfigError, "each once"),
        ([], {}, ConfigError, "at least one"),
        (["terrain"], {"mode": "exakt"}, UnknownNameError, "did you mean exact"),
        (["terrain"], {"mode": "scaled", "scale": 2.0}, ConfigError, "scale"),
        (["terrain"], {"encoder": Encoder("phase")}, ConfigError, "'phase'"),
        (["terrain"], {"encoder": Encoder("terrain", (4,), (51,), (1,))}, ConfigError, "width 51.*50 points"),
        (["phase"], {}, ConfigError, "no mirror image"),
    ],
)
def test_what_cannot_be_injected_is_named(groups, options, error, message):
    with pytest.raises(error, match=message):
        inject(blind_policy(), groups, robot=ROBOT, **options)


def test_policy_of_another_robot_is_refused():
    small = Policy({"proprio": 9}, 11)
    with pytest.raises(ContractError, match=r"'proprio' has 49 .*reads 9"):
        inject(small, ["terrain"], robot=ROBOT)


def test_linear_policies_take_columns_but_no_encoder():
    linear = blind_policy(architecture=Architecture((), ()))
    after = inject(linear, ["terrain"], robot=ROBOT)
    assert largest_difference(linear, after, random_groups(BOTH)) <= 1e-5
    with pytest.raises(ConfigError, match="hidden layer"):
        inject(linear, ["terrain"], robot=ROBOT, encoder=ENCODERS["last"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (4,)}, "one entry per convolution"),
        ({"channels": (0, 4)}, "encoder.channels"),
        ({"dense": 0}, "encoder.dense"),
        ({"join": "first"}, "did you mean|valid"),
    ],
)
def test_encoders_out_of_range(options, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        Encoder("terrain", **options)


def test_encoders_that_do_not_fit_an_architecture():
    with pytest.raises(ConfigError, match="at most one"):
        Architecture(encoders=(Encoder("terrain"), Encoder("terrain", dense=3)))
    with pytest.raises(UnknownNameError, match="did you mean terrain"):
        Policy({"proprio": 4, "terrain": 50}, 2, Architecture(encoders=(Encoder("terain"),)))
    with pytest.raises(ConfigError, match="every observation group"):
        Policy({"terrain": 50}, 2, Architecture(encoders=(Encoder("terrain"),)))


def test_the_bounds_of_the_normalizer_survive_injection():
    before = blind_policy(symmetric=False)
    before.normalizer.min_std, before.normalizer.clip = 0.07, 3.5
    after = inject(before, ["terrain"], robot=ROBOT)
    assert (after.normalizer.min_std, after.normalizer.clip) == (0.07, 3.5)
