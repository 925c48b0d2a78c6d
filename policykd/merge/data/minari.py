"""Labeled states as Minari datasets, and Minari datasets as labeled states (extra ``[minari]``).

A dataset written here is read back completely. Of a foreign one, the recorded actions become the labels. It converts;
folders and manifests are :mod:`policykd.merge.data.folder`'s.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from policykd import __version__
from policykd.agents.files.manifest import describe_actions
from policykd.envs.foreign.skill import ActionSpace, GymSkill, check_continuous
from policykd.envs.foreign.spaces import OBSERVATION
from policykd.envs.skill_records import records_of
from policykd.errors import ContractError, DatasetError, MissingDependencyError, OutputError, PolicykdError
from policykd.merge.data.folder import LabeledData
from policykd.merge.data.manifest import CHOICES, RECORDED, DataManifest, LabeledSkill, Shard
from policykd.merge.data.minari_files import check_sizes
from policykd.merge.data.rollout import LabeledRollout
from policykd.parsing import parse_json

COLUMNS = 20
"""Simulations that the steps of a foreign dataset are spread over, so that a tenth of them can be held out."""
STD = 0.1
"""Standard deviation of the actions of a student of a foreign dataset, in units of the action; it names none."""

_MANIFEST = "policykd_manifest"
_PER_STEP = ("labels", "student_acted", "teacher_values", "distances", "truncated")


def write_minari(data: LabeledData, dataset_id: str, *, author: str | None = None) -> int:
    """Write labeled states as a Minari dataset into Minari's folder, ``MINARI_DATASETS_PATH``.

    Its observations are the student's, its actions the teacher's labels: what the teacher would have done, not what was
    done. States of one environment have actions in the environment's units, all others in units of the action. Every
    step's ``infos`` hold the label, who acted, the teacher's value and the state's distance from its training states. A
    state after a fall is not recorded, so an episode that ended in one ends with a copy of its last state.

    Args:
        data: the labeled states.
        dataset_id: Minari's name: ``namespace/name-v0``.
        author: author, as Minari records it.

    Returns:
        The number of episodes.

    Raises:
        MissingDependencyError: without Minari.
        OutputError: if there is a dataset of that name.
        DatasetError: for a damaged shard, a dataset without states, or a name that Minari does not take.
    """
    minari, manifest = _minari(), data.manifest
    _check_name(dataset_id)
    if dataset_id in _local_names(minari):
        raise OutputError(f"there is a Minari dataset {dataset_id} already; choose another name or delete it")
    low, high = _bounds(manifest)
    episodes = [episode for shard in manifest.shards for episode in _episodes(data, shard, low, high)]
    if not episodes:
        raise DatasetError(f"the dataset {data.folder} holds no states")
    made = _create(minari, dataset_id, episodes, manifest, (low, high), author)
    made.storage.update_metadata({_MANIFEST: json.dumps(manifest.to_json())})
    return len(episodes)


def read_minari(dataset_id: str, out: Path, skill: GymSkill | None = None) -> LabeledData:
    """Convert a Minari dataset of this machine to labeled states.

    Args:
        dataset_id: Minari's name.
        out: folder of the labeled states.
        skill: the task in whose environment a foreign dataset was recorded; not needed for one of :func:`write_minari`.

    Returns:
        The labeled states, written to ``out``.

    Raises:
        MissingDependencyError: without Minari.
        DatasetError: for a name that is not among the datasets of this machine, or a damaged dataset.
        ContractError: for a foreign dataset without a skill, or whose observations or actions are not the skill's.
        OutputError: if ``out`` holds labeled states.
    """
    minari = _minari()
    known = _local_names(minari)
    if dataset_id not in known:
        raise DatasetError(
            f"the Minari dataset {dataset_id} is not on this machine, which has {', '.join(known) or 'none'}; "
            f"get one with: minari download {dataset_id}"
        )
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose another folder")
    with _damage(dataset_id):
        check_sizes(_folder(dataset_id))
        dataset = minari.load_dataset(dataset_id)
        stored = dataset.storage.metadata.get(_MANIFEST)
        episodes = list(dataset.iterate_episodes())
    if stored is not None:
        manifest = DataManifest.from_json(parse_json(str(stored).encode(), "its manifest", DatasetError))
        with _damage(dataset_id):
            return _restore(LabeledData(out, dataclasses.replace(manifest, shards=())), manifest.shards, episodes)
    if skill is None:
        raise ContractError(f"{dataset_id} does not name a skill of policykd; give --skill gym:ID of its environment")
    with _damage(dataset_id):
        return _convert(dataset_id, dataset, episodes, skill, out)


def _folder(dataset_id: str) -> Path:
    from minari.storage.datasets_root_dir import get_dataset_path

    return Path(get_dataset_path(dataset_id))


@contextmanager
def _damage(dataset_id: str) -> Iterator[None]:
    """Raise what Minari and HDF5 raise over a damaged dataset as DatasetError; they have no class for it."""
    try:
        yield
    except PolicykdError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise DatasetError(f"the Minari dataset {dataset_id} is damaged, or of another version: {reason}") from None


def _local_names(minari: Any) -> list[str]:
    """Return the names of the datasets of this machine.

    Raises:
        DatasetError: for one that is damaged so that Minari cannot list any.
    """
    try:
        return list(minari.list_local_datasets())
    except Exception as error:
        raise DatasetError(
            f"Minari cannot list the datasets of this machine, one of which is damaged "
            f"({type(error).__name__}: {str(error)[:200]}); remove it from MINARI_DATASETS_PATH"
        ) from None


def _minari() -> Any:
    try:
        import h5py  # noqa: F401  # Minari needs it to read and write, but imports without it
        import minari
    except ImportError as error:
        raise MissingDependencyError(f"Minari needs the extra: pip install 'policykd[minari]' ({error})") from None
    return minari


def _check_name(dataset_id: str) -> None:
    """Raise DatasetError for a name that Minari does not take; it would leave a folder that breaks its own listing."""
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(dataset_id)
    except ValueError as error:
        raise DatasetError(f"'{dataset_id}' is not a name of a Minari dataset: {error}") from None


def _bounds(manifest: DataManifest) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the actions that a label of -1 and 1 stands for; of choices, none."""
    count = len(manifest.actions)
    if manifest.labels == CHOICES:
        return np.full(count, -np.inf, np.float32), np.zeros(count, np.float32)
    robot = manifest.check_robot()
    if isinstance(robot, ActionSpace):
        return np.array(robot.low, np.float32), np.array(robot.high, np.float32)
    return -np.ones(count, np.float32), np.ones(count, np.float32)


