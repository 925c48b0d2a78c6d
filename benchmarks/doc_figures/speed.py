"""Figures of speed: docs/figures.md, docs/robots.md, docs/gpu.md, docs/merging.md, docs/scale.md."""

from __future__ import annotations

import statistics
from typing import Any

from doc_figures.formats import interval, short
from doc_figures.registry import Rows, phrases, table

_GYM = ("hopper", "walker2d", "halfcheetah", "ant", "humanoid-v5")


@table("figures.md", "simulation.json")
def throughput(content: dict[str, Any]) -> Rows:
    """Return steps per second of the environment, of the bare batch, and ratios."""
    speed, ratios = content["steps_per_second"], content["ratios"]
    return [
        (
            str(count),
            f"{speed[f'policykd VectorEnv, {count}']['median']:,.0f}",
            f"{speed[f'bare Batch.step, {count}']['median']:,.0f}",
            interval(ratios[f"VectorEnv / bare Batch, {count}"]),
            interval(ratios[f"VectorEnv / best plain, {count}"]),
        )
        for count in (16, 64, 256, 1024)
    ]


@phrases("figures.md", "simulation.json", "simulation-quadruped.json")
def vectorizations(content: dict[str, Any], quadruped: dict[str, Any]) -> list[str]:
    """Return the plain vectorizations, and the quadruped on flat ground."""

    def best(kind: str) -> str:
        speeds = (value["median"] for name, value in content["steps_per_second"].items() if name.startswith(kind))
        return f"{max(speeds):,.0f}"

    def of(table_name: str, name: str) -> str:
        return f"{quadruped[table_name][name]['median']:,.0f}"

    ratios = [interval(quadruped["ratios"][f"VectorEnv / bare Batch, {count}"]) for count in (256, 1024)]
    fast = [of("steps_per_second", f"policykd VectorEnv, {count}") for count in (256, 1024)]
    core = [of("steps_per_core_second", f"policykd VectorEnv, {count}") for count in (256, 1024)]
    return [
        f"`SyncVectorEnv` with {best('gymnasium SyncVectorEnv')} steps per second (2 environments), before SB3's "
        f"`DummyVecEnv` ({best('SB3 DummyVecEnv')}), `SubprocVecEnv` ({best('SB3 SubprocVecEnv')}) and "
        f"gymnasium's `AsyncVectorEnv` ({best('gymnasium AsyncVectorEnv')})",
        f"{fast[0]} environment steps per second with 256 simulations, {ratios[0]} of the bare batch, and "
        f"{fast[1]} with 1,024, {ratios[1]}; {core[0]} and {core[1]} per second of processor time",
    ]


def _repeats(values: list[float], digits: int = 0) -> str:
    return interval((statistics.median(values), min(values), max(values)), digits)


@table("figures.md", "training.json")
def ppo(content: dict[str, Any]) -> Rows:
    """Return steps per second of PPO's arms; the ratio is to the fastest plain arm."""
    speed = content["steps_per_second"]
    arms = ("policykd Sb3VecEnv, 256", "SB3 DummyVecEnv, 16", "SB3 DummyVecEnv, 64", "SB3 SubprocVecEnv, 16")
    best = max(arms[1:], key=lambda arm: statistics.median(speed[arm]))
    return [(None, _repeats(speed[arm]), _repeats(content["ratio"], 2) if arm == best else "") for arm in arms]


@phrases("figures.md", "training.json")
def ppo_shares(content: dict[str, Any]) -> list[str]:
    """Return where the time goes."""
    share = {name.partition(" (")[0]: f"{value:.0%}".replace("%", " %") for name, value in content["shares"].items()}
    return [
        f"spent in the PPO update ({share['PPO update']}), physics ({share['physics']}), "
        f"policy inference ({share['policy inference']}), "
        f"observation, reward and reset ({share['observation, reward, reset']}) and the rest ({share['rest']})",
        f"would be {content['bound']:.2f} times as fast as the best plain arm",
    ]


