"""Every format that policykd reads from files of others: its sample, its reader, and how its hashes are made again."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fuzz_samples as samples

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        sample: returns its files, name to content.
        read: reads them from a folder, as policykd's commands do, and returns what they hold.
        seal: returns the files with their hashes made again, so that a mutation reaches the checks behind the hashes.
    """

    sample: Callable
    read: Callable
    seal: Callable | None = None


def _hashed(record):
    """Return a record with its own hash made again."""
    record.pop("content_sha256", None)
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return {**record, "content_sha256": hashlib.sha256(canonical.encode()).hexdigest()}


def seal_policy(files):
    """Make the hash of the weights and of the manifest again."""
    changed = dict(files)
    for name in files:
        folder, _, part = name.rpartition("manifest.json")
        if part or not name.endswith("manifest.json"):
            continue
        record = json.loads(files[name])
        record["weights_sha256"] = hashlib.sha256(files[f"{folder}weights.safetensors"]).hexdigest()
        changed[name] = json.dumps(_hashed(record)).encode()
    return changed


def seal_data(files):
    """Make the sizes and hashes of the shards and of the manifest again."""
    record = json.loads(files["data/manifest.json"])
    for shard in record["shards"]:
        content = files.get(f"data/{shard['file']}")
        if content is not None:
            shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {**files, "data/manifest.json": json.dumps(_hashed(record)).encode()}


