"""Metadata of exported policies: names, sizes, gains and angles that a robot's runtime needs, as texts.

Keys and comma-separated lists are those of mjlab's ONNX files, here at full precision; ``policykd_manifest`` holds the
whole manifest as JSON. It reads a manifest only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from policykd.agents.files.manifest import Manifest
from policykd.envs.observations import split_history


def export_metadata(manifest: Manifest, run_path: str) -> dict[str, str]:
    """Return the metadata of an exported policy.

    Args:
        manifest: the policy's manifest.
        run_path: where the policy came from.
    """
    actions = manifest.actions
    return {
        "run_path": run_path,
        "joint_names": _listed(a.joint for a in actions),
        "joint_stiffness": _listed(a.stiffness for a in actions),
        "joint_damping": _listed(a.damping for a in actions),
        "joint_torque_limits": _listed(a.torque for a in actions),
        "default_joint_pos": _listed(a.stand for a in actions),
        "action_scale": _listed(a.scale for a in actions),
        "command_names": "command" if "command" in manifest.groups else "",
        "observation_names": _listed(manifest.groups),
        "observation_sizes": _listed(manifest.groups.values()),
        "control_dt": repr(manifest.control_dt),
        "policykd_manifest": json.dumps(manifest.to_json()),
    }


def header_comment(manifest: Manifest, metadata: dict[str, str]) -> str:
    """Return the text at the top of a C header: what goes in, what comes out, and the gains behind it."""
    lines = [
        f"Policy of {manifest.robot} for {', '.join(manifest.skills)}.",
        f"Exported by policykd {manifest.policykd_version}.",
        "",
        f"Call it every {manifest.control_dt:g} s. Observation groups, in order, raw (the normalizer is inside):",
    ]
    start = 0
    for name, size in manifest.groups.items():
        base, count = split_history(name)
        what = name if count is None else f"{name}, the last {count} readings of {base}, the newest first"
        lines.append(f"  obs[{start}..{start + size - 1}]: {what}")
        start += size
    if (memory := manifest.architecture.memory) is not None:
        lines += [f"state: the memory ({memory.kind}), zeros at first; copy next_state into it for the next call."]
    lines += ["actions are in [-1, 1]; joint_targets are angles in rad, in this order:", f"  {metadata['joint_names']}"]
    keys = {"joint_stiffness": "Nm/rad", "joint_damping": "Nm s/rad", "joint_torque_limits": "Nm"}
    lines += [f"{key}, {unit}: {metadata[key]}" for key, unit in keys.items()]
    return "\n".join(lines)


def _listed(values: Iterable[object]) -> str:
    return ",".join(str(value) for value in values)