@phrases("figures.md", "kd/step.json")
def kd_step(content: dict[str, Any]) -> list[str]:
    """Return the overhead of a distillation step."""
    objective, tokens, cached = (interval(content[arm]["processor"], 3) for arm in ("objective", "tokens", "cached"))
    settings = content["settings"]
    return [
        f"`OMP_NUM_THREADS={content['threads']} python benchmarks/kd_step.py --pairs {settings['pairs']}`, "
        f"batch {settings['batch']}",
        f"against the same step written by hand: {objective}",
        f"against the same by hand: {tokens}",
        f"against cross-entropy alone: {cached}",
    ]


@table("robots.md", *(f"simulation-{name}.json" for name in _GYM))
def gym_robots(*contents: dict[str, Any]) -> Rows:
    """Return environment steps per second of processor time with 256 simulations, EnvPool's with 64 or 256."""
    arms = (("policykd VectorEnv, 256",), ("bare Batch.step, 256",), ("EnvPool, 64", "EnvPool, 256"),
            ("gymnasium SyncVectorEnv, 8",), ("gymnasium AsyncVectorEnv, 8",))  # fmt: skip
    return [
        (
            f"`{name}`",
            *(f"{max(content['steps_per_core_second'][arm]['median'] for arm in same):,.0f}" for same in arms),
        )
        for name, content in zip(_GYM, contents, strict=True)
    ]


def _thousands(row: dict[str, float]) -> str:
    return f"{row['median'] / 1000:.1f}"


@table("robots.md", "maps.json")
def maps(content: dict[str, Any]) -> Rows:
    """Return thousands of whole steps per second."""
    found = content["environment"]
    tracks = {"flat, line", "flat, area", "stairs, line", "stairs, area"}
    rest = sorted(row["median"] for name, row in found.items() if name not in tracks)
    return [
        *(
            (None, f"{_thousands(found[f'{name}, line'])}; {_thousands(found[f'{name}, area'])}")
            for name in ("flat", "stairs")
        ),
        (None, f"{rest[0] / 1000:.1f} to {rest[-1] / 1000:.1f}"),
    ]


@table("robots.md", "maps-physics.json")
def maps_physics(content: dict[str, Any]) -> Rows:
    """Return thousands of steps of the physics per second."""
    found = content["physics"]
    boxes = ", ".join(_thousands(found[f"{count} boxes"]) for count in (1, 9, 25, 36, 64))
    fields = "; ".join(_thousands(found[f"height field, cells of {size} m"]) for size in ("0.1", "0.05"))
    return [(None, boxes), (None, fields)]


@table("gpu.md", "gpu/dispatches.json")
def dispatches(content: dict[str, Any]) -> Rows:
    """Return operations that the host launches."""
    rows = []
    for skill, found in content["skills"].items():
        step, iteration = found["collected step"], found["iteration"]
        counts = iteration["recorded"]
        recorded = f"{counts['operations']} + {counts['replays']} + {content['rollout_steps']}"
        physics = 1  # its graph
        launches = round(step["recorded"]["operations"] + step["recorded"]["replays"]) + physics
        rows.append(
            (
                skill,
                f"{found['environment step']['plain']['operations']:,.0f}",
                f"{step['plain']['operations']:,.0f}",
                f"{iteration['plain']['operations']:,.0f}",
                str(launches),
                recorded,
            )
        )
    return rows


@table("gpu.md", "gpu/prediction.json")
def gpu_prediction(content: dict[str, Any]) -> Rows:
    """Return predicted times of an iteration."""
    return [
        (skill, f"{found['called_ms']:.0f} ms", f"{found['recorded_ms']:.0f} ms",
         f"{round(found['recorded_per_second'], -3 if found['recorded_per_second'] < 250_000 else -4):,.0f}")
        for skill, found in content["iterations"].items()
    ]  # fmt: skip


