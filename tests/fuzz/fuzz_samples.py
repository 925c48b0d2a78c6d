"""One small valid sample of every format, as bytes by file name; nothing outside the repository is needed."""

import io
import pickle
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

STORED = Path(__file__).parents[1] / "data" / "v0_1_0"
INPUTS, ACTIONS = 5, 2


def folder_bytes(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def written(write):
    """Return the files that a function writes into a folder."""
    place = Path(tempfile.mkdtemp())
    try:
        write(place)
        return folder_bytes(place)
    finally:
        shutil.rmtree(place)


def stored(name, file=None):
    path = STORED / name
    return folder_bytes(path) if path.is_dir() else {file or name: path.read_bytes()}


def saved(tree, **options):
    buffer = io.BytesIO()
    torch.save(tree, buffer, **options)
    return buffer.getvalue()


def dense(*sizes):
    torch.manual_seed(0)
    layers = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ELU()]
    return nn.Sequential(*layers[:-1])


def prefixed(prefix, module):
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


def policy_with_memory():
    """A policy of the newest format: a gymnasium environment and a memory."""
    from policykd.agents.architecture import Architecture, Memory
    from policykd.agents.files.policy_file import save_policy
    from policykd.agents.recurrent_policy import make_policy
    from policykd.envs.foreign.skill import gym_skill
    from policykd.envs.skill_records import records_of

    def write(folder):
        skill = gym_skill("gym:Pendulum-v1")
        shape = Architecture((4,), (4,), memory=Memory("gru", 3))
        policy = make_policy(skill.group_sizes, skill.robot.num_actions, shape, 0).eval()
        save_policy(
            folder / "policy", policy, robot=skill.robot, skills=[skill.id], skill_records=records_of([skill]),
            operation="import", seed=0,
        )  # fmt: skip

    return written(write)


def zipped_policy():
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in stored("policies/expert").items():
            archive.writestr(name, content)
    return {"policy.zip": buffer.getvalue()}


def labeled_data():
    return {f"data/{name}": content for name, content in stored("dataset").items()}


def results_folder():
    """A results folder as its page reads it: an evaluation, and runs with their configuration, log and result."""
    files = {"evaluation.json": stored("evaluation.json")["evaluation.json"], "demo.json": b'{"seconds": 3.0}'}
    rows = b'{"steps": 10, "reward_per_step": 0.5}\n{"steps": 20, "reward_per_step": 0.75}\n'
    for name in ("expert", "student"):
        files |= {f"{name}/policy/{part}": content for part, content in stored(f"policies/{name}").items()}
        files[f"{name}/progress.jsonl"] = rows
        files[f"{name}/config.json"] = b'{"seed": 0, "ppo": {"gamma": 0.98}}'
        files[f"{name}/result.json"] = b'{"steps": 20, "seconds": 1.5}'
    return files


CONFIG = {"seed": 0, "steps": [1, 2]}


def run_folder():
    """A run that was interrupted: configuration, log and checkpoint."""
    from policykd.runs import RunFolder

    def write(folder):
        run = RunFolder(folder / "run", CONFIG, resume=False)
        run.append({"steps": 1, "reward": 0.5})
        run.save_checkpoint({"weights": torch.arange(6.0), "round": 1, "seconds": 2.0})
        run._lock.release()

    return {name: content for name, content in written(write).items() if "lock" not in name}


def npz_data():
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    np.savez(buffer, x=rng.random((6, 3)).astype(np.float32), y=np.arange(6) % 2)
    return {"data.npz": buffer.getvalue()}


def prepared_data():
    from policykd.kd.data.samples import Samples, write_samples

    rng = np.random.default_rng(0)
    samples = Samples(rng.random((6, 3)).astype(np.float32), np.arange(6) % 2, ("a", "b"), about="numbers", rate=2.0)
    return written(lambda folder: write_samples(folder / "data.npz", samples))


def cifar_pickle():
    data = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)
    return {"batch": pickle.dumps({b"data": data, b"labels": [0, 1]}, protocol=2)}


def kd_checkpoint():
    from policykd.kd.training.checkpoint import save

    tree = {"student": {"weight": torch.arange(4.0)}, "step": 3, "history": [1.5, None, (True, "x")]}
    return written(lambda folder: save(folder / "state.safetensors", tree))


ROBOT = """
name: walker
model: walker.xml
feet: ".*_shin/.*"
stiffness: 40
damping: {.*: 1}
effort: {.*_hip: 20, .*_knee: 9}
stand: {.*_hip: 0.3, .*_knee: -0.6}
"""
_INERTIAL = '<inertial pos="0 0 0" mass="{}" diaginertia="0.02 0.02 0.02"/>'


