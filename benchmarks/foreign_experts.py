"""Public checkpoints of other libraries, imported: their actions against the library's own, and their returns.

    PYTHONPATH=examples python benchmarks/foreign_experts.py --samples FOLDER

The folder holds the files under the paths in ``SAMPLES``; docs/import.md says where they come from. Actions are
compared along one episode, in the environment's units, with those of stable-baselines3 and sb3-contrib, rl_games,
rsl_rl 2, ONNX Runtime, or torch running a TorchScript archive; without the library there is no difference to print.
Zips of 2021 name classes of ``gym``, which stable-baselines3 needs then, and shimmy.
"""

from __future__ import annotations

import json
import pickle
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import tyro
from scipy.special import log_softmax

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

ANT_CONTACTS = 84
"""Forces that Ant-v3 observed, behind 27 other features; they were zero in mujoco-py."""

ZOO_ENVIRONMENTS = {
    **{name: name for name in ("Acrobot-v1", "BipedalWalker-v3", "BipedalWalkerHardcore-v3", "CartPole-v1",
                               "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")},
    **{f"{name}-v3": f"{name}-v4" for name in ("Ant", "HalfCheetah", "Hopper", "Humanoid", "Swimmer", "Walker2d")},
    "LunarLander-v2": "LunarLander-v3",
    "LunarLanderContinuous-v2": 'LunarLander-v3?{"continuous": true}',
}  # fmt: skip
"""Environments of rl-trained-agents that gymnasium still has, or whose newer version it has."""

Reference = Callable[[Path, np.ndarray], np.ndarray]
"""From a file and the observations of an episode (T, features) to the actions of the library: (T, actions)."""


def _stable_baselines3(path: Path, rows: np.ndarray) -> np.ndarray:
    """Return what ``predict`` says, after the library's own normalizer; of discrete actions, the choices (T, 1)."""
    names = (
        path.parent.name.partition("_")[0].upper(),
        path.parent.parent.name.upper(),
    )  # ppo_Walker/, ppo/Walker-v3_1/
    if set(names) & {"ARS", "TQC", "TRPO", "QRDQN"}:
        import sb3_contrib as library
    else:
        import stable_baselines3 as library
    kind = next(getattr(library, name) for name in names if hasattr(library, name))
    nothing = dict.fromkeys(("lr_schedule", "clip_range", "exploration_schedule"), lambda _: 0.0)
    model = kind.load(path, device="cpu", custom_objects={"learning_rate": 0.0, **nothing})
    read = model.observation_space.shape[0]
    if read - rows.shape[1] in (1, 1 + ANT_CONTACTS):  # TimeFeatureWrapper
        rows = np.column_stack([rows, 1.0 - np.arange(len(rows)) / 1000])
    for statistics in (path.with_name("vecnormalize.pkl"), path.with_suffix("") / "vecnormalize.pkl"):
        if statistics.exists():
            normalizer = pickle.loads(statistics.read_bytes())
            rows = _filled(rows, np.asarray(normalizer.obs_rms.mean))
            rows = normalizer.normalize_obs(rows)
    chosen = model.predict(rows.astype(np.float32), deterministic=True)[0]
    return chosen.reshape(len(rows), -1)


def _filled(rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return observations with means in the place of Ant's contacts, in front of the time that a wrapper may add."""
    missing = len(means) - rows.shape[1]
    at = rows.shape[1] - (len(means) - ANT_CONTACTS - 27 if missing else 0)
    filler = np.tile(means[at : at + missing], (len(rows), 1))
    return np.concatenate([rows[:, :at], filler, rows[:, at:]], axis=1)


def _rl_games(path: Path, rows: np.ndarray) -> np.ndarray:
    """Return the logits of a model that the library builds."""
    from rl_games.algos_torch.model_builder import ModelBuilder

    mlp = {"units": [32, 32], "activation": "relu", "initializer": {"name": "default"}}
    network = {"name": "actor_critic", "separate": True, "space": {"discrete": {}}, "mlp": mlp}
    model = ModelBuilder().load({"model": {"name": "discrete_a2c"}, "network": network}).build(
        {"actions_num": 2, "input_shape": (rows.shape[1],), "num_seqs": 1, "value_size": 1, "normalize_value": False,
         "normalize_input": True}
    )  # fmt: skip
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=False)["model"])
    given = {"is_train": False, "obs": torch.from_numpy(rows).float(), "prev_actions": None}
    with torch.no_grad():
        return model.eval()(given)["logits"].numpy()


def _rsl_rl(path: Path, rows: np.ndarray) -> np.ndarray:
    """Return the actions of the recurrent actor that rsl_rl 2 builds, one observation after the other."""
    from rsl_rl.modules import ActorCriticRecurrent

    weights = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
    inputs = {name: weights[f"memory_{name}.rnn.weight_ih_l0"].shape[1] for name in "ac"}
    module = ActorCriticRecurrent(
        inputs["a"], inputs["c"], len(weights["std"]), actor_hidden_dims=[32], critic_hidden_dims=[32],
        rnn_type="lstm", rnn_hidden_dim=weights["memory_a.rnn.weight_hh_l0"].shape[1], rnn_num_layers=1,
    )  # fmt: skip
    module.load_state_dict(weights)
    with torch.no_grad():
        return np.concatenate([module.act_inference(torch.from_numpy(row)[None].float()).numpy() for row in rows])


def run_onnx(path: Path, rows: np.ndarray) -> np.ndarray:
    """Return the first output of ONNX Runtime, one observation at a time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: row[None].astype(np.float32)})[0] for row in rows])


def run_torchscript(path: Path, rows: np.ndarray) -> np.ndarray:
    """Return what the archive says when torch runs its code, one observation after the other."""
    module = torch.jit.load(str(path), map_location="cpu")
    if hasattr(module, "reset_memory"):
        module.reset_memory()
    with torch.no_grad():
        return np.concatenate([module(torch.from_numpy(row)[None].float()).numpy() for row in rows])


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
    return Sample(f"sb3/{file}", env, _stable_baselines3, published, _ZOO)


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
    Sample("rl_games/cartpole_vel_info_ep_486_rew_402.37134.pth", "CartPole-v1", _rl_games, (402.371,),
           "its file, mean of the last training episodes", ImportOptions(activation="relu")),
    Sample("rl_games/cartpole.onnx", "CartPole-v1", run_onnx),
    _unitree("torchscript/g1_motion.pt", "g1.yaml", "g1_12dof.xml"),
    _unitree("torchscript/h1_motion.pt", "h1.yaml", "h1/h1.xml", meshes=True),
    _unitree("torchscript/h1_2_motion.pt", "h1_2.yaml", "h1_2/h1_2_12dof.xml", meshes=True),
    _unitree("torchscript/go2_motion.pt", "go2.yaml", "go2.urdf", height=0.42),
    _unitree("torchscript/policy_lstm_1.pt", "g1.yaml", "g1_12dof.xml"),
    _unitree("rsl_rl/g1_lstm_model_4650.pt", "g1.yaml", "g1_12dof.xml", _rsl_rl),
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
            found.append(Sample(file, env, _stable_baselines3, published[algorithm, name], _ZOO, options))
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
