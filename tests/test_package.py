"""The package as it is installed: every folder is listed, the root stays light, arrows point one way."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"policykd": "policykd", "policykd.envs": "envs", "policykd.agents": "agents"}


def folders_on_disk():
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("__init__.py")):
            relative = path.parent.relative_to(ROOT / folder)
            yield ".".join([package, *relative.parts])


def modules():
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts]), path


def test_every_folder_is_packaged():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(folders_on_disk())


def test_light_imports():
    """One process imports them in turn, and says after which a heavy package was there."""
    light = ("policykd", "policykd.kd", "policykd.kd.registry", "policykd.cli.commands", "policykd.cli.main")
    code = "import sys\n" + "".join(
        f"import {name}\nprint('{name}', [m for m in ('torch', 'mujoco', 'stable_baselines3') if m in sys.modules])\n"
        for name in light
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name} []" for name in light]


BASE = (
    "divergences",
    "paper_tables",
    "schedules",
    "stats",
    "errors",
    "seeding",
    "storage",
    "progress",
    "runs",
    "threads",
    "torch_seeding",
    "lazy",
    "parsing",
    "plain",
    "symbolic_pickle",
    "executor",
    "executors",
    "names",
    "parallel",
    "numerics",
    "relaxed",
    "environment",
)
MAY_IMPORT = {
    "envs": {"envs"},
    "agents": {"envs", "agents"},
    "merge": {"envs", "agents", "merge"},
    "kd": {"kd"},
    "evaluation": {"envs", "agents", "evaluation"},
    "finetune": {"envs", "agents", "merge", "finetune"},
    "curriculum": {"envs", "agents", "merge", "finetune", "evaluation", "curriculum"},
    "report": {"envs", "agents", "evaluation", "curriculum", "kd", "report"},
    **{name: set() for name in BASE},
}


def statements(node):
    """Yield all statements in a node; only they can import, and most nodes are expressions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child
            yield from statements(child)


def imported(path):
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("policykd."):
            yield node.module
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("policykd."))


def test_arrows_point_one_way():
    wrong = []
    for name, path in modules():
        room = name.split(".")[1] if "." in name else ""
        if room not in MAY_IMPORT:
            continue
        for other in imported(path):
            target = other.split(".")[1]
            if target not in MAY_IMPORT[room] and target not in BASE:
                wrong.append(f"{name} imports {other}")
    assert not wrong


def test_pages_and_plots_never_simulate():
    for name, path in modules():
        if name.startswith(("policykd.report.pages", "policykd.report.plots")):
            assert not {"policykd.envs.batched_env", "policykd.report.video"} & set(imported(path)), name
