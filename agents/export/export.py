"""Export of a policy file: write the runtime files, compare each with the policy, and report what was found.

It is the only module of this package that writes files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from policykd.agents.architecture import WRAPPERS
from policykd.agents.export.c_writer import c_header
from policykd.agents.export.check import Comparison, Visited, compare, visit
from policykd.agents.export.metadata import export_metadata, header_comment
from policykd.agents.export.onnx_writer import onnx_bytes
from policykd.agents.export.program import input_name, policy_program
from policykd.agents.export.runtime import (
    Runtime,
    c_runtime,
    missing_for_c,
    missing_for_onnx,
    onnx_runtime,
    torchscript_runtime,
)
from policykd.agents.export.torchscript import torchscript_bytes
from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.injection.files import on_policy_observations
from policykd.agents.latent_policy import LatentPolicy, without_encoder
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy, check_memoryless
from policykd.envs.foreign.skill import check_continuous
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, OutputError, UnknownNameError, check_range
from policykd.storage import prepare_folder, write_bytes, write_json

REPORT = "export.json"
"""File with sizes, hashes and the comparison of every exported file."""


@dataclass(frozen=True)
class ExportedFile:
    """One exported file.

    Attributes:
        path: the file.
        bytes: its size.
        sha256: its hash, hexadecimal.
        comparison: comparison with the policy; None if it was not asked for, or cannot be made here.
        unchecked: why it cannot be made here.
    """

    path: Path
    bytes: int
    sha256: str
    comparison: Comparison | None
    unchecked: str | None = None


@dataclass(frozen=True)
class ExportReport:
    """Result of an export.

    Attributes:
        files: exported files by format.
        skill: id of the skill on which they were compared with the policy.
        report_path: the report as JSON.
    """

    files: dict[str, ExportedFile]
    skill: str
    report_path: Path


@dataclass(frozen=True)
class _Format:
    """A format: suffix of its file, its content, the file as a function, and why it cannot be run here."""

    suffix: str
    write: Callable[[LoadedPolicy, bool, dict[str, str]], bytes]
    run: Callable[[Path, LoadedPolicy, bool], Runtime]
    missing: Callable[[], str | None]


def export_policy(
    path: Path,
    out: Path,
    formats: Sequence[str] | None = None,
    *,
    per_group: bool = False,
    check: bool = True,
    skill: str | None = None,
    states: int = 10_000,
    episodes: int = 64,
    seed: int = 0,
    threads: int | None = None,
) -> ExportReport:
    """Write a policy as files for other runtimes.

    Every file maps raw observations to ``actions`` in [-1, 1] and ``joint_targets`` in rad; the normalizer, the
    exchange of left and right, and the clamps are inside. That of a recurrent policy also maps ``state``, zeros at the
    beginning, to ``next_state``; that of a policy with a latent reads no privileged groups.

    Args:
        path: policy file, or folder of a run.
        out: folder of the exported files, which are named ``policy.*``; earlier ones are replaced.
        formats: any of ``onnx``, ``torchscript`` and ``c``. None for all; one that cannot be run on this machine is
            then written without a comparison, and its :attr:`ExportedFile.unchecked` says why.
        per_group: one input per observation group instead of one flat ``obs``.
        check: compare each file with the policy, on visited states and in closed loop.
        skill: id of the skill of the comparison; None for the policy's first.
        states: states that are compared.
        episodes: episodes in closed loop.
        seed: seed of states and episodes.
        threads: threads of the simulation; None for all.

    Raises:
        UnknownNameError: for an unknown format, or a skill that the policy was not made for.
        ConfigError: for no format, or a package or compiler that is missing.
        PolicyFileError: for a file that is not a policy.
        ContractError: for a policy with the memory of a wrapper, or discrete actions.
        OutputError: if an exported file computes other actions than the policy; the file is kept for inspection.
    """
    chosen_formats = _chosen(formats)
    check_range("states", states, 1, 10_000_000)
    check_range("episodes", episodes, 1, 100_000)
    loaded = load_policy(path)
    if isinstance(loaded.policy, LatentPolicy):
        loaded = LoadedPolicy(without_encoder(loaded.policy), loaded.manifest)
    _check_memory(loaded.policy)
    chosen = _skill(loaded, skill)
    check_continuous(chosen.robot, "policykd export")
    unchecked = _unchecked(chosen_formats, named=formats is not None) if check else {}
    metadata = export_metadata(loaded.manifest, str(path))
    contents = {name: _FORMATS[name].write(loaded, per_group, metadata) for name in chosen_formats}
    prepare_folder(out)
    visited = None
    if check:
        visited = _visited(loaded.policy, chosen, states, seed, threads)
    files: dict[str, ExportedFile] = {}
    for name, content in contents.items():
        kind = _FORMATS[name]
        target = out / f"policy{kind.suffix}"
        write_bytes(target, content)
        found = None
        if visited is not None and name not in unchecked:
            runtime = kind.run(target, loaded, per_group)
            found = compare(
                loaded.policy, loaded.manifest.actions, runtime, chosen, visited,
                episodes=episodes, seed=seed, threads=threads,
            )  # fmt: skip
        files[name] = ExportedFile(
            target, len(content), hashlib.sha256(content).hexdigest(), found, unchecked.get(name)
        )
    report = ExportReport(files, chosen.id, out / REPORT)
    _write_report(report, loaded, per_group)
    _refuse_differences(report)
    return report


def _chosen(formats: Sequence[str] | None) -> tuple[str, ...]:
    """Return the formats to write.

    Raises:
        UnknownNameError: for an unknown one.
        ConfigError: for none.
    """
    chosen = tuple(_FORMATS if formats is None else formats)
    unknown = next((name for name in chosen if name not in _FORMATS), None)
    if unknown is not None:
        raise UnknownNameError("export format", unknown, _FORMATS)
    if not chosen:
        raise ConfigError(f"no export format was given; choose from {', '.join(_FORMATS)}")
    return chosen


def _unchecked(formats: Sequence[str], *, named: bool) -> dict[str, str]:
    """Return why formats cannot be run here, for those that cannot.

    Args:
        formats: the formats to write.
        named: whether they were asked for by name.

    Raises:
        ConfigError: for such a format that was asked for by name.
    """
    missing = {name: why for name in formats if (why := _FORMATS[name].missing()) is not None}
    if named and missing:
        raise ConfigError(next(iter(missing.values())))
    return missing


def _check_memory(policy: Policy) -> None:
    shape = policy.architecture.memory
    if shape is not None and shape.kind in WRAPPERS:
        check_memoryless(policy, "policykd export")


def _visited(policy: Policy, skill: Skill, states: int, seed: int, threads: int | None) -> torch.Tensor | Visited:
    """Return observations that the policy visits; of a recurrent one in order."""
    if isinstance(policy, RecurrentPolicy):
        return visit(policy, skill, states, seed, threads)
    return policy.flatten(on_policy_observations(policy, skill, states, seed, threads))


def _skill(loaded: LoadedPolicy, name: str | None) -> Skill:
    made_for = loaded.manifest.skills
    if name is not None and name not in made_for:
        raise UnknownNameError("skill of the policy", name, made_for)
    return loaded.manifest.skill(name or made_for[0], tuple(loaded.policy.groups))


def _write_report(report: ExportReport, loaded: LoadedPolicy, per_group: bool) -> None:
    listed = {
        name: {
            "file": file.path.name,
            "bytes": file.bytes,
            "sha256": file.sha256,
            "comparison": None if file.comparison is None else asdict(file.comparison),
            "unchecked": file.unchecked,
        }
        for name, file in report.files.items()
    }
    policy = loaded.policy
    inputs = {input_name(name): size for name, size in policy.groups.items()}
    state = policy.state_size if isinstance(policy, RecurrentPolicy) else 0
    write_json(
        report.report_path,
        {
            "format_version": 1,
            "weights_sha256": loaded.manifest.weights_sha256,
            "inputs": (inputs if per_group else {"obs": policy.observation_size}) | ({"state": state} if state else {}),
            "outputs": {"actions": policy.actions, "joint_targets": policy.actions}
            | ({"next_state": state} if state else {}),
            "skill": report.skill,
            "files": listed,
        },
    )


def _refuse_differences(report: ExportReport) -> None:
    for file in report.files.values():
        found = file.comparison
        if found is not None and not found.passed:
            raise OutputError(
                f"{file.path} differs from the policy by up to {found.largest_action:.2g} in actions and "
                f"{found.largest_target:.2g} rad in joint targets; do not use it, and report it as a bug"
            )


def _onnx(loaded: LoadedPolicy, per_group: bool, metadata: dict[str, str]) -> bytes:
    return onnx_bytes(policy_program(loaded.policy, loaded.manifest.actions, per_group=per_group), metadata)


def _torchscript(loaded: LoadedPolicy, per_group: bool, metadata: dict[str, str]) -> bytes:
    return torchscript_bytes(loaded.policy, loaded.manifest.actions, metadata, per_group=per_group)


def _c(loaded: LoadedPolicy, per_group: bool, metadata: dict[str, str]) -> bytes:
    program = policy_program(loaded.policy, loaded.manifest.actions, per_group=per_group)
    return c_header(program, "policy", header_comment(loaded.manifest, metadata)).encode()


_FORMATS = {
    "onnx": _Format(".onnx", _onnx, lambda path, loaded, _: onnx_runtime(path, loaded.policy.groups), missing_for_onnx),
    "torchscript": _Format(
        ".pt",
        _torchscript,
        lambda path, loaded, apart: torchscript_runtime(path, loaded.policy.groups, per_group=apart),
        lambda: None,
    ),
    "c": _Format(
        ".h", _c, lambda path, loaded, apart: c_runtime(path, loaded.policy.groups, per_group=apart), missing_for_c
    ),
}
