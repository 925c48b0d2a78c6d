"""Several networks that train in turns against frozen opponents: games, generators, outer and inner variables.

Every random number of a turn follows from the seed, the player, the round and the step, so that a run that was killed
goes on from its checkpoint with the weights of the uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError, check_range
from policykd.kd.training import run_files
from policykd.kd.training.config import OptimizerConfig
from policykd.kd.training.optimizers import OptimizerFactory
from policykd.seeding import integer_seed
from policykd.torch_seeding import seed_torch


@dataclass(frozen=True)
class Turn:
    """One step of one player.

    Attributes:
        round: Number of the round, from 0.
        step: Step of the player within the round, from 0.
        progress: Share of the rounds that is done, in [0, 1).
        generator: Draws what only this step needs.
        shared: Draws what all players of the round see alike, such as a batch of data.
    """

    round: int
    step: int
    progress: float
    generator: torch.Generator
    shared: torch.Generator


PlayerLoss: TypeAlias = Callable[[Turn], Tensor]
"""``turn -> scalar`` with its graph; it reads the networks of all players."""


@dataclass(frozen=True)
class Player:
    """A network that trains in its turns.

    Attributes:
        network: The network; networks of different players share no parameter.
        loss: What it minimizes.
        optimizer: Its own optimizer, or a factory of one.
        steps: Steps per round.
        clip_norm: Largest norm of its gradient; None for no limit.
        after: Called after each of its steps, for example to project parameters; it may change this network only.
    """

    network: nn.Module
    loss: PlayerLoss
    optimizer: OptimizerConfig | OptimizerFactory = field(default_factory=OptimizerConfig)
    steps: int = 1
    clip_norm: float | None = None
    after: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, 1_000_000)


class Players:
    """Rounds in which the players take their turns in order.

    In a turn only its own player has gradients and is in train mode; all others are frozen and in eval mode.

    Args:
        players: Name -> player, in the order of their turns.
        seed: Seeds everything that is drawn.
        folder: Where the checkpoint is; None for none.
        checkpoint_rounds: Rounds between checkpoints.

    Raises:
        ConfigError: There are no players, or two of them share a parameter.
    """

    def __init__(
        self,
        players: Mapping[str, Player],
        *,
        seed: int = 0,
        folder: Path | None = None,
        checkpoint_rounds: int = 100,
    ) -> None:
        if not players:
            raise ConfigError("players is empty; give at least one")
        check_range("checkpoint_rounds", checkpoint_rounds, 1, 10**9)
        self.players, self.seed, self.folder = dict(players), seed, folder
        self.checkpoint_rounds = checkpoint_rounds
        self._parameters = {name: list(one.network.parameters()) for name, one in self.players.items()}
        every = [id(parameter) for own in self._parameters.values() for parameter in own]
        if len(set(every)) != len(every):
            raise ConfigError("two players share a parameter; every parameter needs one player that trains it")
        self._optimizers = {name: _build(one.optimizer, self._parameters[name]) for name, one in self.players.items()}
        self.done = 0
        """Rounds that are done."""

    def train(
        self, rounds: int, *, resume: bool = False, after_round: Callable[[int], None] | None = None
    ) -> dict[str, float]:
        """Train up to a number of rounds, and leave all networks in eval mode.

        Args:
            rounds: Rounds in all, those before an interruption included.
            resume: Go on from the checkpoint in the folder, if there is one.
            after_round: Called with the number of every round, from 0, when it is done.

        Returns:
            Every player's last loss.

        Raises:
            FloatingPointError: A loss is not finite.
            CheckpointError: The checkpoint is damaged or of another run.
        """
        if resume:
            self._load()
        values: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            while self.done < rounds:
                values = {name: self._turns(name, rounds) for name in self.players}
                self.done += 1
                if after_round is not None:
                    after_round(self.done - 1)
                if self.folder is not None and (self.done % self.checkpoint_rounds == 0 or self.done == rounds):
                    self._save()
        return values

    def _turns(self, name: str, rounds: int) -> float:
        player, value = self.players[name], torch.tensor(0.0)
        optimizer, parameters = self._optimizers[name], self._parameters[name]
        with self._only(name):
            for step in range(player.steps):
                value = player.loss(self._turn(name, step, rounds))
                optimizer.zero_grad()
                value.backward()
                if player.clip_norm is not None:
                    nn.utils.clip_grad_norm_(parameters, player.clip_norm)
                optimizer.step()
                if player.after is not None:
                    player.after()
        last = float(value.detach())
        if not torch.isfinite(value.detach()):
            raise FloatingPointError(f"the loss of player {name!r} is {last} in round {self.done + 1}; lower its rate")
        return last

    def _turn(self, name: str, step: int, rounds: int) -> Turn:
        seed_torch(integer_seed(self.seed, "turn", name, self.done, step))
        own = torch.Generator().manual_seed(integer_seed(self.seed, "draws", name, self.done, step))
        shared = torch.Generator().manual_seed(integer_seed(self.seed, "shared", self.done, step))
        return Turn(self.done, step, self.done / rounds, own, shared)

    @contextmanager
    def _only(self, name: str) -> Iterator[None]:
        for other, parameters in self._parameters.items():
            self.players[other].network.train(other == name)
            for parameter in parameters:
                parameter.requires_grad_(other == name)
        try:
            yield
        finally:
            self.players[name].network.eval()
            for parameters in self._parameters.values():
                for parameter in parameters:
                    parameter.requires_grad_(True)

    def _config(self) -> dict[str, Any]:
        return {"seed": self.seed, "players": [[name, one.steps] for name, one in self.players.items()]}

    def _save(self) -> None:
        assert self.folder is not None
        networks = {name: one.network.state_dict() for name, one in self.players.items()}
        optimizers = {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}
        state = {"config": self._config(), "done": self.done, "networks": networks, "optimizers": optimizers}
        run_files.save(self.folder, state)

    def _load(self) -> None:
        tree = None if self.folder is None else run_files.load(self.folder, self._config(), {})
        if tree is None:
            return
        with run_files.fitting(self.folder):
            for name, one in self.players.items():
                one.network.load_state_dict(tree["networks"][name])
                self._optimizers[name].load_state_dict(tree["optimizers"][name])
        self.done = int(tree["done"])


def _build(optimizer: OptimizerConfig | OptimizerFactory, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    return optimizer.build(parameters) if isinstance(optimizer, OptimizerConfig) else optimizer(list(parameters))


def draw_rows(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return random positions ``(size,)`` among a number of samples, without repetition.

    Args:
        count: Number of samples.
        size: Positions to draw; all of them in random order where there are fewer samples.
        generator: What draws.
    """
    return torch.randperm(count, generator=generator)[:size]
