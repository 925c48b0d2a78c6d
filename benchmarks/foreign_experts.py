"""Public checkpoints of other libraries, imported: their actions against the library's own, and their returns.

    PYTHONPATH=examples python benchmarks/foreign_experts.py --samples FOLDER

The folder holds the files under the paths in ``SAMPLES``; docs/import.md says where they come from. Actions are
compared along one episode, in the environment's units, with those of stable-baselines3 and sb3-contrib, rl_games,
rsl_rl 2, ONNX Runtime, or torch running a TorchScript archive; a library that is missing is named instead.
Zips of 2021 name classes of ``gym``, which stable-baselines3 needs then, and shimmy.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import tyro
from scipy.special import log_softmax

from foreign_references import (
    Reference,
    run_onnx,
    run_rl_games,
    run_rsl_rl,
    run_stable_baselines3,
    run_torchscript,
)
from policykd.agents.acting import Acting
from policykd.agents.files.policy_file import load_policy
from policykd.agents.importing.importer import import_policy
from policykd.agents.importing.options import ImportOptions
from policykd.agents.policy import Policy
from policykd.agents.validation import Validation
from policykd.environment import environment
from policykd.envs.foreign.skill import GymSkill
from policykd.plain import as_plain
from policykd.seeding import integer_seed
from policykd.stats import bootstrap
from policykd.storage import prepare_file, write_json

_ZOO = "rl-baselines3-zoo, benchmark.md"

ZOO_ENVIRONMENTS = {
    **{name: name for name in ("Acrobot-v1", "BipedalWalker-v3", "BipedalWalkerHardcore-v3", "CartPole-v1",
                               "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")},
    **{f"{name}-v3": f"{name}-v4" for name in ("Ant", "HalfCheetah", "Hopper", "Humanoid", "Swimmer", "Walker2d")},
    "LunarLander-v2": "LunarLander-v3",
    "LunarLanderContinuous-v2": 'LunarLander-v3?{"continuous": true}',
}  # fmt: skip
"""Environments of rl-trained-agents that gymnasium still has, or whose newer version it has."""


@dataclass(frozen=True)
class Sample:
    """A public checkpoint.

    Attributes:
        file: path below the folder of samples.
        env: id of the environment; keyword arguments that name files are relative to the folder of samples.
        reference: what the imported actions are compared with.
        published: mean and standard deviation of the published returns; empty if none was published.
        source: where they were published.
        options: what the file does not say.
    """

    file: str
    env: str
    reference: Reference
    published: tuple[float, ...] = ()
    source: str = ""
    options: ImportOptions = ImportOptions()


def _zoo(file: str, env: str, *published: float) -> Sample:
    """Return a checkpoint of rl-baselines3-zoo, whose table says mean and standard deviation."""
    return Sample(f"sb3/{file}", env, run_stable_baselines3, published, _ZOO)


def _unitree(file: str, settings: str, model: str, reference: Reference = run_torchscript, **robot: Any) -> Sample:
    """Return a policy of a robot from its deployment files."""
    given = {"settings": f"unitree_rl_gym/{settings}", "model": f"unitree_rl_gym/{model}", **robot}
    return Sample(file, f"unitree_g1:UnitreeG1-v0?{json.dumps(given)}", reference, options=ImportOptions("elu"))


SAMPLES = (
    _zoo("ppo_BipedalWalker/BipedalWalker-v3.zip", "BipedalWalker-v3", 287.939, 2.448),
    _zoo("a2c_BipedalWalker/BipedalWalker-v3.zip", "BipedalWalker-v3", 299.754, 23.459),
    _zoo("ppo_BipedalWalkerHardcore/BipedalWalkerHardcore-v3.zip", "BipedalWalkerHardcore-v3", 122.374, 117.605),
    _zoo("sac_Walker2d/Walker2d-v3.zip", "Walker2d-v4", 3863.203, 254.347),
    _zoo("sac_Walker2d/Walker2d-v3.zip", "Walker2d-v5", 3863.203, 254.347),
    _zoo("ppo_HalfCheetah/HalfCheetah-v3.zip", "HalfCheetah-v5", 5819.099, 663.53),
    _zoo("ars_Hopper/Hopper-v3.zip", "Hopper-v5", 3343.919, 5.73),
    Sample("rl_games/cartpole_vel_info_ep_486_rew_402.37134.pth", "CartPole-v1", run_rl_games, (402.371,),
           "its file, mean of the last training episodes", ImportOptions(activation="relu")),
    Sample("rl_games/cartpole.onnx", "CartPole-v1", run_onnx),
    _unitree("torchscript/g1_motion.pt", "g1.yaml", "g1_12dof.xml"),
    _unitree("torchscript/h1_motion.pt", "h1.yaml", "h1/h1.xml", meshes=True),
    _unitree("torchscript/h1_2_motion.pt", "h1_2.yaml", "h1_2/h1_2_12dof.xml", meshes=True),
    _unitree("torchscript/go2_motion.pt", "go2.yaml", "go2.urdf", height=0.42),
    _unitree("torchscript/policy_lstm_1.pt", "g1.yaml", "g1_12dof.xml"),
    _unitree("rsl_rl/g1_lstm_model_4650.pt", "g1.yaml", "g1_12dof.xml", run_rsl_rl),
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    samples: Path
    """Folder of the checkpoints."""
    zoo: Path | None = None
    """Checkout of rl-trained-agents, all of whose checkpoints with an environment in gymnasium are measured, too."""
    episodes: int = 20
    """Episodes per checkpoint."""
    seed: int = 0
    """Seed of the episodes."""
    out: Path = Path("results/benchmarks/foreign-experts.json")
    """JSON file."""


def zoo_samples(zoo: Path, samples: Path) -> list[Sample]:
    """Return the checkpoints of rl-trained-agents, with the returns of the table that the folder of samples holds."""
    table = (samples / "sb3" / "rl-baselines3-zoo_benchmark.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in table.splitlines() if line.startswith("|")]
    published = {(algorithm, env): (float(mean), float(std)) for algorithm, env, mean, std in rows[2:]}
    found = []
    for path in sorted(zoo.glob("*/*_1/*.zip")):
        algorithm, name = path.parent.parent.name, path.stem
        if name in ZOO_ENVIRONMENTS and (algorithm, name) in published:
            file, env, options = str(path.relative_to(zoo)), ZOO_ENVIRONMENTS[name], ImportOptions()
            if name == "Ant-v3" and algorithm == "a2c":  # contact forces moved in its training
                env = 'Ant-v4?{"use_contact_forces": true}'
            elif name == "Ant-v3":
                options = ImportOptions(dead_inputs="drop")
            found.append(Sample(file, env, run_stable_baselines3, published[algorithm, name], _ZOO, options))
    return found


def measured(samples: Sequence[Sample], folder: Path, options: Options) -> list[dict[str, Any]]:
    """Return the rows of the samples that are in a folder, and print them."""
    rows = []
    for sample in samples:
        if not (folder / sample.file).exists():
            print(f"{sample.file}: not in {folder}; left out")
            continue
        rows.append(row := measure(sample, folder, options))
        difference = row["reason"] or f"{row['difference']:.1e} from the library"
        print(
            f"{row['file']}: {row['mean']['estimate']:.1f} on {row['environment'].partition('?')[0]}, {difference}",
            flush=True,
        )
    return rows


def measure(sample: Sample, folder: Path, options: Options) -> dict[str, Any]:
    """Import a checkpoint, compare its actions and run its episodes."""
    path = folder / sample.file
    env = sample.env.replace("unitree_rl_gym/", f"{folder.resolve()}/unitree_rl_gym/")
    with tempfile.TemporaryDirectory() as place:
        report = import_policy(
            path, Path(place) / "policy", env=env, options=sample.options, episodes=1, anyway=True, seed=options.seed
        )
        policy, manifest = load_policy(report.policy_path)
    skill = manifest.skill(manifest.skills[0])
    assert isinstance(skill, GymSkill)
    validation = Validation([skill], options.episodes, seed=integer_seed(options.seed, "foreign"), threads=1)
    own, random = validation.run(policy), validation.run_random()
    returns = own.total_reward.double().numpy()
    return {
        "file": sample.file, "source": report.source, "environment": sample.env,
        "returns": returns.tolist(), "mean": as_plain(bootstrap(returns)), "std": float(returns.std()),
        "random": float(random.total_reward.mean()), "published": list(sample.published),
        "published_by": sample.source, **_parity(sample, path, policy, env), "notes": list(report.notes),
    }  # fmt: skip


def _parity(sample: Sample, path: Path, policy: Policy, env: str) -> dict[str, Any]:
    """Return the largest difference from the library's actions along one episode, or why there is none.

    Discrete actions are compared by the logarithms of their probabilities, or by the share of other choices.
    """
    rows, actions, bounds = _episode(policy, env)
    try:
        expected = np.asarray(sample.reference(path, rows))
    except ImportError as error:
        return {"difference": None, "states": 0, "largest_action": None, "reason": str(error).partition(". ")[0]}
    if bounds is None and expected.shape != actions.shape:  # choices
        return {"difference": float((expected[:, 0] != actions.argmax(axis=1)).mean()), "states": len(rows),
                "largest_action": float(expected.max()), "reason": ""}  # fmt: skip
    if bounds is None:
        expected, actions = log_softmax(expected, axis=1), log_softmax(actions, axis=1)
    else:
        expected = np.clip(expected, *bounds)
    return {
        "difference": float(np.abs(expected - actions).max()), "states": len(rows),
        "largest_action": float(np.abs(expected).max()), "reason": "",
    }  # fmt: skip


def _episode(policy: Policy, text: str) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Return observations and actions of an episode, in the environment's units, and the bounds of the actions.

    Discrete actions are returned as logits and have no bounds.
    """
    name, _, given = text.partition("?")
    env = gymnasium.make(name, **(json.loads(given) if given else {}))
    acting, box = Acting(policy), env.action_space
    rows, actions, over = list[np.ndarray](), list[np.ndarray](), False
    observation, _ = env.reset(seed=0)
    while not over:
        with torch.no_grad():
            output = acting(torch.from_numpy(observation)[None].float())[0].double().numpy()
        if isinstance(box, gymnasium.spaces.Box):
            output = box.low + (np.clip(output, -1.0, 1.0) + 1.0) / 2.0 * (box.high.astype(float) - box.low)
        rows.append(observation)
        actions.append(output)
        action = output.astype(np.float32) if isinstance(box, gymnasium.spaces.Box) else int(output.argmax())
        observation, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    bounds = (box.low, box.high) if isinstance(box, gymnasium.spaces.Box) else None
    return np.stack(rows), np.stack(actions), bounds


def main(options: Options) -> None:
    """Measure all samples that are there, print and save."""
    prepare_file(options.out)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = measured(SAMPLES, options.samples, options)
    zoo = [] if options.zoo is None else measured(zoo_samples(options.zoo, options.samples), options.zoo, options)
    write_json(options.out, {
        "episodes": options.episodes, "seed": options.seed, "samples": rows, "zoo": zoo,
        "environment": environment(
            ("gymnasium", "mujoco", "torch", "stable-baselines3", "sb3-contrib", "rl-games", "onnxruntime")
        ),
    })  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options))
