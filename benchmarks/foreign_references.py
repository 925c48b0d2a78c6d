"""What other libraries say: the actions of their own code for a checkpoint and observations.

Each needs its library; the ones that read pickles or run archives trust the file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ANT_CONTACTS = 84
"""Forces that Ant-v3 observed, behind 27 other features; they were zero in mujoco-py."""

Reference = Callable[[Path, np.ndarray], np.ndarray]
"""From a file and the observations of an episode (T, features) to the actions of the library: (T, actions)."""


def run_stable_baselines3(path: Path, rows: np.ndarray) -> np.ndarray:
    """Return what ``predict`` says, after the library's own normalizer; of discrete actions, the choices (T, 1)."""
    # The algorithm is in the folder's name (ppo_Walker), or in that of the folder above it (ppo/Walker-v3_1).
    names = (path.parent.name.partition("_")[0].upper(), path.parent.parent.name.upper())
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


def run_rl_games(path: Path, rows: np.ndarray) -> np.ndarray:
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


def run_rsl_rl(path: Path, rows: np.ndarray) -> np.ndarray:
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
