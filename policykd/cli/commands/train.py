"""``policykd train``: train one expert per skill, from scratch or from another policy.

Options and printing only; the work is in ``policykd.agents.training``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from policykd.agents.training.config import TrainConfig
from policykd.agents.training.defaults import config_of_skill
from policykd.agents.training.device_settings import device_settings
from policykd.cli.options import Device, EncoderText, Resume, Set, Threads, parse_encoder
from policykd.cli.output import Bars, say
from policykd.cli.overrides import with_overrides
from policykd.errors import ConfigError

if TYPE_CHECKING:
    from policykd.agents.training import TrainResult
    from policykd.envs.skills import Skill

_TRAIN = TrainConfig()


@dataclass(frozen=True)
class Train:
    """Train one expert per skill from scratch, or from another policy."""

    skills: tyro.conf.Positional[tuple[str, ...]]
    """Skills such as biped/steps, biped/gaps:hard, biped/walls@0.5 or biped/flat+hop; `policykd skills` lists them."""
    out: Path = Path("experts")
    """Folder of the experts; each gets a subfolder named after its skill."""
    steps: int | None = None
    """Training budget, environment steps; default the demo's for its skills, otherwise 3,000,000 for planar robots and
    1,500,000 for robots in space; four times as many on a CUDA device, which needs fewer seconds for them."""
    algorithm: str = _TRAIN.algorithm
    """Reinforcement learning algorithm: ppo, sac, or package.module:ALGORITHM for one of another package."""
    init: Path | None = None
    """Policy to start from; the result is never worse than it in validation."""
    groups: tuple[str, ...] = ()
    """Observation groups of the expert, joints:5 for the last 5 readings; default those of the task. `policykd skills`
    lists them."""
    encoder: EncoderText = None
    seed: int = _TRAIN.seed
    """Seed of weights, tracks and exploration."""
    target_success: float | None = None
    """Stop early when two validations in a row reach this success (0 to 1); above 1 disables early stopping.
    Default the demo's for its skills, otherwise 0.98, and 2 for robots that are simulated as their model files say."""
    threads: Threads = None
    device: Device = _TRAIN.device
    resume: Resume = False
    set: Set = ()
    """Any other setting, for example ppo.epochs=5 (a field of policykd.agents.training.TrainConfig)."""

    def run(self, console: Console) -> None:
        """Train the experts and print the path of each.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.files.policy_file import load_policy
        from policykd.agents.training import train_expert
        from policykd.envs.observations import chosen_groups
        from policykd.envs.skill_records import read_skill
        from policykd.envs.skills import folder_names, skill_ids

        if not self.skills:
            raise ConfigError(f"name a skill to train, for example biped/flat (valid: {', '.join(skill_ids())})")
        groups = chosen_groups(self.groups)
        skills = [read_skill(name, groups or None) for name in self.skills]
        configs = [self._config(skill) for skill in skills]
        for skill, folder, config in zip(skills, folder_names(skills), configs, strict=True):
            # Loaded again for every expert, because training changes the policy that it starts from.
            init = load_policy(self.init) if self.init else None
            result = train_expert(
                [skill], self.out / folder, config, init=init, resume=self.resume, progress=Bars(console)
            )
            _print_trained(skill, result, config, console)

    def _config(self, skill: Skill) -> TrainConfig:
        """Return the configuration that the options ask for."""
        from policykd.envs.devices import is_card

        default = config_of_skill(skill)
        if self.algorithm == "ppo" and is_card(self.device):
            default = device_settings(default)
        config = replace(
            default,
            algorithm=self.algorithm,
            steps=default.steps if self.steps is None else self.steps,
            seed=self.seed,
            target_success=default.target_success if self.target_success is None else self.target_success,
            threads=self.threads,
            device=self.device,
            keep_init=self.init is not None,
        )
        architecture = config.architecture
        if config.algorithm_record.squash:
            architecture = replace(architecture, squash=True)
        if self.encoder:
            architecture = replace(architecture, encoders=(parse_encoder(self.encoder),))
        return with_overrides(replace(config, architecture=architecture), self.set)


def _print_trained(skill: Skill, result: TrainResult, config: TrainConfig, console: Console) -> None:
    """Print the path of an expert, and whether it reached its target."""
    say(
        console,
        f"{skill.id}: success {result.success:.2f}, reward {result.reward_per_step:.3f} per step, "
        f"{result.steps:,} steps, {result.seconds:.0f} s -> {result.policy_path}",
    )
    if not result.reached_target and config.target_success <= 1:
        console.print(f"  the budget was spent before validation success reached {config.target_success:g}")
    if result.failures:
        console.print(f"  {result.failures} simulations failed in MuJoCo and were reset")