def _create(
    minari: Any, dataset_id: str, episodes: Sequence[Any], manifest: DataManifest,
    bounds: tuple[np.ndarray, np.ndarray], author: str | None,
) -> Any:  # fmt: skip
    features = sum(size for _, size in manifest.groups)
    columns = ", ".join(f"{name} ({size})" for name, size in manifest.groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari recommends to name a code link, an email and an environment
        return minari.create_dataset_from_buffers(
            dataset_id, episodes,
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (features,), np.float32),
            action_space=gymnasium.spaces.Box(*bounds, dtype=np.float32),
            algorithm_name=f"policykd {__version__}, labels of {', '.join(s.teacher for s in manifest.skills)}",
            author=author,
            description=f"Labeled states of {', '.join(s.id for s in manifest.skills)}. Observations: {columns}. "
            f"Actions: {manifest.labels}.",
        )  # fmt: skip


def _episodes(data: LabeledData, shard: Shard, low: np.ndarray, high: np.ndarray) -> Iterator[Any]:
    """Yield the episodes of a shard as Minari's buffers, simulation by simulation."""
    from minari.data_collector import EpisodeBuffer

    rollout, n = data.load(shard), shard.simulations
    skill = [s.id for s in data.manifest.skills].index(shard.skill)
    after = dict(zip(rollout.final_rows.tolist(), rollout.final_observations.numpy(), strict=True))
    ended = (rollout.terminated | rollout.truncated).numpy()
    for simulation in range(n):
        last = [*np.flatnonzero(ended[:, simulation]).tolist(), shard.steps - 1]
        begin = 0
        for end in dict.fromkeys(last):
            rows = np.arange(begin, end + 1) * n + simulation
            observations = rollout.observations.numpy()[rows]
            final = after.get(int(rows[-1]), observations[-1])
            fell = bool(rollout.terminated[end, simulation])
            labels = rollout.labels.numpy()[rows]
            where = {"skill": skill, "round": shard.round, "simulation": simulation}
            count = len(rows)
            last_one = np.arange(count) == count - 1
            yield EpisodeBuffer(
                observations=np.concatenate([observations, final[None]]),
                actions=low + (labels + 1.0) / 2.0 * (high - low) if np.isfinite(low).all() else labels,
                rewards=rollout.rewards[begin : end + 1, simulation].numpy(),
                terminations=last_one & fell,
                truncations=last_one & (not fell),  # by the environment, or because the rollout ended
                infos={
                    **{name: _padded(_column(rollout, name, rows, begin, end, simulation)) for name in _PER_STEP},
                    "step": np.arange(begin, end + 2),
                    **{name: np.full(count + 1, value) for name, value in where.items()},
                },
            )
            begin = end + 1