def _leg(name, x, y):
    part = _INERTIAL.format(0.5)
    return f"""<body name="{name}_thigh" pos="{x} {y} 0">{part}<joint name="{name}_hip" axis="0 1 0" range="-1 1"/>
    <geom name="{name}_thigh" type="capsule" size="0.02" fromto="0 0 0 0 0 -0.1"/>
    <body name="{name}_shin" pos="0 0 -0.15">{part}<joint name="{name}_knee" axis="0 1 0" range="-2 0.5"/>
    <geom type="sphere" size="0.03" pos="0 0 -0.15"/></body></body>"""


def robot_mjcf():
    legs = "".join(_leg(f"{a}{b}", x, y) for a, x in (("F", 0.2), ("R", -0.2)) for b, y in (("L", 0.1), ("R", -0.1)))
    text = f"""<mujoco><compiler angle="radian"/><worldbody><body name="trunk" pos="0 0 0.5">{_INERTIAL.format(4)}
    <freejoint name="floating"/><geom type="box" size="0.2 0.1 0.05"/>{legs}</body></worldbody></mujoco>"""
    return {"walker.yaml": ROBOT.encode(), "walker.xml": text.encode()}


def robot_urdf():
    def link(name, mass, shape):
        inertia = '<inertia ixx="0.02" iyy="0.02" izz="0.02" ixy="0" ixz="0" iyz="0"/>'
        body = f'<inertial><mass value="{mass}"/>{inertia}</inertial>'
        return f'<link name="{name}">{body}<collision><geometry>{shape}</geometry></collision></link>'

    parts = [link("trunk", 4, '<box size="0.4 0.2 0.1"/>')]
    for name, x, y in (("FL", 0.2, 0.1), ("FR", 0.2, -0.1), ("RL", -0.2, 0.1), ("RR", -0.2, -0.1)):
        parts += [
            link(f"{name}_thigh", 0.5, '<sphere radius="0.02"/>'),
            link(f"{name}_shin", 0.5, '<sphere radius="0.03"/>'),
        ]
        for joint, parent, child, at in (
            ("hip", "trunk", f"{name}_thigh", f"{x} {y} 0"), ("knee", f"{name}_thigh", f"{name}_shin", "0 0 -0.3"),
        ):  # fmt: skip
            parts.append(
                f'<joint name="{name}_{joint}" type="revolute"><parent link="{parent}"/><child link="{child}"/>'
                f'<origin xyz="{at}"/><axis xyz="0 1 0"/><limit lower="-1" upper="1" effort="9" velocity="9"/></joint>'
            )
    text = f'<robot name="walker">{"".join(parts)}</robot>'
    return {"walker.yaml": ROBOT.replace("walker.xml", "walker.urdf").encode(), "walker.urdf": text.encode()}


