"""How differently the experts of several skills act in the same states at the beginning of an episode.

    python benchmarks/disagreement.py --experts results/demo/experts/* --out benchmarks/results/disagreement.json

On the flat run-up of every track, a student that does not see the ground cannot tell the skills apart: where the
experts' actions differ there, it learns their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from cells import experts_in_words
from policykd.agents.files.policy_file import load_named
from policykd.agents.policy import Policy
from policykd.cli.commands.evaluate import expert_of
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import make_env
from policykd.envs.skills import Skill
from policykd.storage import write_json


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        experts: policy files, or folders of training runs, of one robot.
        episodes: episodes per skill.
        steps: steps from the beginning of an episode.
        seed: seed of tracks and initial states.
        out: JSON file.
    """

    experts: tuple[Path, ...]
    episodes: int = 64
    steps: int = 25
    seed: int = 7
    out: Path = Path("results/benchmarks/disagreement.json")


@torch.no_grad()
def measure(skill: Skill, own: str, policies: Mapping[str, Policy], options: Options) -> dict[str, Any]:
    """Return the spread of an expert's actions, and how far the others' are from them, root mean squares.

    Args:
        skill: the skill.
        own: name of its expert, which acts.
        policies: all experts by name.
        options: episodes, steps and seed.
    """
    config = EnvConfig(tracks=options.episodes, ordered=True)
    env = make_env([skill], options.episodes, seed=options.seed, config=config)
    flat, columns = torch.cat(list(env.reset().values()), dim=1), env.skill.columns
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in policies}
    for _ in range(options.steps):
        for name, policy in policies.items():
            rows[name].append(policy(policy.select(flat, columns)).clamp(-1.0, 1.0))
        flat = env.step(rows[own][-1]).flat
    acts = {name: torch.stack(found) for name, found in rows.items()}
    spread = acts[own].flatten(0, 1).var(dim=0).mean().sqrt()
    apart = {name: (one - acts[own]).square().mean().sqrt() for name, one in acts.items() if name != own}
    return {"spread": round(float(spread), 3), "apart": {name: round(float(value), 3) for name, value in apart.items()}}


def main(options: Options) -> None:
    """Measure all pairs and write the file."""
    loaded = load_named(list(options.experts))
    policies = {name: one.policy for name, one in loaded.items()}
    found = {}
    for skill, name in expert_of(loaded).items():
        manifest = loaded[name].manifest
        found[skill] = measure(manifest.skill(skill, tuple(policies[name].groups)), name, policies, options)
        print(skill, found[skill])
    command = f"python benchmarks/disagreement.py --experts {experts_in_words(options.experts)}"
    write_json(options.out, {"command": command, "steps": options.steps, "episodes": options.episodes,
                             "seed": options.seed, "skills": found})  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