def seal_samples(files):
    """Make the checksum of a prepared file again."""
    import io

    import numpy as np

    from policykd.kd.data.samples import _checksum

    with np.load(io.BytesIO(files["data.npz"]), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays.pop("sha256")
    kept = {name: value for name, value in arrays.items() if name != "format"}
    buffer = io.BytesIO()
    np.savez(buffer, sha256=np.array(_checksum(kept)), **arrays)
    return {"data.npz": buffer.getvalue()}


def read_policy(name):
    def read(folder):
        from policykd.agents.files.policy_file import load_policy

        loaded = load_policy(folder / name)
        return loaded.policy.state_dict(), loaded.manifest.to_json()

    return read


def read_data(folder):
    from policykd.merge.data.folder import LabeledData

    data = LabeledData.open(folder)
    return [data.load(shard).tensors() for shard in data.manifest.shards]


def read_recipe(folder):
    from policykd.curriculum import load_recipe
    from policykd.plain import as_plain

    return as_plain(load_recipe(folder / "recipe.yaml"))


def read_run(folder):
    from policykd.runs import RunFolder, read_log

    run = RunFolder(folder / "run", samples.CONFIG, resume=True)
    try:
        run.load_checkpoint()  # whose values may be infinite
        return run.result, run.log(), read_log(folder / "run" / "progress.jsonl")
    finally:
        run._lock.release()


def read_results(folder):
    from policykd.report.run_files import ResultsFolder

    results = ResultsFolder.read(folder)
    return [(run.steps, run.seconds, run.log) for run in results.runs], results.students, results.names


def read_evaluation(folder):
    from policykd.evaluation import Evaluation

    return Evaluation.load(folder / "evaluation.json").to_json()


def read_curriculum(folder):
    from policykd.curriculum import CurriculumResult

    return CurriculumResult.load(folder / "curriculum.json").to_json()


def read_comparison(folder):
    from policykd.curriculum.comparison import Comparison

    return Comparison.load(folder / "comparison.json")


def read_benchmark(folder):
    from policykd.kd.benchmark import BenchResult

    return BenchResult.load(folder).to_json()


def read_experiment(folder):
    from policykd.errors import OutputError
    from policykd.kd.experiments import Result
    from policykd.storage import read_json

    if not (folder / "kd-run.json").exists():
        raise OutputError("commands list the files that are there")
    return Result.from_json(read_json(folder / "kd-run.json")).to_json()


def read_npz(folder):
    from policykd.kd.data.arrays import read_npz as read

    return len(read(folder / "data.npz"))


def read_samples(folder):
    from policykd.kd.data.samples import read_samples as read

    return read(folder / "data.npz").arrays()


def read_cifar(folder):
    from policykd.kd.data.cifar_files import read_python

    return read_python(folder / "batch", records=2, key="labels")


def read_kd_checkpoint(folder):
    from policykd.kd.training.checkpoint import load

    load(folder / "state.safetensors")


def read_robot(folder):
    from policykd.envs.robots.description import read_robot as read
    from policykd.envs.robots.first_table import write_first_table
    from policykd.envs.robots.mjcf import build_model
    from policykd.errors import PolicykdError

    out = folder / "new.yaml"
    out.unlink(missing_ok=True)
    try:
        for model in (p for p in folder.iterdir() if p.suffix in (".xml", ".urdf")):
            write_first_table(model, out)
    except PolicykdError:
        pass
    robot = read(folder / "walker.yaml")
    model = build_model(robot, 1)
    return robot.stand_pose, model.body_mass, [(servo.stiffness, servo.torque) for servo in robot.servos]


def read_foreign(name, **options):
    def read(folder):
        from policykd.agents.importing.foreign_policy import policy_of
        from policykd.agents.importing.formats import read_foreign
        from policykd.agents.importing.options import ImportOptions

        return policy_of(read_foreign(folder / name, ImportOptions(**{"activation": "elu", **options}))).state_dict()

    return read


def read_minari(folder):
    import shutil

    from policykd.merge.data.minari import read_minari as read

    os.environ["MINARI_DATASETS_PATH"] = str(folder / "sets")
    shutil.rmtree(folder / "out", ignore_errors=True)
    data = read("lab/states-v0", folder / "out")
    return [data.load(shard).tensors() for shard in data.manifest.shards]


def _policy(name):
    return lambda: {f"policy/{part}": content for part, content in samples.stored(f"policies/{name}").items()}


FORMATS = {
    "policy": (
        Format(_policy("expert"), read_policy("policy"), seal_policy),
        Format(_policy("injected"), read_policy("policy"), seal_policy),  # with encoders
        Format(samples.policy_with_memory, read_policy("policy"), seal_policy),
        Format(samples.zipped_policy, read_policy("policy.zip")),
    ),
    "labeled data": (Format(samples.labeled_data, read_data, seal_data),),
    "recipe": (Format(lambda: samples.stored("recipe.yaml"), read_recipe),),
    "run folder": (Format(samples.run_folder, read_run),),
    "results folder": (Format(samples.results_folder, read_results, seal_policy),),
    "evaluation": (Format(lambda: samples.stored("evaluation.json"), read_evaluation),),
    "curriculum": (Format(lambda: samples.stored("curriculum.json"), read_curriculum),),
    "comparison": (Format(lambda: samples.stored("comparison.json"), read_comparison),),
    "KD benchmark": (Format(lambda: samples.stored("kd-bench.json", "result.json"), read_benchmark),),
    "KD experiment": (Format(lambda: samples.stored("kd-run.json"), read_experiment),),
    "KD checkpoint": (Format(samples.kd_checkpoint, read_kd_checkpoint),),
    "data, npz": (Format(samples.npz_data, read_npz),),
    "data, prepared": (Format(samples.prepared_data, read_samples, seal_samples),),
    "data, CIFAR pickle": (Format(samples.cifar_pickle, read_cifar),),
    "robot, MJCF": (Format(samples.robot_mjcf, read_robot),),
    "robot, URDF": (Format(samples.robot_urdf, read_robot),),
    "stable-baselines3": (
        Format(lambda: samples.sb3_zip("PPO"), read_foreign("Walker-v1.zip")),
        Format(lambda: samples.sb3_zip("SAC"), read_foreign("Walker-v1.zip")),
    ),
    "rsl_rl": (
        Format(samples.rsl_rl_new, read_foreign("model_1.pt")),
        Format(samples.rsl_rl_old, read_foreign("model_1.pt")),
    ),
    "torch before 1.6": (Format(samples.before_torch_1_6, read_foreign("model_1.pt")),),
    "rl_games": (Format(samples.rl_games, read_foreign("run.pth")),),
    "skrl": (Format(samples.skrl, read_foreign("agent_1.pt")),),
    "CleanRL": (Format(samples.cleanrl, read_foreign("ppo.pt", normalized=False)),),
    "TorchScript": (Format(samples.torchscript, read_foreign("policy.pt")),),
    "ONNX": (Format(samples.onnx_chain, read_foreign("policy.onnx")),),
    "Minari": (Format(samples.minari_folder, read_minari),),
}
"""Variants of every format; cases take them in turns."""

NEEDS = {
    "ONNX": "onnx",
    "Minari": "minari",
    "stable-baselines3": "stable_baselines3",
    "robot, MJCF": "mujoco",
    "robot, URDF": "mujoco",
}
"""Packages that a format's sample or reader needs."""