class _Still(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (INPUTS,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(INPUTS), {}

    def step(self, action):
        return np.zeros(INPUTS), 0.0, False, False, {}


def sb3_zip(algorithm="PPO"):
    """A zip of stable-baselines3 with statistics and the configuration of RL Zoo next to it."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    def write(folder):
        env = VecNormalize(DummyVecEnv([_Still]))
        kwargs = {"policy_kwargs": {"net_arch": [4]}, "device": "cpu", "seed": 0}
        getattr(sb3, algorithm)("MlpPolicy", env, **kwargs).save(folder / "Walker-v1.zip")
        env.save(folder / "vecnormalize.pkl")
        (folder / "config.yml").write_text(
            "!!python/object/apply:collections.OrderedDict\n- - - n_envs\n    - 4\n  - - normalize\n    - true\n"
        )

    return written(write)


def _statistics():
    ones = torch.ones(1, INPUTS)
    return {"_mean": 0 * ones, "_var": ones, "_std": ones, "count": torch.tensor(10)}


def rsl_rl_new():
    weights = prefixed("mlp.", dense(INPUTS, 4, ACTIONS))
    weights |= {f"obs_normalizer.{name}": value for name, value in _statistics().items()}
    weights["distribution.std_param"] = torch.ones(ACTIONS)
    critic = prefixed("mlp.", dense(INPUTS, 4, 1))
    return {"model_1.pt": saved({"actor_state_dict": weights, "critic_state_dict": critic, "iter": 1, "infos": None})}


def rsl_rl_old():
    """Version 2, with an LSTM."""
    memory = prefixed("memory_a.rnn.", nn.LSTM(INPUTS, 3))
    weights = prefixed("actor.", dense(3, 4, ACTIONS)) | memory | {"std": torch.ones(ACTIONS)}
    return {"model_1.pt": saved({"model_state_dict": weights, "obs_norm_state_dict": _statistics(), "iter": 1})}


def before_torch_1_6():
    weights = prefixed("actor.", dense(INPUTS, 4, ACTIONS)) | {"std": torch.ones(ACTIONS)}
    tree = {"model_state_dict": weights, "obs_norm_state_dict": _statistics(), "iter": 1}
    return {"model_1.pt": saved(tree, _use_new_zipfile_serialization=False)}


def rl_games():
    body, mu = nn.Sequential(*dense(INPUTS, 4), nn.ELU()), nn.Linear(4, ACTIONS)
    model = prefixed("a2c_network.actor_mlp.", body) | prefixed("a2c_network.mu.", mu)
    model |= prefixed("a2c_network.value.", nn.Linear(4, 1))
    model |= {"a2c_network.sigma": torch.zeros(ACTIONS), "running_mean_std.running_mean": torch.zeros(INPUTS).double()}
    model |= {"running_mean_std.running_var": torch.ones(INPUTS).double(), "running_mean_std.count": torch.tensor(5.0)}
    return {"run.pth": saved({"model": model, "epoch": 3, "last_mean_rewards": np.float32(4.5)})}


def skrl():
    body, output = nn.Sequential(*dense(INPUTS, 4), nn.ELU()), nn.Linear(4, ACTIONS)
    policy = prefixed("net_container.", body) | prefixed("policy_layer.", output)
    policy["log_std_parameter"] = torch.zeros(ACTIONS)
    scaler = {
        "running_mean": torch.zeros(INPUTS),
        "running_variance": torch.ones(INPUTS),
        "current_count": torch.tensor(9.0),
    }
    return {"agent_1.pt": saved({"policy": policy, "value": {}, "state_preprocessor": scaler})}


def cleanrl():
    weights = prefixed("actor_mean.", nn.Sequential(nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, ACTIONS)))
    return {"ppo.pt": saved(weights | {"actor_logstd": torch.zeros(1, ACTIONS)})}


def torchscript():
    from recurrent_samples import random_module

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(random_module(nn.LSTM, INPUTS, ACTIONS, hidden=3)), buffer)
    return {"policy.pt": buffer.getvalue()}


def onnx_chain():
    from policykd.agents.architecture import Architecture
    from policykd.agents.export.onnx_writer import onnx_bytes
    from policykd.agents.export.program import policy_program
    from policykd.agents.files.manifest import describe_actions
    from policykd.agents.policy import Policy
    from policykd.envs.robots import get_robot

    actions = describe_actions(get_robot("quadruped"))
    policy = Policy({"observation": INPUTS}, 12, Architecture((4,), (4,)), generator_seed=0).eval()
    policy.update_normalizer(torch.randn(50, INPUTS))
    return {"policy.onnx": onnx_bytes(policy_program(policy, actions), {})}


def minari_folder():
    """A Minari dataset of labeled states, as :func:`policykd.merge.data.minari.write_minari` writes it."""
    import os

    from policykd.envs.foreign.skill import gym_skill
    from policykd.merge import function_teacher
    from policykd.merge.data.folder import LabeledData
    from policykd.merge.data.manifest import describe_data
    from policykd.merge.data.minari import write_minari
    from policykd.merge.data.rollout import LabeledRollout

    def write(folder):
        teacher = function_teacher("brake", lambda rows: -rows[:, 2:3], gym_skill("gym:Pendulum-v1"))
        data = LabeledData(folder / "labels", describe_data([teacher], {"observation": 3}))
        draw, (steps, n) = torch.Generator().manual_seed(0), (3, 2)
        rollout = LabeledRollout(
            torch.randn(6, 3, generator=draw), torch.rand(6, 1, generator=draw) - 0.5,
            torch.rand(steps, n, generator=draw),
            *(torch.zeros(steps, n, dtype=torch.bool) for _ in range(3)), torch.tensor([4, 5]),
            torch.randn(2, 3, generator=draw), torch.zeros(6), torch.zeros(6),
        )  # fmt: skip
        data.store(0, teacher.skill.id, rollout, 1.0)
        data.commit()
        before = os.environ.get("MINARI_DATASETS_PATH")
        os.environ["MINARI_DATASETS_PATH"] = str(folder / "sets")
        try:
            write_minari(data, "lab/states-v0")
        finally:
            os.environ.pop("MINARI_DATASETS_PATH")
            if before is not None:
                os.environ["MINARI_DATASETS_PATH"] = before
        shutil.rmtree(folder / "labels")

    return written(write)
