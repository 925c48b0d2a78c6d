"""Merging recorded data: a student from labeled states alone, without a simulator and without the teachers.

Without validation in closed loop the only metric is the loss on held-out simulations. A small loss does not prove that
the student walks: evaluate it in the simulator.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from policykd.agents.files.policy_file import LoadedPolicy, Parent, save_policy
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.envs.foreign.skill import choices_of
from policykd.envs.robots import Robot
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import ConfigError, ContractError
from policykd.merge.config import MergeConfig
from policykd.merge.critic import fit_critic_to_teachers
from policykd.merge.data.folder import LabeledData
from policykd.merge.data.manifest import RECORDED, DataManifest, LabeledSkill
from policykd.merge.data.pool import Batch, StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.data.sequences import SequencePool
from policykd.merge.fitting import Fitting
from policykd.merge.losses import categorical
from policykd.merge.shared import SharedFolder, check_parallel, open_folder
from policykd.merge.student import check_start
from policykd.parallel import Processes, processes
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder
from policykd.seeding import integer_seed
from policykd.threads import torch_threads


@dataclass(frozen=True)
class DataMergeResult:
    """Outcome of a merge of recorded data.

    Attributes:
        policy_path: the student's policy file, with the weights of the least held-out loss.
        rounds: rounds of ``config.updates`` gradient steps.
        states: labeled states read, held-out ones included.
        held_out_loss: per skill, the student's loss on held-out simulations.
        masked: per skill, the share of labels that did not count because their states are outside the teacher's
            support.
    """

    policy_path: Path
    rounds: int
    states: int
    held_out_loss: dict[str, float]
    masked: dict[str, float]


def merge_data(
    folders: Sequence[Path],
    out: Path,
    config: MergeConfig = MergeConfig(critic="teacher"),
    *,
    init: LoadedPolicy | None = None,
    resume: bool = False,
    progress: Progress = Silent(),
) -> DataMergeResult:
    """Merge labeled datasets into one student.

    Args:
        folders: datasets, or run folders of merges. Several may hold the same skill if the same teacher labeled it.
        out: folder of the run; the student's policy file is ``out / "policy"``.
        config: the merge; settings of the simulation (beta, envs, noise, ...) are not used.
        init: the policy to start from, with ``config.start="previous"``.
        resume: continue the merge in ``out``.
        progress: progress reporter.

    Returns:
        The result.

    Raises:
        ConfigError: without datasets, for two teachers of one skill, a critic of the student's returns, a start at a
            teacher, or too few simulations to hold one out.
        ContractError: if datasets differ in robot, observation groups or actions.
        DatasetError: with the reason, for a dataset that is foreign, truncated or altered.
        OutputError: if ``out`` cannot be written or holds a merge and ``resume`` is off.
    """
    _check_config(config, init)
    group = processes()
    data = [LabeledData.open(folder) for folder in folders]
    contract = _contract(data)
    if config.critic == "teacher" and contract.labels == RECORDED:
        raise ConfigError(f"merge.critic is 'teacher', but {data[0].folder} holds no values of a teacher; set 'none'")
    wanted: dict[str, Any] = {"merge": config, "data": [d.manifest.to_json()["content_sha256"] for d in data]}
    if init is not None:
        wanted["init"] = init.manifest.weights_sha256
    check_parallel(group, config)
    folder = open_folder(group, out, wanted, resume)
    result = folder.result
    if result is None:
        with torch_threads(1):
            _DataMerge(data, contract, folder, config, init, progress if group.first else Silent(), group).go()
        result = folder.result
    assert result is not None
    return DataMergeResult(policy_path=out / "policy", **result)


def _check_config(config: MergeConfig, init: LoadedPolicy | None) -> None:
    if config.critic == "td":
        raise ConfigError("merge.critic is 'td', which needs a simulator; set 'teacher' or 'none' for recorded data")
    if config.protection != "none" or config.stop != "validations":
        raise ConfigError(
            f"merge.protection is {config.protection} and merge.stop {config.stop}; recorded data need none and "
            f"validations: give the data of old and new skills together"
        )
    if config.start not in ("random", "previous"):
        raise ConfigError(
            f"merge.start is '{config.start}'; recorded data hold no teacher to copy: use random or previous"
        )
    check_start(config, init)


def _contract(data: Sequence[LabeledData]) -> DataManifest:
    """Return the first manifest with the skills of all, after checking that the datasets belong together."""
    if not data:
        raise ConfigError("no dataset was given; name at least one folder")
    first = data[0].manifest
    skills: dict[str, LabeledSkill] = {}
    for one in data:
        for name in ("robot", "groups", "actions", "control_dt", "labels"):
            if getattr(one.manifest, name) != getattr(first, name):
                raise ContractError(f"the datasets {data[0].folder} and {one.folder} differ in their {name}")
        for skill in one.manifest.skills:
            if skills.setdefault(skill.id, skill).weights_sha256 != skill.weights_sha256:
                raise ConfigError(f"two teachers label {skill.id}: {skills[skill.id].teacher} and {skill.teacher}")
    present = {shard.skill for one in data for shard in one.manifest.shards}
    if lacking := sorted(skills.keys() - present):
        raise ConfigError(f"the datasets hold no states of {', '.join(lacking)}")
    return dataclasses.replace(first, skills=tuple(skills.values()), shards=())


def _check_init(init: LoadedPolicy, contract: DataManifest) -> None:
    """Raise ContractError unless the policy reads the data's columns and acts as the data's teachers did."""
    if tuple(init.policy.groups.items()) != contract.groups:
        raise ContractError(
            f"the policy to start from reads {init.policy.groups}, the data hold {dict(contract.groups)}; inject the "
            f"missing groups (policykd inject), or use start=random"
        )
    if (init.manifest.robot, init.manifest.actions) != (contract.robot, contract.actions):
        raise ContractError(f"the policy to start from has other actions than {contract.robot} in the data")


class _DataMerge:
    """The state of one merge of recorded data."""

    def __init__(
        self,
        data: Sequence[LabeledData],
        contract: DataManifest,
        folder: RunFolder | SharedFolder,
        config: MergeConfig,
        init: LoadedPolicy | None,
        progress: Progress,
        group: Processes = Processes(),
    ) -> None:
        self._group = group
        self._folder, self._config, self._progress, self._init = folder, config, progress, init
        self._contract, self._ids = contract, [skill.id for skill in contract.skills]
        self._robot = contract.check_robot()
        if choices := choices_of(self._robot):
            categorical(config, choices)  # a loss of continuous actions is refused before anything is read
        shape = config.architecture if init is None else init.policy.architecture
        pool = StatePool if shape.memory is None else SequencePool
        self._train, self._held_out = (pool(len(self._ids), None, config.support) for _ in range(2))
        self._read(data)
        log_std = torch.tensor([skill.log_std for skill in contract.skills])
        self._student = self._first_student(self._robot, log_std)
        self._fitting = Fitting(self._student, log_std, config, choices_of(self._robot), group=group)
        self._round = 0
        self._best: dict[str, Any] | None = None

    def go(self) -> None:
        """Fit, then write the student's policy file."""
        name = f"merge {' '.join(self._ids)} from data"
        self._restore()
        self._progress.begin(name, self._config.rounds, "rounds")
        count = max(1, self._config.minibatch // len(self._ids))
        while self._round < self._config.rounds:
            loss = self._fitting.fit(self._train, [count] * len(self._ids), self._round, self._generator("minibatches"))
            held_out = {skill: self._loss(i) for i, skill in enumerate(self._ids)}
            self._round += 1
            self._keep(held_out)
            self._folder.append({"round": self._round, "loss": loss, "held_out_loss": held_out})
            self._save()
            self._progress.update(name, self._round, loss=loss, held_out=max(held_out.values()))
        self._finish()
        self._progress.end(name, "held-out loss only: nothing was validated in the simulator")

    def _read(self, data: Sequence[LabeledData]) -> None:
        every = max(2, round(1 / self._config.held_out))
        held_out = set[str]()
        for one in data:
            for shard in one.manifest.shards:
                rollout, i = one.load(shard), self._ids.index(shard.skill)
                # Whole simulations are held out: neighbors in time are nearly the same state.
                held = torch.arange(shard.simulations) % every == every - 1
                self._train.add(i, _simulations(rollout, ~held))
                self._held_out.add(i, _simulations(rollout, held))
                held_out |= {shard.skill} if held.any() else set()
        if lacking := [skill for skill in self._ids if skill not in held_out]:
            raise ConfigError(
                f"merge.held_out is {self._config.held_out:g}, which holds out none of the simulations of "
                f"{', '.join(lacking)}; raise it, or record more simulations per round"
            )

    def _first_student(self, robot: Robot, log_std: torch.Tensor) -> Policy:
        groups, actions = dict(self._contract.groups), len(self._contract.actions)
        if self._init is not None:
            _check_init(self._init, self._contract)
            student = copy.deepcopy(self._init.policy).train()
        else:
            symmetric = all(s.symmetric for s in self._contract.skills) and self._config.architecture.memory is None
            symmetry = mirror_symmetry(tuple(groups), robot) if symmetric else None
            seed = integer_seed(self._config.seed, "student", *self._ids)
            student = make_policy(groups, actions, self._config.architecture, seed, symmetry)
            for i in range(len(self._ids)):
                student.update_normalizer(self._train.rows(i).observations)
        student.log_std.data.copy_(log_std.mean(dim=0))
        return student

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(integer_seed(self._config.seed, purpose, self._round))

    def _loss(self, i: int) -> float:
        if isinstance(self._held_out, SequencePool):
            return self._fitting.loss_along(self._held_out, i)
        observations, labels, _ = self._held_out.rows(i)
        return self._fitting.loss(Batch(observations, labels, torch.full((len(labels),), i)))

    def _keep(self, held_out: dict[str, float]) -> None:
        """Remember the weights if the loss is the least so far."""
        score = sum(held_out.values()) / len(held_out)
        if self._best is None or score < self._best["score"]:
            weights = {k: v.clone() for k, v in self._student.state_dict().items()}
            self._best = {"score": score, "held_out_loss": held_out, "weights": weights}

    def _save(self) -> None:
        self._group.check_equal(self._student.state_dict(), f"the weights after round {self._round}")
        state = {"student": self._student.state_dict(), "best": self._best, "round": self._round}
        self._folder.save_checkpoint({**state, **self._fitting.state_dict()})

    def _restore(self) -> None:
        state = self._folder.load_checkpoint()
        if state is not None:
            self._student.load_state_dict(state["student"])
            self._fitting.load_state_dict(state)
            self._best, self._round = state["best"], state["round"]

    def _finish(self) -> None:
        assert self._best is not None
        self._student.load_state_dict(self._best["weights"])
        if self._config.critic == "teacher":
            generator = self._generator("critic")
            fit_critic_to_teachers(self._student, self._train, len(self._ids), self._config, generator, self._group)
        self._group.check_equal(self._student.state_dict(), "the weights of the student")
        self._folder.finish(self._group.from_first(self._write))

    def _write(self) -> dict[str, Any]:
        """Write the student's policy file, and return the figures of the merge."""
        assert self._best is not None
        outcome: dict[str, Any] = {
            "rounds": self._round,
            "states": self._train.states + self._held_out.states,
            "held_out_loss": self._best["held_out_loss"],
            "masked": dict(zip(self._ids, self._train.masked, strict=True)),
        }
        lineage = [Parent(skill.teacher, skill.weights_sha256) for skill in self._contract.skills]
        if self._init is not None:
            lineage.append(self._init.manifest.as_parent("init"))
        save_policy(
            self._folder.path / "policy",
            self._student,
            robot=self._robot,
            skills=self._ids,
            skill_records={s.id: s.record for s in self._contract.skills if s.record} or None,
            operation="merge",
            parents=list(dict.fromkeys(lineage)),
            seed=self._config.seed,
            metrics=outcome,
            config=as_plain(self._config),
        )
        return outcome


def _simulations(rollout: LabeledRollout, chosen: torch.Tensor) -> LabeledRollout:
    """Return the rollout of the chosen simulations (n,), without the states after it, which a pool does not take."""
    rows = chosen.repeat(len(rollout.rewards))
    grids = {
        name: getattr(rollout, name)[:, chosen] for name in ("rewards", "terminated", "truncated", "student_acted")
    }
    flat = {name: getattr(rollout, name)[rows] for name in ("observations", "labels", "teacher_values", "distances")}
    return dataclasses.replace(
        rollout, **grids, **flat, final_rows=rollout.final_rows[:0], final_observations=rollout.final_observations[:0]
    )
