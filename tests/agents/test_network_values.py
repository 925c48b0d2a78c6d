"""Shapes, layers, encoders, symmetry and noise of policies against loops and products written out here."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from policykd.agents.acting import Acting
from policykd.agents.architecture import Architecture, Encoder, Latent, Memory, Mixture, student_architecture
from policykd.agents.networks import JoinedLayers, group_columns, make_actor, make_network
from policykd.agents.policy import Policy, check_groups
from policykd.agents.recurrent_policy import make_policy
from policykd.envs.symmetry import MirrorSymmetry
from policykd.errors import ConfigError, ContractError, UnknownNameError

ENCODER = Encoder("b", channels=(3, 2), kernel=(4, 2), stride=(2, 1), dense=5)
GROUPS = {"a": 3, "b": 10, "c": 2}
WIDE, DEEP = 1_000_000, 64


def test_convolutions_shorten_a_group():
    assert ENCODER.lengths(10) == [10, 4, 3]  # (10 - 4) // 2 + 1, then 4 - 2 + 1
    assert Encoder("b", (1,), (10,), (1,)).lengths(10) == [10, 1]
    with pytest.raises(ConfigError, match="a convolution of width 4 does not fit into 3 points"):
        ENCODER.lengths(3)
    with pytest.raises(ConfigError, match="width 2 does not fit into 1 points"):
        ENCODER.lengths(4)


@pytest.mark.parametrize("join", ["last", "every"])
@pytest.mark.parametrize("memory", [None, "lstm", "gru"])
def test_parameters_are_those_of_the_modules(join, memory):
    encoders = (replace(ENCODER, join=join),) if memory is None else ()
    architecture = Architecture((6, 7), (8,), encoders=encoders, memory=memory and Memory(memory, 4))
    policy = make_policy(GROUPS, 2, architecture, 0)
    assert architecture.parameters(GROUPS, 2) == sum(p.numel() for p in policy.parameters())
    mixture = Mixture(3, 5)
    policy = make_policy(GROUPS, 2, replace(architecture, encoders=(), mixture=mixture), 0)
    assert policy.architecture.parameters(GROUPS, 2) == sum(p.numel() for p in policy.parameters())
    assert Architecture((), ()).parameters({"a": 3}, 2) == 2 + (3 * 2 + 2) + (3 + 1)


@pytest.mark.parametrize(
    ("part", "own", "read"),
    [
        # A dense layer 15 -> 3, then 3 gates of (3 + 4 + 2) * 4 numbers; the actor reads 4 + 3.
        ({"memory": Memory("gru", 4, dense=3)}, 16 * 3 + 3 * 4 * (3 + 4 + 2), 7),
        ({"memory": Memory("lstm", 4, dense=3)}, 16 * 3 + 4 * 4 * (3 + 4 + 2), 7),
        ({"memory": Memory("lstm", 4)}, 4 * 4 * (15 + 4 + 2), 4),
        # 10 -> 5 -> 2 from the history and 2 -> 5 -> 2 from the privileged group; the actor reads the rest and 2.
        ({"latent": Latent(2, (5,), ("b",), ("c",))}, (11 * 5 + 6 * 2) + (3 * 5 + 6 * 2), 3 + 2),
        ({"latent": Latent(2, (), ("b", "c"), ())}, 13 * 2, 3 + 2),
        ({"mixture": Mixture(2, 5), "memory": Memory("gru", 4)}, 3 * 4 * (15 + 4 + 2), 4),
    ],
    ids=str,
)
def test_parameters_of_what_stands_in_front_of_the_actor(part, own, read):
    architecture = Architecture((6,), (8,), **part)
    actor, noise, critic = (read + 1) * 6 + 7 * 2, 2, 16 * 8 + 9
    if "mixture" in part:
        actor = 2 * actor + (read + 1) * 5 + 6 * 2
    assert sum(architecture.actor_inputs(GROUPS).values()) == read
    assert architecture.parameters(GROUPS, 2) == own + actor + noise + critic
    policy = make_policy(GROUPS, 2, architecture, 0)
    assert architecture.parameters(GROUPS, 2) == sum(p.numel() for p in policy.parameters())


def test_memories_of_wrappers_widen_the_input_and_have_no_weights():
    assert (Memory("time-feature", 9).outputs(15), Memory("time-feature", 9).parameters(15)) == (16, 0)
    assert (Memory("frame-stack", 3).outputs(15), Memory("frame-stack-first", 3).parameters(15)) == (45, 0)


@pytest.mark.parametrize(
    ("make", "right", "wrong"),
    [
        (lambda v: Memory("gru", v), (1, WIDE), (0, WIDE + 1)),
        (lambda v: Memory("frame-stack", v), (2, 1000), (1, 1001)),
        (lambda v: Memory("lstm", 4, dense=v), (0, WIDE), (-1, WIDE + 1)),
        (lambda v: Mixture(v), (2, 64), (1, 65)),
        (lambda v: Mixture(2, v), (1, WIDE), (0, WIDE + 1)),
        (lambda v: Latent(v), (1, WIDE), (0, WIDE + 1)),
        (lambda v: Latent(2, (3, v)), (1, WIDE), (0, WIDE + 1)),
        (lambda v: Latent(2, (3,) * v), (0, 64), (65,)),
    ],
)
def test_sizes_at_the_edge_are_taken_and_those_beyond_refused(make, right, wrong):
    for value in right:
        make(value)
    for value in wrong:
        with pytest.raises(ConfigError):
            make(value)


def test_a_latent_needs_a_history_and_leaves_a_group_to_the_actor():
    for latent, text in (
        (Latent(2, (), (), ("b",)), "latent.history is empty"),
        (Latent(2, (), ("a", "b"), ("c",)), "the latent reads all groups"),
    ):
        with pytest.raises(ConfigError, match=text):
            Architecture((6,), (8,), latent=latent).check_groups(GROUPS)
    Architecture((6,), (8,), latent=Latent(2, (), ("a",), ("c",))).check_groups(GROUPS)
    for name in ("history", "privileged"):
        with pytest.raises(UnknownNameError, match="observation group of the latent"):
            Architecture((6,), (8,), latent=Latent(2, **{"history": ("a",), name: ("x",)})).check_groups(GROUPS)
    with pytest.raises(ConfigError, match="both name b"):
        Latent(2, (), ("a", "b"), ("b",))
    for other in ({"encoders": (ENCODER,)}, {"memory": Memory("gru", 3)}):
        with pytest.raises(ConfigError, match="a policy with a latent has neither"):
            Architecture((6,), (8,), latent=Latent(2), **other)
    with pytest.raises(ConfigError, match="frame-stack has no weights"):
        Memory("frame-stack", 3, dense=1)


def test_students_are_the_named_shapes_in_other_sizes():
    assert student_architecture("gru", memory=5).memory == Memory("gru", 5, dense=128)
    assert student_architecture("gru").memory == Memory("gru", 96, dense=128)
    assert student_architecture("lstm", [7]) == Architecture((7,), memory=Memory("lstm", 96, dense=128))
    assert student_architecture("moe", (7, 6)) == Architecture((7, 6), mixture=Mixture(4, 64))
    assert student_architecture("latent").latent == Latent(16, (128,))
    assert student_architecture("mlp") == Architecture((256, 256))
    with pytest.raises(ConfigError, match="memory is 5, but moe has none"):
        student_architecture("moe", memory=5)
    with pytest.raises(UnknownNameError, match="architecture"):
        student_architecture("rnn")


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("last", [{"a": 3, "c": 2}, {"hidden": 6, "encoding of b": 5}, {"hidden": 7}]),
        ("every", [{"a": 3, "c": 2, "encoding of b": 5}, {"hidden": 6, "encoding of b": 5}, {"hidden": 7}]),
    ],
)
def test_inputs_of_every_layer(join, expected):
    architecture = Architecture((6, 7), (8,), encoders=(replace(ENCODER, join=join),))
    assert architecture.layer_inputs(GROUPS, (6, 7)) == expected
    assert Architecture((6,), ()).layer_inputs(GROUPS, (6,)) == [GROUPS, {"hidden": 6}]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Architecture((1,) * (DEEP + 1)), "hidden has 65 layers; at most 64"),
        (lambda: Architecture(critic_hidden=(1,) * (DEEP + 1)), "critic_hidden has 65 layers"),
        (lambda: Architecture((4, 0)), r"hidden is \(4, 0\); every width must be in \[1, 1000000\]"),
        (lambda: Architecture((WIDE + 1, 4)), "every width"),
        (lambda: Architecture((), encoders=(ENCODER,)), "hidden is empty; an encoding needs"),
        (lambda: Architecture((4,), (), encoders=(ENCODER,)), "critic_hidden is empty"),
        (lambda: Architecture(initial_std=0.9e-4), "initial_std"),
        (lambda: Architecture(mean_clip=0.9e-3), "mean_clip"),
        (lambda: Architecture(encoders=(ENCODER,), memory=Memory("gru", 2)), "a memory has no encoders"),
        (lambda: Architecture(encoders=(ENCODER,), mixture=Mixture()), "a mixture of experts has no encoders"),
        (lambda: Mixture(1), r"mixture\.experts"),
        (lambda: Mixture(2, 0), r"mixture\.gate"),
        (lambda: Memory("gru", 2, dense=-1), r"memory\.dense"),
        (lambda: Architecture(encoders=(ENCODER, ENCODER)), "at most one for each"),
        (lambda: Memory("gru", 0), r"memory\.hidden"),
        (lambda: Memory("gru", WIDE + 1), r"memory\.hidden"),
        (lambda: Encoder("b", (1,), (1, 1), (1,)), "one entry per convolution"),
        (lambda: Encoder("b", (1,), (1,), (1, 1)), "one entry per convolution"),
        (lambda: Encoder("b", *((1,) * 17,) * 3), "at most 16"),
        (lambda: Encoder("b", (0,), (1,), (1,)), r"encoder\.channels"),
        (lambda: Encoder("b", (1,), (1025,), (1,)), r"encoder\.kernel"),
        (lambda: Encoder("b", dense=0), r"encoder\.dense"),
    ],
)
def test_shapes_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_shapes_at_their_limits_and_unknown_names():
    assert len(Architecture((1,) * DEEP, (WIDE,)).hidden) == DEEP
    assert Memory("lstm", WIDE).hidden == WIDE
    assert Encoder("b", *((1,) * 16,) * 3).channels == (1,) * 16
    for make in (lambda: Memory("rnn", 2), lambda: Encoder("b", join="first"), lambda: Architecture(activation="gelu")):
        with pytest.raises(UnknownNameError):
            make()


def test_encoders_must_fit_the_groups_of_a_policy():
    architecture = Architecture(encoders=(ENCODER,))
    architecture.check_groups(GROUPS)
    with pytest.raises(UnknownNameError, match="observation group of an encoder 'b'"):
        architecture.check_groups({"a": 3})
    with pytest.raises(ConfigError, match="does not fit"):
        architecture.check_groups({"a": 3, "b": 4})
    with pytest.raises(ConfigError, match=r"every observation group has an encoder \(b\)"):
        architecture.check_groups({"b": 10})


@torch.no_grad()
@pytest.mark.parametrize("activation", ["elu", "relu", "tanh"])
def test_a_network_is_products_and_activations(activation):
    torch.manual_seed(0)
    network = make_network({"a": 3, "c": 2}, Architecture(activation=activation), (6, 7), 2, 0.01)
    function = {"elu": nn.functional.elu, "relu": torch.relu, "tanh": torch.tanh}[activation]
    rows = torch.randn(4, 5)
    first, second, last = (m for m in network if isinstance(m, nn.Linear))
    hidden = function(function(rows @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    torch.testing.assert_close(network(rows), hidden @ last.weight.T + last.bias)
    # orthogonal rows or columns, whose lengths are the gains; no biases
    for layer, gain in ((first, 2**0.5), (second, 2**0.5), (last, 0.01)):
        assert not layer.bias.any()
        weight = layer.weight if len(layer.weight) <= layer.weight.shape[1] else layer.weight.T
        torch.testing.assert_close(weight @ weight.T, gain**2 * torch.eye(len(weight)), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("join", ["last", "every"])
def test_layers_read_encodings_next_to_the_layer_below(join):
    torch.manual_seed(0)
    architecture = Architecture((6, 7), (8,), activation="relu", encoders=(replace(ENCODER, join=join),))
    layers = JoinedLayers(GROUPS, architecture, (6, 7))
    rows = torch.randn(4, 15)
    conv1, conv2 = (m for m in layers.encoders[0].convolutions if isinstance(m, nn.Conv1d))

    def convolved(x, conv, stride):
        out, _, width = conv.weight.shape
        count = (x.shape[2] - width) // stride + 1
        found = torch.zeros(len(x), out, count)
        for i in range(count):
            window = x[:, :, i * stride : i * stride + width]
            found[:, :, i] = torch.einsum("ncw,ocw->no", window, conv.weight) + conv.bias
        return torch.relu(found)

    encoded = convolved(convolved(rows[:, None, 3:13], conv1, 2), conv2, 1).flatten(1)
    dense = layers.encoders[0].dense
    encoded = torch.relu(encoded @ dense.weight.T + dense.bias)
    below = torch.cat([rows[:, :3], rows[:, 13:]], 1)
    for number, layer in enumerate(layers.layers):
        read = torch.cat([below, encoded], 1) if join == "every" or number == 1 else below
        below = torch.relu(read @ layer.weight.T + layer.bias)
    torch.testing.assert_close(layers(rows), below, atol=1e-6, rtol=1e-5)
    assert group_columns(GROUPS) == {"a": slice(0, 3), "b": slice(3, 13), "c": slice(13, 15)}


SYMMETRY = MirrorSymmetry(features=(1, 0, 2), actions=(1, 0), lead=(0, 1), feature_signs=(1.0, 1.0, -1.0),
                          action_signs=(-1.0, -1.0))  # fmt: skip


def symmetric(**shape):
    policy = Policy({"a": 3}, 2, Architecture((4,), (4,), **shape), 0, SYMMETRY)
    nn.init.normal_(policy.actor[-1].weight, generator=torch.Generator().manual_seed(0))
    policy.log_std.data.copy_(torch.tensor([-1.0, -2.0]))
    policy.update_normalizer(torch.randn(30, 3, generator=torch.Generator().manual_seed(1)))
    return policy


ROWS = torch.tensor([[0.5, -0.5, 1.0], [-0.5, 0.5, 1.0], [0.25, 0.25, -2.0]])  # left leads in the second row only


@torch.no_grad()
def test_a_mirrored_state_is_exchanged_before_and_after_the_networks():
    policy = symmetric()
    seen, mirrored = policy.canonical(ROWS)
    assert mirrored.tolist() == [False, True, False]
    assert seen.tolist() == [[0.5, -0.5, 1.0], [0.5, -0.5, -1.0], [0.25, 0.25, -2.0]]
    raw = policy.actor(policy.normalizer(seen))
    expected = raw.clone()
    expected[1] = -raw[1, [1, 0]]
    torch.testing.assert_close(policy(ROWS), expected)
    torch.testing.assert_close(policy.value(ROWS), policy.critic(policy.normalizer(seen))[:, 0])
    normal = policy.distribution(ROWS)
    torch.testing.assert_close(normal.mean, expected)
    spread = policy.log_std.exp().tolist()
    torch.testing.assert_close(normal.stddev, torch.tensor([spread, spread[::-1], spread]))
    torch.testing.assert_close(policy.oriented(policy.oriented(ROWS[:, :2], mirrored), mirrored), ROWS[:, :2])
    assert policy.oriented(ROWS, None) is ROWS


def test_statistics_are_those_of_the_canonical_states():
    policy = Policy({"a": 3}, 2, Architecture((4,), (4,)), 0, SYMMETRY)
    policy.update_normalizer(ROWS)
    torch.testing.assert_close(policy.normalizer.mean, policy.canonical(ROWS)[0].mean(0))


def test_a_symmetry_must_have_the_sizes_of_its_policy():
    for groups, actions in (({"a": 4}, 2), ({"a": 3}, 3)):
        with pytest.raises(ConfigError, match=rf"3 features and 2 actions; the policy has {groups['a']} and {actions}"):
            Policy(groups, actions, Architecture((4,), (4,)), 0, SYMMETRY)
    bare = replace(SYMMETRY, feature_signs=(), action_signs=())
    policy = Policy({"a": 3}, 2, Architecture((4,), (4,)), 0, bare)
    assert policy.canonical(ROWS)[0][1].tolist() == [0.5, -0.5, 1.0]
    assert not any("mirrored" in name for name in policy.state_dict())


@torch.no_grad()
@pytest.mark.parametrize(("squash", "clip"), [(False, None), (True, None), (True, 0.5), (False, 0.5)])
def test_means_are_clipped_before_they_are_squashed(squash, clip):
    policy = Policy({"a": 3}, 2, Architecture((4,), (4,), squash=squash, mean_clip=clip), 0)
    means = torch.tensor([[-2.0, 0.25], [0.4, 3.0]])
    expected = means if clip is None else means.clip(-0.5, 0.5)
    torch.testing.assert_close(policy.bounded(means), expected.tanh() if squash else expected)


@torch.no_grad()
def test_a_new_policy_is_nearly_still_has_its_noise_and_values_of_gain_one():
    policy = Policy({"a": 3, "b": 2}, 2, Architecture((4,), (4,), initial_std=0.3), 5)
    assert policy.log_std.exp().tolist() == pytest.approx([0.3, 0.3])
    assert policy.observation_size == 5
    for network, gain in ((policy.actor, 0.01), (policy.critic, 1.0)):
        assert float(network[-1].weight.norm(dim=1)[0]) == pytest.approx(gain, rel=1e-4)
    for groups, actions in (({}, 2), ({"a": 3}, 0)):
        with pytest.raises(ConfigError, match="needs observation groups and actions"):
            Policy(groups, actions)
    assert Policy({"a": 1}, 1).actions == 1
    with pytest.raises(ConfigError, match=r"leave out architecture\.memory"):
        Policy({"a": 3}, 2, Architecture(memory=Memory("gru", 2)))


def test_groups_are_selected_by_their_columns():
    policy = Policy({"b": 2, "a": 1}, 2, Architecture((4,), (4,)), 0)
    flat = torch.arange(12.0).view(3, 4)
    same = {"b": slice(0, 2), "a": slice(2, 3)}
    assert policy.select(flat[:, :3], same) is not None
    whole = flat[:, :3]
    assert policy.select(whole, same) is whole
    for columns, order in (
        ({"a": slice(0, 1), "x": slice(1, 2), "b": slice(2, 4)}, [2, 3, 0]),
        ({"b": slice(0, 2), "a": slice(2, 3), "x": slice(3, 4)}, [0, 1, 2]),
    ):
        assert torch.equal(policy.select(flat, columns), flat[:, order])
    with pytest.raises(ContractError, match=r"reads observation group 'a' \(1\); the environment offers only b \(2\)"):
        policy.select(flat, {"b": slice(0, 2)})
    with pytest.raises(
        ContractError, match="observation group 'b' has 1 features in the environment; the policy reads 2"
    ):
        policy.select(flat, {"b": slice(0, 1), "a": slice(2, 3)})
    groups = {"x": flat, "a": flat[:, :1], "b": flat[:, 1:3]}
    assert torch.equal(policy.flatten(groups), flat[:, [1, 2, 0]])
    check_groups({"a": 1}, {"a": 1, "x": 3}, "here")


def recurrent(kind="gru"):
    policy = make_policy({"a": 3}, 2, Architecture((4,), (4,), memory=Memory(kind, 5)), 0)
    nn.init.normal_(policy.actor[-1].weight, generator=torch.Generator().manual_seed(0))
    return policy


@torch.no_grad()
def test_an_acting_policy_remembers_its_simulations_until_they_are_forgotten():
    policy, rows = recurrent(), torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
    acting, state = Acting(policy), torch.zeros(4, policy.state_size)
    for step in range(3):
        expected, state = policy.advance(rows[step], state)
        torch.testing.assert_close(acting(rows[step]), expected)
    ended = torch.tensor([True, False, False, True])
    acting.forget(ended)
    state[ended] = 0.0
    expected, state = policy.advance(rows[3], state)
    normal = acting.distribution(rows[3])
    torch.testing.assert_close(normal.mean, expected)
    torch.testing.assert_close(normal.stddev, policy.log_std.exp().expand(4, 2))
    with pytest.raises(ContractError, match="remembers 4 simulations and got observations of 2"):
        acting(rows[4][:2])
    acting.begin()
    torch.testing.assert_close(acting(rows[4][:2]), policy.advance(rows[4][:2], torch.zeros(2, policy.state_size))[0])
    Acting(policy).forget(ended)  # nothing is remembered yet


@torch.no_grad()
def test_an_acting_policy_without_memory_is_the_policy():
    policy = symmetric()
    acting = Acting(policy)
    torch.testing.assert_close(acting(ROWS), policy(ROWS))
    torch.testing.assert_close(acting.distribution(ROWS).stddev, policy.distribution(ROWS).stddev)
    acting.forget(torch.tensor([True, True, True]))
    assert acting.state is None


def test_equal_seeds_draw_equal_weights_and_no_seed_draws_from_the_global_stream():
    torch.manual_seed(1)
    one = Policy({"a": 3}, 2, Architecture((4,), (4,)))
    torch.manual_seed(1)
    two = Policy({"a": 3}, 2, Architecture((4,), (4,)))
    after = float(torch.rand(1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    torch.manual_seed(1)
    assert float(torch.rand(1)) != after
    assert np.isfinite(after)


@torch.no_grad()
def test_a_mixture_weighs_its_experts():
    actor = make_actor({"a": 3}, Architecture((6,), mixture=Mixture(2, 5)), 2)
    mixture, rows = actor[0], torch.randn(9, 3)
    nn.init.normal_(mixture.gate[-1].weight)
    first, second = (expert(rows) for expert in mixture.experts)
    score = mixture.gate[2](nn.functional.elu(mixture.gate[0](rows)))
    share = torch.sigmoid(score[:, :1] - score[:, 1:])  # a softmax of two
    torch.testing.assert_close(actor(rows), share * first + (1 - share) * second)
    torch.testing.assert_close(mixture.weights(rows)[:, :1], share)
    assert (first - second).abs().max() > 0.01
    assert share.std() > 0.05
    assert actor(rows.view(3, 3, 3)).shape == (3, 3, 2)  # of sequences, too
