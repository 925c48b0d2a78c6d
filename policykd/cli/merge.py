"""``policykd merge``: experts, or the labeled states of earlier merges, become one student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from policykd.cli.encoder import EncoderText, parse_encoder
from policykd.errors import ConfigError
from policykd.merge.config import MergeConfig

if TYPE_CHECKING:
    from policykd.agents.files.policy_file import LoadedPolicy

_MERGE = MergeConfig()


@dataclass(frozen=True)
class Merge:
    """Merge experts into one student."""

    experts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Policy files, or folders of training runs; POLICY@SKILL,SKILL labels only these of the policy's skills."""
    data: tuple[Path, ...] = ()
    """Labeled datasets, or folders of merges, to merge in place of experts: no simulator, so loss is all they show."""
    out: Path = Path("student")
    """Folder of the run; the student is <out>/policy."""
    hidden: tuple[int, ...] = _MERGE.architecture.hidden
    """Widths of the student's hidden layers, where it starts at random."""
    encoder: EncoderText = None
    """Branch of a group of the student, likewise: terrain, or terrain:16x8,8x4,64."""
    start: str | None = None
    """Where the student starts: random, newest (the last expert), a skill (its expert), previous (--init); default
    random, or previous if --init is given."""
    init: Path | None = None
    """Policy that the student starts from."""
    rounds: int = _MERGE.rounds
    """Rounds of collecting and fitting, at most."""
    beta: str = _MERGE.beta
    """Schedule of the expert's share of the acting: exponential:0.5, linear, constant:0, plaid_paper, ..."""
    mixing: Literal["episode", "step"] = _MERGE.mixing
    """Whether who acts is drawn per episode or per step."""
    loss: Literal["mse", "huber", "forward_kl", "reverse_kl", "jsd", "nll"] = "mse"
    """How student and expert are compared."""
    noise_model: Literal["gaussian", "dart", "none"] = _MERGE.noise_model
    """Noise on executed actions: independent, of the shape of the student's errors, or none."""
    noise: float = _MERGE.noise
    """Standard deviation of that noise, units of the action (-1 to 1)."""
    aggregation: str = _MERGE.aggregation
    """Labeled states that are fitted: all, last:N rounds, or none but this round's."""
    adaptive: float = _MERGE.adaptive
    """Share of simulations and minibatch that follows the gap to the expert, 0 to 0.9."""
    critic: Literal["td", "teacher", "none"] | None = None
    """What the critic learns: returns of the student (td), the experts' values, or nothing; default td, teacher with
    --data."""
    min_teacher_success: float = _MERGE.min_teacher_success
    """Validation success below which an expert stops the merge; 0 accepts every expert."""
    seed: int = _MERGE.seed
    """Seed of student, collection and minibatches."""
    threads: int | None = None
    """Threads of the simulation; default one per usable core."""
    device: str = _MERGE.device
    """Where simulation, labels and networks are: cpu, cuda or auto."""
    resume: bool = False
    """Continue an interrupted merge."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE")] = ()
    """Any other setting, for example updates=1000 or support=6 (fields of policykd.merge.MergeConfig)."""


def run_merge(command: Merge, console: Console) -> None:
    """Merge and say what was kept.

    Raises:
        PolicykdError: for bad input.
    """
    from policykd.agents.files.policy_file import load_policy

    if bool(command.experts) == bool(command.data):
        raise ConfigError("give the experts to merge, or recorded --data, and not both")
    config = _config(command)
    init = load_policy(command.init) if command.init else None
    if command.data:
        _merge_data(command, config, init, console)
    else:
        _merge_experts(command, config, init, console)


def _config(command: Merge) -> MergeConfig:
    """The configuration that the command asks for."""
    from policykd.cli.overrides import with_overrides

    architecture = replace(_MERGE.architecture, hidden=command.hidden)
    if command.encoder:
        architecture = replace(architecture, encoders=(parse_encoder(command.encoder),))
    config = MergeConfig(
        rounds=command.rounds,
        beta=command.beta,
        mixing=command.mixing,
        noise_model=command.noise_model,
        noise=command.noise,
        start=command.start or ("previous" if command.init else "random"),
        loss=command.loss,
        aggregation=command.aggregation,
        adaptive=command.adaptive,
        critic=command.critic or ("teacher" if command.data else "td"),
        min_teacher_success=command.min_teacher_success,
        seed=command.seed,
        threads=command.threads,
        device=command.device,
        architecture=architecture,
    )
    return with_overrides(config, command.set)


def _merge_experts(command: Merge, config: MergeConfig, init: LoadedPolicy | None, console: Console) -> None:
    from policykd.agents.files.policy_file import load_policy
    from policykd.cli.progress import Bars
    from policykd.merge import merge_experts, teachers_from

    named = [_split(text) for text in command.experts]
    only = {str(path): skills for path, skills in named if skills is not None}
    teachers = teachers_from([(str(path), load_policy(path)) for path, _ in named], only)
    result = merge_experts(teachers, command.out, config, init=init, resume=command.resume, progress=Bars(console))
    kept = ", ".join(f"{skill} {value:.3f}" for skill, value in result.retention.items())
    console.print(f"retention {kept} -> {result.policy_path}", highlight=False, soft_wrap=True)
    for mark, states in result.states_to_retention.items():
        if states is not None:
            console.print(f"  every skill first kept {mark} after {states:,} labeled states")
    _print_masked(result.masked, console)
    if not result.reached_target and config.target_retention <= 1.5:
        console.print(f"  the rounds ended before every skill kept {config.target_retention:g}")


def _merge_data(command: Merge, config: MergeConfig, init: LoadedPolicy | None, console: Console) -> None:
    from policykd.cli.progress import Bars
    from policykd.merge import merge_data

    result = merge_data(command.data, command.out, config, init=init, resume=command.resume, progress=Bars(console))
    losses = ", ".join(f"{skill} {value:.4g}" for skill, value in result.held_out_loss.items())
    console.print(f"held-out {config.loss} {losses} -> {result.policy_path}", highlight=False, soft_wrap=True)
    _print_masked(result.masked, console)
    console.print("  nothing was validated in the simulator; `policykd evaluate` does")


def _print_masked(masked: dict[str, float], console: Console) -> None:
    """Say what share of the labels did not count, where there is one."""
    if any(masked.values()):
        shares = ", ".join(f"{skill} {value:.1%}" for skill, value in masked.items())
        console.print(f"  labels outside the experts' support: {shares}", highlight=False, soft_wrap=True)


def _split(text: str) -> tuple[Path, Sequence[str] | None]:
    """Path of a policy and the skills that it is to label; None for all."""
    path, at, skills = text.partition("@")
    if not at or Path(text).exists():
        return Path(text), None
    chosen = [skill.strip() for skill in skills.split(",") if skill.strip()]
    if not chosen:
        raise ConfigError(f"{text}: name the skills behind the @, for example {path}@biped/flat,biped/steps")
    return Path(path), chosen