def _column(rollout: LabeledRollout, name: str, rows: np.ndarray, begin: int, end: int, simulation: int) -> np.ndarray:
    """Return a field of an episode: of one row per state, or of a grid of steps and simulations."""
    whole: np.ndarray = getattr(rollout, name).numpy()
    return whole[begin : end + 1, simulation] if name in ("student_acted", "truncated") else whole[rows]


def _padded(values: np.ndarray) -> np.ndarray:
    """Return values with an empty entry at the end: the last observation of an episode is not labeled."""
    return np.concatenate([values, np.zeros_like(values[:1])])


def _restore(data: LabeledData, shards: Sequence[Shard], episodes: Sequence[Any]) -> LabeledData:
    """Write the shards again whose states the episodes hold."""
    skills = [skill.id for skill in data.manifest.skills]
    for shard in shards:
        place = (skills.index(shard.skill), shard.round)
        own = [e for e in episodes if (int(e.infos["skill"][0]), int(e.infos["round"][0])) == place]
        try:
            rollout = _regrid(own, shard, sum(size for _, size in data.manifest.groups), len(data.manifest.actions))
        except (IndexError, KeyError, ValueError) as error:
            raise DatasetError(f"round {shard.round} of {shard.skill} is incomplete or was altered: {error}") from None
        data.store(shard.round, shard.skill, rollout, shard.beta)
    data.commit()
    return data


def _regrid(episodes: Sequence[Any], shard: Shard, features: int, actions: int) -> LabeledRollout:
    steps, n = shard.steps, shard.simulations
    if sum(len(episode.rewards) for episode in episodes) != steps * n:
        raise ValueError("steps are missing")
    wide = {"observations": features, "labels": actions}
    flat = {name: np.full((steps * n, size), np.nan, np.float32) for name, size in wide.items()}
    numbers = {name: np.full((steps * n,), np.nan, np.float32) for name in ("rewards", "teacher_values", "distances")}
    flags = {name: np.zeros((steps * n,), np.bool_) for name in ("terminated", "truncated", "student_acted")}
    final: dict[int, np.ndarray] = {}
    for episode in episodes:
        count, info = len(episode.rewards), episode.infos
        rows = info["step"][:count] * n + int(info["simulation"][0])
        flat["observations"][rows], flat["labels"][rows] = episode.observations[:count], info["labels"][:count]
        numbers["rewards"][rows], flags["terminated"][rows] = episode.rewards, episode.terminations
        for name in ("teacher_values", "distances"):
            numbers[name][rows] = info[name][:count]
        for name in ("truncated", "student_acted"):
            flags[name][rows] = info[name][:count]
        if not episode.terminations[-1]:
            final[int(rows[-1])] = episode.observations[-1]
    if any(np.isnan(values).any() for values in (*flat.values(), *numbers.values())):
        raise ValueError("steps are missing")
    grid = {name: values.reshape(steps, n) for name, values in (("rewards", numbers.pop("rewards")), *flags.items())}
    rows = np.array(sorted(final), np.int64)
    after = np.array([final[row] for row in rows.tolist()], np.float32).reshape(len(rows), features)
    tensors = {**flat, **numbers, **grid, "final_rows": rows, "final_observations": after}
    return LabeledRollout(**{name: torch.from_numpy(values) for name, values in tensors.items()})


