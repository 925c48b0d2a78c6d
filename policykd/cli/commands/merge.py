"""``policykd merge``: merge experts, or the labeled states of earlier merges, into one student.

Options and printing only; the work is in ``policykd.merge``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro
from rich.console import Console

from policykd.agents.architecture import student_architecture
from policykd.cli.commands.import_ import say_report
from policykd.cli.options import Device, EncoderText, Resume, Set, Threads, parse_encoder, split_expert
from policykd.cli.output import Bars, say
from policykd.cli.overrides import from_options, with_overrides
from policykd.errors import ConfigError
from policykd.merge.config import MergeConfig
from policykd.merge.presets import on_preset

if TYPE_CHECKING:
    from policykd.agents.files.policy_file import LoadedPolicy

_MERGE = MergeConfig()


@dataclass(frozen=True)
class Merge:
    """Merge experts into one student."""

    data_parallel: ClassVar[bool] = True  # processes of torchrun share the work

    experts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Policy files, or folders of training runs; POLICY@SKILL,SKILL uses a policy on these of its skills only. Files
    of other libraries are imported into <out>/experts (policykd import has options for what they do not say)."""
    data: tuple[Path, ...] = ()
    """Labeled datasets, or folders of merges, to merge instead of experts; nothing is simulated or validated."""
    out: Path = Path("student")
    """Folder of the run; the student is <out>/policy."""
    preset: Literal["standard", "fast", "compress"] = "standard"
    """Settings to begin with. fast needs seconds: few states, as many gradient steps as they deserve, and an end as
    soon as a test on new tracks confirms the retention. compress adds skills to --init as Progress & Compress does.
    Options at the default of standard keep the preset's value; --set takes precedence over both."""
    architecture: Literal["mlp", "gru", "lstm", "moe", "latent"] = "mlp"
    """Networks of a new student: dense layers (mlp), a recurrent layer in front of them (gru, lstm), several networks
    and a gate (moe), or dense layers that read an estimate of what the student does not measure (latent)."""
    hidden: tuple[int, ...] | None = None
    """Widths of a new student's hidden layers; default 256 256 for mlp, 128 for gru and lstm, 128 128 for moe,
    256 128 for latent."""
    memory: int | None = None
    """Numbers of the hidden state of gru and lstm; default 96."""
    groups: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--student-groups"])] = ()
    """Observation groups of the student, apart from the experts': imu,joints,command leaves out what a robot does not
    measure, joints:5 reads the last 5, history:5 the last 5 of all others; default all groups of the experts."""
    encoder: EncoderText = None
    start: str | None = None
    """Initial student: random, newest (the last expert), a skill (its expert) or previous (--init); default random,
    or previous if --init is given."""
    init: Path | None = None
    """Policy that the student starts from."""
    old: tuple[Path, ...] = ()
    """Folders of merges, or labeled datasets, that protect the old skills of --init, which are not simulated."""
    protection: Annotated[Literal["none", "replay", "ewc"], tyro.conf.arg(aliases=["--protect"])] = "none"
    """How the old skills of --init are kept: by their stored labeled states (replay), by the importance of the
    weights (ewc, online elastic weight consolidation), or not at all."""
    replay_share: float = _MERGE.replay_share
    """Share of the stored states that is replayed, 0.01 for 1 percent."""
    rounds: int = _MERGE.rounds
    """Largest number of rounds of collecting and fitting."""
    beta: str = _MERGE.beta
    """Schedule of the share of actions that the expert takes: exponential:0.5, linear, constant:0, plaid_paper, ..."""
    mixing: Literal["episode", "step"] = _MERGE.mixing
    """Whether the acting policy, expert or student, is drawn per episode or per step."""
    loss: Literal["mse", "huber", "forward_kl", "reverse_kl", "jsd", "nll"] = "mse"
    """Loss between the student's and the expert's actions."""
    noise_model: Literal["gaussian", "dart", "none"] = _MERGE.noise_model
    """Noise on actions: independent (gaussian), with the covariance of the student's errors (dart), or none."""
    noise: float = _MERGE.noise
    """Standard deviation of the noise on actions, in units of the action (-1 to 1)."""
    aggregation: str = _MERGE.aggregation
    """Labeled states to fit: all, those of the last rounds (last:N), or only this round's (none)."""
    adaptive: float = _MERGE.adaptive
    """Share of simulations and minibatch that is assigned by the gap to the expert, 0 to 0.9."""
    critic: Literal["td", "teacher", "none"] | None = None
    """Target of the critic: the student's returns (td), the experts' values (teacher), or no training (none); default
    td, or teacher with --data."""
    min_teacher_success: float = _MERGE.min_teacher_success
    """Smallest validation success of an expert, otherwise the merge is refused; 0 accepts every expert."""
    task_id: bool = False
    """Tell the student which expert's task it has, by an observation group task_id (gymnasium environments)."""
    allow_conflicts: bool = False
    """Merge experts of gymnasium environments although they contradict each other in the same states."""
    seed: int = _MERGE.seed
    """Seed of student, collection and minibatches."""
    threads: Threads = None
    device: Device = _MERGE.device
    resume: Resume = False
    set: Set = ()
    """Any other setting, for example updates=1000 or support=6 (a field of policykd.merge.MergeConfig)."""

    def run(self, console: Console) -> None:
        """Merge and print retention.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.files.policy_file import load_policy

        if bool(self.experts) == bool(self.data):
            raise ConfigError("give either experts to merge, or --data with recorded labels, not both")
        config = self._config()
        init = load_policy(self.init) if self.init else None
        if self.data:
            _merge_data(self, config, init, console)
        else:
            _merge_experts(self, config, init, console)

    def _config(self) -> MergeConfig:
        """Return the configuration that the options ask for."""
        from policykd.envs.observations import chosen_groups
        from policykd.envs.skill_records import import_group

        architecture = student_architecture(self.architecture, self.hidden, self.memory)
        if self.encoder:
            architecture = replace(architecture, encoders=(parse_encoder(self.encoder),))
        if self.preset != "standard" and self.data:
            raise ConfigError(f"--preset {self.preset} runs the student in the simulator; leave it out with --data")
        if self.old and self.data:
            raise ConfigError("--old protects skills in a merge of experts; give all datasets to --data")
        config = from_options(
            MergeConfig,
            self,
            start=self.start or ("previous" if self.init else "random"),
            critic=self.critic or ("teacher" if self.data else "td"),
            architecture=architecture,
            groups=tuple(import_group(name) for name in chosen_groups(self.groups)),
        )
        return with_overrides(on_preset(self.preset, config), self.set)


def _merge_experts(command: Merge, config: MergeConfig, init: LoadedPolicy | None, console: Console) -> None:
    from policykd.merge import merge_experts, teachers_from
    from policykd.merge.conflicts import check_conflicts
    from policykd.runs import check_free

    if not command.resume:
        check_free(command.out)  # before files of other libraries are imported into it
    named = [split_expert(text) for text in command.experts]
    only = {str(path): skills for path, skills in named if skills is not None}
    loaded = [(str(path), _expert(path, command.out / "experts", i, console)) for i, (path, _) in enumerate(named, 1)]
    teachers = teachers_from(loaded, only, task_id=command.task_id)
    if not command.allow_conflicts and not (command.out / "config.json").exists():
        check_conflicts(teachers, config.seed)
    result = merge_experts(
        teachers, command.out, config, init=init, old=command.old, resume=command.resume, progress=Bars(console)
    )
    kept = ", ".join(f"{skill} {value:.3f}" for skill, value in result.retention.items())
    say(console, f"retention {kept} -> {result.policy_path}")
    for mark, states in result.states_to_retention.items():
        if states is not None:
            console.print(f"  every skill first kept {mark} after {states:,} labeled states")
    if result.phase_seconds:
        seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in result.phase_seconds.items())
        say(console, f"  {result.states:,} labeled states; {seconds}")
    _print_masked(result.masked, console)
    if not result.reached_target and config.target_retention <= 1.5:
        needed = "two validations in a row" if config.stop == "validations" else "a test on new tracks"
        console.print(f"  the rounds ended before {needed} kept {config.target_retention:g} of every skill")


def _expert(path: Path, imports: Path, number: int, console: Console) -> LoadedPolicy:
    """Return an expert; one of another library is imported, with a line on its trial."""
    from policykd.agents.files.policy_file import load_policy
    from policykd.agents.importing.direct import import_once, is_foreign
    from policykd.parallel import processes

    if not is_foreign(path):
        return load_policy(path)
    out = imports / f"{number}-{path.stem}"
    report = processes().from_first(lambda: import_once(path, out))
    if report is not None:
        say_report(console, report)
    return load_policy(out)


def _merge_data(command: Merge, config: MergeConfig, init: LoadedPolicy | None, console: Console) -> None:
    from policykd.merge import merge_data

    result = merge_data(command.data, command.out, config, init=init, resume=command.resume, progress=Bars(console))
    losses = ", ".join(f"{skill} {value:.4g}" for skill, value in result.held_out_loss.items())
    say(console, f"held-out {config.loss} {losses} -> {result.policy_path}")
    _print_masked(result.masked, console)
    console.print("  the student was not validated in the simulator; use `policykd evaluate`")


def _print_masked(masked: dict[str, float], console: Console) -> None:
    """Print the share of masked labels, if any were masked."""
    if any(masked.values()):
        shares = ", ".join(f"{skill} {value:.1%}" for skill, value in masked.items())
        say(console, f"  labels masked as outside the experts' support: {shares}")
