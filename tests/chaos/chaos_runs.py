"""The runs that are killed: commands of policykd with budgets of seconds, and what of their results must be equal."""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

EXPERT = Path(__file__).parents[1] / "data" / "flat-expert"
SMALL_PPO = ("ppo.envs=8", "ppo.rollout_steps=16", "ppo.minibatch=64", "ppo.epochs=2")
VOLATILE = (
    "content_sha256",
    "steps_per_second",
    "fps",
    "finished",
    "environment",
    "policy_path",
    "command",
)
"""Keys of JSON files, or ends of keys, that tell of the machine and not of the result, like all that count seconds.

The hash of a manifest covers its seconds, too; what else it covers is compared itself.
"""


@dataclass(frozen=True)
class Run:
    """A command.

    Attributes:
        words: its words after ``policykd``; RECIPE stands for the file of the tiny curriculum.
        out: the option of its folder.
    """

    words: tuple[str, ...]
    out: str = "--out"

    def command(self, out, *, resume, folder):
        """Return the whole command.

        Args:
            out: folder of the run.
            resume: go on with it.
            folder: place for the recipe.
        """
        words = [str(tiny_recipe(folder)) if word == "RECIPE" else word for word in self.words]
        end = ["--set", *words[words.index("--set") + 1 :]] if "--set" in words else []
        begin = words[: words.index("--set")] if end else words
        python = [sys.executable, "-m", "policykd.cli.main"]
        return [*python, *begin, self.out, str(out), *(["--resume"] if resume else []), *end]


RUNS = {
    "train": Run(
        ("train", "biped/flat", "--steps", "2048", "--threads", "1", "--set", "segment_steps=256", "finalists=1",
         "validation_episodes=2", "architecture.hidden=[16]", *SMALL_PPO)
    ),
    "merge": Run(
        ("merge", str(EXPERT), "--min-teacher-success", "0", "--threads", "1", "--hidden", "16", "--set", "rounds=6",
         "envs=4", "updates=30", "validation_episodes=2", "target_retention=2")
    ),
    "plaid": Run(("plaid", "--recipe", "RECIPE", "--threads", "1", "--no-video")),
    "finetune": Run(
        ("finetune", str(EXPERT), "--skills", "biped/flat", "--steps", "1024", "--threads", "1", "--set",
         "segment_steps=128", "finalists=1",
         "warm_up_steps=256", "validation_episodes=2", "final_episodes=2", *SMALL_PPO)
    ),
    "kd bench": Run(
        ("kd", "bench", "--task", "textures", "--task-option", "train=48", "val=24", "test=24", "side=8", "--methods",
         "ce,kd,at", "--seeds", "3", "--epochs", "2", "--workers", "2")
    ),
    "kd run": Run(
        ("kd", "run", "takd", "--seeds", "3", "--workers", "2", "--set", "teacher.epochs=2", "student.epochs=2")
    ),
}  # fmt: skip


def tiny_recipe(folder):
    """Return the file of a curriculum of two skills."""
    file = folder / "tiny.yaml"
    if not file.exists():
        from policykd.agents.architecture import Architecture
        from policykd.agents.training import PpoConfig, TrainConfig
        from policykd.curriculum import Injection, Measurement, Recipe, SkillPlan, save_recipe
        from policykd.merge import MergeConfig

        networks = Architecture(hidden=(16,), critic_hidden=(8,))
        small = PpoConfig(envs=8, rollout_steps=16, minibatch=128, epochs=1)
        recipe = Recipe(
            skills=(SkillPlan("biped/flat", steps=512), SkillPlan("biped/gaps", steps=512)),
            injection=Injection(blind=1),
            train=TrainConfig(
                segment_steps=128, validation_episodes=2, finalists=1, architecture=networks, ppo=small
            ),
            joint=small,
            merge=MergeConfig(
                rounds=3, envs=2, updates=10, minibatch=32, validation_episodes=2, start="newest",
                min_teacher_success=0.0, architecture=networks,
            ),
            measurement=Measurement(episodes=2),
        )  # fmt: skip
        save_recipe(recipe, file)
    return file


def fingerprint(out):
    """Return what must be equal: file name to hash of the weights or arrays, or to the content of its JSON.

    Logs, pages, pictures and tables follow from these; recorded states are compared by their own hashes.
    """
    found = {}
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        name = file.relative_to(out).as_posix()
        if file.suffix == ".safetensors":
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.suffix == ".json":
            found[name] = steady(json.loads(file.read_text()))
        elif file.suffix == ".jsonl":
            found[name] = [steady(json.loads(line)) for line in file.read_text().splitlines()]
    return found


def steady(content):
    """Return JSON without what tells of the machine."""
    if isinstance(content, dict):
        return {
            key: steady(value)
            for key, value in content.items()
            if "seconds" not in key.split("_") and not any(key == word or key.endswith(f"_{word}") for word in VOLATILE)
        }
    return [steady(value) for value in content] if isinstance(content, list) else content


def differences(whole, other):
    """Return names of files that differ, or are in one of them only."""
    return sorted(name for name in whole.keys() | other.keys() if whole.get(name) != other.get(name))


def leftovers(out):
    """Return temporary files that a finished run left behind."""
    return sorted(path.name for path in out.rglob("*") if {".tmp", ".part"} & set(path.suffixes))