def _convert(dataset_id: str, dataset: Any, episodes: Sequence[Any], skill: GymSkill, out: Path) -> LabeledData:
    """Write the steps of a foreign dataset, whose recorded actions are the labels."""
    check_continuous(skill.robot, "reading a Minari dataset")
    low, high = (np.array(bound, np.float32) for bound in (skill.actions.low, skill.actions.high))
    if getattr(dataset.action_space, "shape", None) != low.shape:
        raise ContractError(f"{dataset_id} has actions {dataset.action_space}; {skill.id} has {len(low)} actions")
    rows = [_flat_observations(episode.observations, skill, dataset_id) for episode in episodes]
    before = np.concatenate([part[:-1] for part in rows])
    after = np.concatenate([part[1:] for part in rows])
    actions = np.concatenate([np.asarray(episode.actions, np.float32) for episode in episodes])
    labels = np.clip((actions - low) / (high - low) * 2.0 - 1.0, -1.0, 1.0).astype(np.float32)
    rewards = np.concatenate([episode.rewards for episode in episodes]).astype(np.float32)
    fell = np.concatenate([episode.terminations for episode in episodes]).astype(np.bool_)
    last = np.concatenate([np.arange(len(e.rewards)) == len(e.rewards) - 1 for e in episodes])
    steps = len(labels) // COLUMNS
    if steps < 1:
        raise DatasetError(f"{dataset_id} has {len(labels)} steps; at least {COLUMNS} are needed")
    data = LabeledData(out, _manifest_of(dataset_id, skill, labels))
    rollout = _columns(steps, before, after, labels, rewards, fell, last & ~fell)
    data.store(0, skill.id, rollout, 1.0)
    data.commit()
    return data


def _columns(
    steps: int, before: np.ndarray, after: np.ndarray, labels: np.ndarray, rewards: np.ndarray, fell: np.ndarray,
    cut: np.ndarray,
) -> LabeledRollout:  # fmt: skip
    """Return steps in time order as those of :data:`COLUMNS` simulations of equal length; the remainder is dropped."""
    count = steps * COLUMNS

    def grid(values: np.ndarray) -> torch.Tensor:
        parts = values[:count].reshape(COLUMNS, steps, *values.shape[1:])
        return torch.from_numpy(np.ascontiguousarray(parts.swapaxes(0, 1)))

    ends = cut.copy()
    ends[steps - 1 : count : steps] |= ~fell[steps - 1 : count : steps]
    rows = torch.nonzero(grid(ends).flatten()).squeeze(1)
    return LabeledRollout(
        observations=grid(before).flatten(0, 1), labels=grid(labels).flatten(0, 1), rewards=grid(rewards),
        terminated=grid(fell), truncated=grid(cut), student_acted=torch.zeros(steps, COLUMNS, dtype=torch.bool),
        final_rows=rows, final_observations=grid(after).flatten(0, 1)[rows],
        teacher_values=torch.zeros(count), distances=torch.zeros(count),
    )  # fmt: skip


def _flat_observations(observations: Any, skill: GymSkill, dataset_id: str) -> np.ndarray:
    """Return (T + 1, features) observations of the skill's groups."""
    if isinstance(observations, dict):
        missing = [name for name in skill.groups if name not in observations]
        if missing:
            raise ContractError(f"{dataset_id} has observations {sorted(observations)}; {skill.id} reads {missing[0]}")
        parts = [np.asarray(observations[name], np.float32) for name in skill.groups]
        flat = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    else:
        whole = np.asarray(observations, np.float32)
        whole = whole.reshape(len(whole), -1)
        spans = {name: slice(start, start + count) for name, start, count in skill.slices} or {OBSERVATION: slice(None)}
        flat = np.concatenate([whole[:, spans[name]] for name in skill.groups if name in spans], axis=1)
    wanted = sum(skill.group_sizes.values())
    if flat.shape[1] != wanted:
        raise ContractError(f"{dataset_id} has {flat.shape[1]} features; {skill.id} has {wanted}: {skill.group_sizes}")
    return flat


def _manifest_of(dataset_id: str, skill: GymSkill, labels: np.ndarray) -> DataManifest:
    """Return the manifest of a foreign dataset; the hash of its actions stands for the teacher's weights."""
    digest = hashlib.sha256(labels.tobytes()).hexdigest()
    one = LabeledSkill(
        skill.id, f"minari:{dataset_id}", digest, (math.log(STD),) * labels.shape[1], symmetric=False,
        record=(records_of([skill]) or {}).get(skill.id),
    )  # fmt: skip
    return DataManifest(
        policykd_version=__version__, robot=skill.robot.name, control_dt=float(skill.robot.control_dt),
        groups=tuple(skill.group_sizes.items()), actions=describe_actions(skill.robot), labels=RECORDED, skills=(one,),
    )  # fmt: skip
