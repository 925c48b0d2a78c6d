"""Configuration of a merge.

It checks fields against each other and loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from policykd.agents.architecture import Architecture
from policykd.envs.randomization import OFF, Randomization
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.plain import added
from policykd.schedules import parse
from policykd.threads import cores_for

LOSS_NAMES = ("mse", "huber", "forward_kl", "reverse_kl", "jsd", "nll")
"""Names of the distillation losses; ``policykd.merge.losses`` defines them."""

Mixing = Literal["episode", "step"]
NoiseModel = Literal["gaussian", "dart", "none"]
Critic = Literal["td", "teacher", "none"]
START_NAMES = ("random", "newest", "previous")
Stop = Literal["validations", "confirmed"]
Protection = Literal["none", "replay", "ewc"]
Normalizer = Literal["kept", "extended"]
OptimizerName = Literal["adam", "kfac"]


@dataclass(frozen=True)
class MergeConfig:
    """Settings of a merge.

    Attributes:
        rounds: rounds of collecting labeled states and fitting the student, at most.
        envs: simulations per skill and round; each runs for one episode length.
        beta: schedule of the expert's share of the acting, by round: ``exponential:0.5`` (0.5^round), ``linear``,
            ``constant:0`` (the student always acts), ``constant:1`` (the expert does), ``plaid_paper`` (by gradient
            step), ``plaid_code``, ...; see ``policykd.schedules``. In round 0 of a random student the expert always
            acts: the student's own states would only be falls.
        mixing: whether expert or student acts is drawn per ``episode`` or per ``step``. In walking, switching within an
            episode visits states that neither controller would reach.
        noise_model: noise on executed actions of expert and student: ``gaussian``, independent for every action;
            ``dart``, of the covariance of the student's error on the states of the expert, scaled to the same power;
            ``none``. Labels are noise-free.
        noise: standard deviation of the noise, in units of the action; with ``dart`` its root mean square over actions.
        start: start of the student: ``random`` weights of ``architecture``; ``newest``, a copy of the last teacher
            given, or the id of a skill for a copy of its teacher; ``previous``, the policy given as ``init``. A copy
            keeps its own architecture and normalizer; observation groups that it lacks are injected.
        loss: comparison of student and teacher: ``mse``, ``huber``, ``forward_kl``, ``reverse_kl``, ``jsd`` or
            ``nll``.
        jsd_beta: the teacher's weight in the middle of ``jsd``; 0 is the forward KL, 1 the reverse.
        min_std: smallest standard deviation that a loss may teach the student, in units of the action.
        max_std: largest one.
        aggregation: labeled states that are fitted: ``all``, those of the ``last:N`` rounds, or ``none`` for those of
            the present round only.
        adaptive: share of simulations and minibatch that goes to skills in proportion to their gap to the teacher; the
            rest is split equally. 0 treats all skills alike.
        gap_memory: share of its earlier value in the gap that ``adaptive`` reads, in [0, 1): a moving average
            over the validations. With 0, a skill that has caught up loses its larger share and may fall behind at
            once; see docs/merging.md.
        support: labels count only where no feature, normalized by the teacher's own statistics, is larger than this
            many standard deviations; at most the normalizer's clip of 10. None takes all labels.
        batched_teachers: whether teachers of one shape are evaluated together by ``torch.func``. Equal labels to float
            precision; slower on a CPU at usual numbers of simulations.
        updates: gradient steps per round.
        minibatch: labeled states per gradient step, split over the skills.
        learning_rate: Adam's step size in the first round; falls along a cosine to a tenth in the last.
        optimizer: what makes the gradient steps: ``adam``, or ``kfac``, whose steps are measured by what they change in
            the student's actions: each takes 1.1 to 1.4 times as long, and a quarter as many are needed. It is for
            students of dense layers and the losses ``mse`` and ``huber``; see :mod:`policykd.merge.kfac`.
        step_length: length of the steps of ``kfac`` in the first round, instead of ``learning_rate``: root mean square
            change of the student's actions, in units of the action, before momentum; falls along the same cosine.
        averaging: share of the student's weights that a gradient step keeps; the student that acts is the exponential
            moving average of the optimizer's weights. 0 disables averaging.
        critic: targets of the critic after the last round, for later reinforcement learning: ``td``,
            lambda-returns of the finished student; ``teacher``, the teachers' values on the labeled states; ``none``.
        gamma: discount factor of the critic.
        gae_lambda: lambda of the critic's targets.
        target_retention: stop once the student's validation reward per step is this share of the expert's on every
            skill, and its success the expert's less at most 0.05, in two rounds in a row; set above 1.5 to run all
            rounds.
        min_teacher_success: a teacher whose validation success is below this stops the merge, and in gymnasium
            environments one that earns no more than random actions; 0 accepts every teacher.
        validation_episodes: episodes per skill of a validation, on tracks that are not used for collection.
        truncation: steps of an episode through which one gradient step of a student with a memory goes back; the memory
            itself is carried through the whole episode.
        validation_every: rounds between two validations; there is always one after the last round. In environments that
            run one after the other, validations may cost as much as the merge.
        stop: when a merge ends. ``validations``: after two validations in a row that keep ``target_retention``, or
            after all rounds, with the best student of all validations. ``confirmed``: the student's own collected
            episodes are the early test, which costs no simulation; once they keep ``target_retention`` less
            ``early_margin``, student and teachers are compared on new tracks, others for every such test, and the merge
            ends with the student that passes one, or with the last. It needs ``beta="constant:0"``: the experts act
            in the first round and the student in all others; see ``policykd.merge.quick``.
        early_margin: how far below ``target_retention`` the early test may be.
        passes: how often a new labeled state is drawn for a gradient step, on average over the round if only the new
            states were drawn; sets the gradient steps of a round to ``passes`` times its new states over
            ``minibatch``, with ``stop="confirmed"``. 0 makes ``updates`` steps in every round.
        tracks: tracks per skill that the episodes of a round are drawn from, with ``stop="confirmed"``; new ones in
            every round.
        protection: how old skills of the student of ``start="previous"`` that cannot be simulated are kept: ``replay``
            of their stored labeled states, ``ewc``, online elastic weight consolidation, or ``none``; see
            ``policykd.merge.old_skills``.
        replay_share: share of every old skill's stored states that is replayed.
        ewc_weight: lambda, factor of the quadratic penalty. It is in nats, as the loss ``forward_kl`` is; 1 weighs
            every old skill as a new one where the divergence is quadratic.
        ewc_decay: gamma, share that the importance of old skills keeps whenever a skill is added.
        normalizer: what becomes of the normalizer of the policy of ``start="previous"``. ``kept``: its statistics stay,
            and features of new skills that are more than ten standard deviations from old ones are clipped.
            ``extended``: the first round's states are counted in it, and first layers make up for the change, so that
            the student starts with the same actions; see ``policykd.agents.renormalization``.
        held_out: share of the recorded simulations that a merge of recorded data measures its loss on.
        seed: seed of the student, the collection and the minibatches.
        threads: threads of the simulation; None for one per usable core.
        fit_threads: threads of a gradient step, at most one per usable core. On an idle machine two take about three
            quarters of the time of one; where another job needs the second core, they wait for each other and can take
            ten times as long. Sums in another order change the last digits of the weights. Each of several processes
            uses one.
        device: device of simulation, labels and networks: ``cpu``, ``cuda`` or ``auto``.
        architecture: the student's networks, if it starts at random.
        groups: observation groups of the student, in order; empty for all that the teachers read. A robot may not
            measure some of those, such as ``base_velocity``; the student may also read groups that no teacher reads,
            such as the history ``joints:5``. A copy reads these groups, and must read no other one.
        randomization: random physics and sensors of the collected episodes, on the CPU; validations have none of it.

    Raises:
        ConfigError: naming the field and its range.
        UnknownNameError: for an unknown choice, with the close ones.
    """

    rounds: int = 20
    envs: int = 48
    beta: str = "exponential:0.5"
    mixing: Mixing = "episode"
    noise_model: NoiseModel = "gaussian"
    noise: float = 0.1
    start: str = "random"
    loss: str = "mse"
    jsd_beta: float = 0.5
    min_std: float = 0.02
    max_std: float = 2.0
    aggregation: str = "all"
    adaptive: float = 0.0
    support: float | None = None
    batched_teachers: bool = False
    updates: int = 500
    minibatch: int = 1024
    learning_rate: float = 2e-3
    averaging: float = 0.998
    critic: Critic = "td"
    gamma: float = 0.98
    gae_lambda: float = 0.95
    target_retention: float = 0.99
    min_teacher_success: float = 0.5
    validation_episodes: int = 64
    held_out: float = 0.1
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    architecture: Architecture = field(default_factory=lambda: Architecture(hidden=(256, 256)))
    randomization: Randomization = added(OFF)
    groups: tuple[str, ...] = added(())
    gap_memory: float = added(0.0)
    validation_every: int = added(1)
    truncation: int = added(24)
    stop: Stop = added("validations")
    early_margin: float = added(0.05)
    passes: float = added(0.0)
    tracks: int = added(64)
    protection: Protection = added("none")
    replay_share: float = added(1.0)
    ewc_weight: float = added(1.0)
    ewc_decay: float = added(0.95)
    normalizer: Normalizer = added("kept")
    optimizer: OptimizerName = added("adam")
    step_length: float = added(0.01)
    fit_threads: int = added(1)

    def __post_init__(self) -> None:
        self._check_ranges()
        _check_choice("loss", self.loss, LOSS_NAMES)
        _check_choice("mixing", self.mixing, get_args(Mixing))
        _check_choice("noise_model", self.noise_model, get_args(NoiseModel))
        _check_choice("critic", self.critic, get_args(Critic))
        _check_choice("stop", self.stop, get_args(Stop))
        _check_choice("protection", self.protection, get_args(Protection))
        _check_choice("normalizer", self.normalizer, get_args(Normalizer))
        _check_choice("optimizer", self.optimizer, get_args(OptimizerName))
        if "/" not in self.start:  # a skill is checked against the teachers
            _check_choice("start", self.start, START_NAMES)
        if len(set(self.groups)) != len(self.groups):
            raise ConfigError(f"merge.groups are {self.groups}; give each observation group once")
        _ = self.rounds_kept
        try:
            schedule = parse(self.beta)
        except (ValueError, UnknownNameError) as error:
            raise ConfigError(f"merge.beta: {error}") from None
        for round_ in (0, self.rounds - 1):
            check_range(f"merge.beta in round {round_}", schedule(round_, self.rounds), 0.0, 1.0)
        self._check_normalizer()
        if self.optimizer == "kfac" and (reason := no_kfac(self)):
            raise ConfigError(f"{reason}, which merge.optimizer=kfac is not for; set merge.optimizer=adam")
        if self.stop == "confirmed":
            self._check_confirmed()
        elif self.passes > 0:
            raise ConfigError(f"merge.passes is {self.passes:g}; it needs merge.stop=confirmed, otherwise set updates")

    def _check_ranges(self) -> None:
        for name in ("rounds", "envs", "updates", "minibatch", "validation_episodes", "validation_every"):
            check_range(f"merge.{name}", getattr(self, name), 1, 1_000_000)
        check_range("merge.truncation", self.truncation, 1, 1000)
        for name in ("jsd_beta", "gae_lambda", "min_teacher_success"):
            check_range(f"merge.{name}", getattr(self, name), 0.0, 1.0)
        check_range("merge.noise", self.noise, 0.0, 2.0)
        check_range("merge.min_std", self.min_std, 1e-4, 10.0)
        check_range("merge.max_std", self.max_std, self.min_std, 10.0)
        check_range("merge.adaptive", self.adaptive, 0.0, 0.9)
        check_range("merge.gap_memory", self.gap_memory, 0.0, 0.99)
        check_range("merge.held_out", self.held_out, 0.01, 0.5)
        if self.support is not None:
            check_range("merge.support", self.support, 0.5, 10.0, "standard deviations")
        check_range("merge.learning_rate", self.learning_rate, 1e-8, 1.0)
        check_range("merge.step_length", self.step_length, 1e-6, 1.0)
        check_range("merge.averaging", self.averaging, 0.0, 0.99999)
        check_range("merge.gamma", self.gamma, 0.0, 0.99999)
        check_range("merge.target_retention", self.target_retention, 0.0, 2.0)
        check_range("merge.early_margin", self.early_margin, 0.0, 1.0)
        check_range("merge.passes", self.passes, 0.0, 10_000.0)
        check_range("merge.tracks", self.tracks, 1, 1_000_000)
        check_range("merge.replay_share", self.replay_share, 1e-4, 1.0)
        check_range("merge.ewc_weight", self.ewc_weight, 0.0, 1e9)
        check_range("merge.ewc_decay", self.ewc_decay, 0.0, 1.0)
        check_range("merge.seed", self.seed, 0, 2**63)
        cores_for(self.threads, "merge.threads")
        check_range("merge.fit_threads", self.fit_threads, 1, 1024)

    def _check_normalizer(self) -> None:
        """Raise ConfigError where the normalizer cannot be extended."""
        if self.normalizer == "kept":
            return
        if self.start != "previous":
            raise ConfigError(
                f"merge.normalizer is extended and merge.start {self.start}; only the normalizer of an earlier student "
                f"is extended (--init STUDENT)"
            )
        if self.protection == "ewc":
            raise ConfigError(
                "merge.normalizer is extended, which changes first layers; merge.protection=ewc holds them: set "
                "merge.normalizer=kept or merge.protection=replay"
            )

    def _check_confirmed(self) -> None:
        """Raise ConfigError for a setting that a merge with ``stop="confirmed"`` does not have."""
        wanted = {"beta": "constant:0", "validation_every": 1, "device": "cpu", "batched_teachers": False,
                  "protection": "none", "normalizer": "kept"}  # fmt: skip
        for name, value in wanted.items():
            if (given := getattr(self, name)) != value:
                raise ConfigError(f"merge.{name} is {given}; with merge.stop=confirmed it must be {value}")
        if self.noise_model == "dart" or self.critic == "td":
            name, given, choices = (
                ("noise_model", self.noise_model, "gaussian or none")
                if self.noise_model == "dart"
                else ("critic", self.critic, "teacher or none")
            )
            raise ConfigError(f"merge.{name} is {given}; with merge.stop=confirmed it must be {choices}")

    def updates_for(self, states: int) -> int:
        """Return the gradient steps of a round with this number of new labeled states."""
        return self.updates if self.passes == 0 else max(1, round(self.passes * states / self.minibatch))

    @property
    def rounds_kept(self) -> int | None:
        """Number of latest rounds whose states are fitted; None for all.

        Raises:
            ConfigError: for an unknown aggregation.
        """
        if self.aggregation in ("all", "none"):
            return None if self.aggregation == "all" else 1
        name, _, count = str(self.aggregation).partition(":")
        if name != "last" or not count.isdecimal() or int(count) < 1:
            raise ConfigError(f"merge.aggregation is '{self.aggregation}'; it must be all, none or last:N with N >= 1")
        return int(count)


def no_kfac(config: MergeConfig) -> str:
    """Return why a merge cannot have the optimizer ``kfac``: its loss, its penalty, or the networks of a new student.

    Students that start from a policy have that policy's networks, which are not known here.
    """
    if config.loss not in ("mse", "huber"):
        return f"merge.loss is {config.loss}"
    if config.protection == "ewc":
        return "merge.protection is ewc"
    shape = config.architecture
    kinds = {"a memory": shape.memory, "a latent": shape.latent, "a mixture": shape.mixture, "encoders": shape.encoders}
    found = [name for name, given in kinds.items() if given and config.start == "random"]
    return f"merge.architecture has {found[0]}" if found else ""


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnknownNameError(name, str(value), choices)
