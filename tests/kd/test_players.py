"""Players take turns: who learns when, what is drawn, and a run that was killed ends like one that was not."""

import os
import signal
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from children import join_children, start_children
from policykd.errors import ConfigError
from policykd.kd.training.checkpoint import CheckpointError
from policykd.kd.training.config import OptimizerConfig
from policykd.kd.training.players import Player, Players, draw_rows

ADAM = OptimizerConfig("adam", lr=0.01, weight_decay=0.0)


def game(folder=None, seed=0, steps=2, **options):
    """Return a generator of points against a discriminator, with dropout and batch statistics."""
    torch.manual_seed(3)
    generator = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    critic = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 1))

    def made(turn):
        return generator(torch.randn(8, 2, generator=turn.generator))

    def of_critic(turn):
        real = torch.randn(8, 2, generator=turn.shared) + 1.0
        return F.softplus(-critic(real)).mean() + F.softplus(critic(made(turn))).mean()

    def of_generator(turn):
        return F.softplus(-critic(made(turn))).mean()

    players = {
        "critic": Player(critic, of_critic, ADAM, steps=steps, clip_norm=1.0),
        "generator": Player(generator, of_generator, partial(torch.optim.SGD, lr=0.05, momentum=0.9)),
    }
    return Players(players, seed=seed, folder=folder, **options), generator, critic


def weights(*networks):
    return [value.clone() for network in networks for value in network.state_dict().values()]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def play_and_die(folder):
    """Train in the process that a test starts, and kill it in round 24 of 40 without any notice."""

    def die(done):
        if done == 23:
            os.kill(os.getpid(), signal.SIGKILL)

    game(folder, checkpoint_rounds=10)[0].train(40, after_round=die)


def test_a_killed_run_that_is_resumed_has_the_weights_of_the_uninterrupted_one(tmp_path):
    assert join_children(start_children(play_and_die, (tmp_path,))) == [-signal.SIGKILL]
    resumed, *networks = game(tmp_path, checkpoint_rounds=10)
    seen = []
    resumed.train(40, resume=True, after_round=seen.append)
    assert seen == list(range(20, 40))
    whole, *others = game()
    whole.train(40)
    assert equal(weights(*networks), weights(*others))


def test_only_the_player_of_the_turn_learns_and_is_in_train_mode():
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    seen = []

    def loss(own, other, turn):
        seen.append((own.training, other.training, own.weight.requires_grad, other.weight.requires_grad))
        return (own(torch.ones(1, 1)) * other(torch.ones(1, 1))).square().mean()

    players = {
        "first": Player(first, lambda turn: loss(first, second, turn), ADAM),
        "second": Player(second, lambda turn: loss(second, first, turn), ADAM, steps=2),
    }
    before = weights(first)
    Players(players).train(1)
    assert seen == [(True, False, True, False)] * 3
    assert not equal(before, weights(first))
    assert not first.training
    assert all(p.requires_grad for p in (*first.parameters(), *second.parameters()))


def test_two_steps_of_gradient_descent_are_those_by_hand():
    """f = x y: x descends by y, then y ascends by the new x."""
    x, y = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        x.weight.fill_(1.0)
        y.weight.fill_(2.0)
    plain = OptimizerConfig("sgd", lr=0.1, weight_decay=0.0, momentum=0.0)
    product = lambda turn: (x.weight * y.weight).sum()  # noqa: E731
    Players({"x": Player(x, product, plain), "y": Player(y, lambda turn: -product(turn), plain)}).train(2)
    # x: 1 - .2 = .8; y: 2 + .08 = 2.08; x: .8 - .208 = .592; y: 2.08 + .0592 = 2.1392
    assert x.weight.item() == pytest.approx(0.592)
    assert y.weight.item() == pytest.approx(2.1392)


def test_draws_depend_on_seed_player_round_and_step():
    drawn = {}

    def loss(name, network, turn):
        shared, own = (torch.rand(1, generator=g).item() for g in (turn.shared, turn.generator))
        drawn[name, turn.round, turn.step] = (shared, own, torch.rand(1).item())
        assert turn.progress == turn.round / 2
        return network.weight.sum()

    def play(seed):
        drawn.clear()
        networks = {name: nn.Linear(1, 1) for name in "ab"}
        players = {n: Player(w, partial(loss, n, w), ADAM, steps=2) for n, w in networks.items()}
        before = torch.get_rng_state()
        Players(players, seed=seed).train(2)
        assert torch.equal(before, torch.get_rng_state())
        return dict(drawn)

    found = play(0)
    assert found["a", 1, 0][0] == found["b", 1, 0][0] != found["a", 1, 1][0]
    assert len({own for _, own, _ in found.values()}) == len({plain for *_, plain in found.values()}) == 8
    assert play(0) == found
    assert play(1)["a", 0, 0] != found["a", 0, 0]


def test_parameters_may_be_projected_after_every_step():
    point = nn.Linear(1, 1, bias=False)

    def project():
        with torch.no_grad():
            point.weight.clamp_(-1.0, 1.0)

    big = OptimizerConfig("sgd", lr=100.0, weight_decay=0.0)
    Players({"point": Player(point, lambda turn: point.weight.sum(), big, after=project)}).train(1)
    assert point.weight.item() == -1.0


def test_a_checkpoint_of_another_game_is_refused(tmp_path):
    game(tmp_path)[0].train(1)
    with pytest.raises(CheckpointError, match="another configuration"):
        game(tmp_path, seed=1)[0].train(2, resume=True)
    with pytest.raises(CheckpointError, match="another configuration"):
        game(tmp_path, steps=3)[0].train(2, resume=True)


def test_a_loss_that_is_not_finite_names_its_player():
    point = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="player 'lost' is nan in round 1"):
        Players({"lost": Player(point, lambda turn: point.weight.sum() * float("nan"), ADAM)}).train(3)


def test_players_share_no_parameter_and_there_is_one():
    point = nn.Linear(1, 1)
    player = Player(point, lambda turn: point.weight.sum(), ADAM)
    with pytest.raises(ConfigError, match="share a parameter"):
        Players({"a": player, "b": player})
    with pytest.raises(ConfigError, match="empty"):
        Players({})


def test_rows_are_drawn_once_each():
    rows = draw_rows(10, 7, torch.Generator().manual_seed(0))
    assert len(rows.unique()) == 7
    assert sorted(draw_rows(5, 9, torch.Generator().manual_seed(0)).tolist()) == [0, 1, 2, 3, 4]