@table("gpu.md", *(f"gpu/proxy{name}.json" for name in ("", "-divergence", "-step-size")), "gpu/prediction.json")
def gpu_proxy(
    shipped: dict[str, Any], divergence: dict[str, Any], step_size: dict[str, Any], prediction: dict[str, Any]
) -> Rows:
    """Return steps to the target per seed, and the device's predicted time for their mean."""
    by_learner = {kind: [run for run in shipped["runs"] if run["learner"] == kind] for kind in ("cpu", "device")}
    iteration = prediction["iterations"]["biped/flat"]["recorded_ms"] / 1000
    rows = []
    for runs in (by_learner["cpu"], by_learner["device"], divergence["runs"], step_size["runs"]):
        found = [run["steps_to_target"] for run in runs]
        mean, settings = sum(found) / len(found), runs[0]["settings"]
        seconds = mean / (settings["envs"] * settings["rollout_steps"]) * iteration
        rows.append(
            (
                None,
                "; ".join(f"{steps:,}" for steps in found),
                f"{mean:,.0f}",
                "" if runs is by_learner["cpu"] else f"{seconds:.1f} s",
            )
        )
    return rows


@phrases("gpu.md", "gpu/prediction.json")
def gpu_plaid(content: dict[str, Any]) -> list[str]:
    """Return the predicted time of PLAID."""
    plaid = content["plaid standard"]
    return [
        f"{plaid['environment_steps'] / 1e6:.1f} M environment steps, and kernels compiled: "
        f"{plaid['total']:.0f} s, of which training {plaid['training']:.0f} s, validations "
        f"{plaid['validations']:.0f} s, merges {plaid['merging']:.0f} s and measurements {plaid['measuring']:.0f} s"
    ]


@table("gpu.md", "engines.json")
def engines(content: dict[str, Any]) -> Rows:
    """Return rewards and success on both engines."""
    return [
        (short(row["skill"]), *(f"{value:.3f}" for value in row["reward"]),
         f"{100 * row['difference']:+.1f} ± {100 * row['error']:.1f}", *(f"{value:.2f}" for value in row["success"]))
        for row in content["rows"]
    ]  # fmt: skip


@table("merging.md", "merge.json")
def labels_batched(content: dict[str, Any]) -> Rows:
    """Return processor time of the labels of a round."""
    rows = []
    for count, found in content["labels"].items():
        single, batched = ([1000 * value for value in found["cpu_seconds"][arm]] for arm in ("one by one", "batched"))
        ratio = statistics.median(batched) / statistics.median(single)
        rows.append((count, _repeats(single), _repeats(batched), f"{ratio:.1f}", f"{found['largest_difference']:g}"))
    return rows


@table("scale.md", "executors.json")
def executor_cost(content: dict[str, Any]) -> Rows:
    """Return what an executor and a job cost, and the comparison of six cells."""
    return [
        (
            kind,
            f"{row['seconds_to_start']:.1f}",
            f"{1000 * row['seconds_per_job']:.1f}",
            f"{row['seconds']:.0f}",
            "equal" if row["equal"] else "different",
        )
        for kind, row in content["kinds"].items()
    ]


@table("scale.md", "executors.json")
def executor_schedules(content: dict[str, Any]) -> Rows:
    """Return simulated schedules: end, and the share of the workers' time that is work."""
    rows, kinds = [], [kind for kind in content["kinds"] if kind != "inline"]
    for i, one in enumerate(content["kinds"][kinds[0]]["schedules"]):
        found = [content["kinds"][kind]["schedules"][i] for kind in kinds]
        ends = (f"{row['seconds'] / 60:,.1f} min, {row['efficiency']:.3f}" for row in found)
        rows.append((f"{one['jobs']:,} of {one['mean_seconds']:.0f} s", str(one["workers"]), *ends))
    return rows
