"""A policy of stable-baselines3 becomes a student of policykd: smaller, in a file without code, ready for export.

The zip is read as data; stable-baselines3 does not run it. For example, with the zoo's expert of BipedalWalker::

    python examples/distil_sb3_policy.py ppo-BipedalWalker-v3.zip BipedalWalker-v3 --hidden 64 64 --out walker

Several pairs of zip and environment are merged into one student, see docs/import.md for what then tells tasks apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.agents.importing.importer import import_policy
from policykd.evaluation import Evaluation, evaluate
from policykd.evaluation.results import RANDOM
from policykd.merge import MergeConfig, merge_experts, teachers_from


def distil(zips: list[Path], environments: list[str], out: Path, config: MergeConfig, episodes: int = 10) -> Evaluation:
    """Import policies, merge them into a student, and measure it next to them.

    Args:
        zips: what ``model.save`` of stable-baselines3 wrote; a ``vecnormalize.pkl`` next to one is found.
        environments: the id of the environment of each.
        out: folder of experts and student; the student's policy file is ``out / "student" / "policy"``.
        config: the merge.
        episodes: episodes per policy and environment, and of the trial of an imported policy.
    """
    experts = []
    for number, (path, environment) in enumerate(zip(zips, environments, strict=True)):
        report = import_policy(path, out / f"expert-{number}", env=environment, episodes=episodes)
        print(f"{path.name}: return {report.score:.1f}, random actions {report.random:.1f}")
        experts.append((f"expert-{number}", load_policy(report.policy_path)))
    teachers = teachers_from(experts, task_id=len(set(environments)) < len(environments))
    student = load_policy(merge_experts(teachers, out / "student", config).policy_path)
    policies = {"student": student.policy, **{name: loaded.policy for name, loaded in experts}}
    owners = {teacher.skill.id: name for teacher, (name, _) in zip(teachers, experts, strict=True)}
    return evaluate(policies, [teacher.skill for teacher in teachers], episodes=episodes, experts=owners)


def describe(found: Evaluation) -> list[str]:
    """Return a line per environment: what the student retains, measured from random actions."""
    lines = []
    for skill, expert in found.experts.items():
        own, best, chance = (found.cells[name, skill].total_reward for name in ("student", expert, RANDOM))
        returns = ", ".join(f"{sum(one) / len(one):.1f}" for one in (own, best, chance))
        kept = found.summaries["student", skill].retention
        text = f"{kept.estimate:.2f} ({kept.low:.2f} to {kept.high:.2f})" if kept else "not measurable"
        lines.append(f"{skill}: returns of student, expert, random actions {returns}; retention {text}")
    return lines


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", help="zip and id of its environment, in turn")
    parser.add_argument("--out", type=Path, default=Path("distilled"))
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64], help="widths of the student")
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    if len(given.pairs) % 2:
        parser.error("give a zip and the id of its environment, in turn")
    config = MergeConfig(
        rounds=given.rounds, envs=8, critic="none", min_teacher_success=0.0, validation_episodes=8,
        architecture=Architecture(hidden=tuple(given.hidden), critic_hidden=(8,)),
    )  # fmt: skip
    found = distil([Path(one) for one in given.pairs[::2]], given.pairs[1::2], given.out, config)
    print("\n".join(describe(found)))


if __name__ == "__main__":
    main()
