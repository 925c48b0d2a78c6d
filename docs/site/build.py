"""The documentation as a site: ``make docs`` writes it to build/site, to be read from disk or from any web server.

The pages are those of the repository, laid out as they are there, so that links need no translation; files that they
link to are copied next to them. The reference is made from the docstrings. Nothing is loaded from other servers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from links import targets

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
PAGES, SOURCE = BUILD / "pages", BUILD / "source"
NAMED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "benchmarks/README.md")
ASSETS = ("iframe-worker.js", "site.css")

REFERENCE = {
    "agents": "Policies, policy files, acting",
    "agents.training": "Training of experts",
    "agents.files": "Policy files",
    "agents.importing": "Import of other libraries' policies",
    "agents.export": "Export to other runtimes",
    "agents.injection": "Injection of observation groups",
    "envs": "Environments and skills",
    "envs.observations": "Observation groups",
    "envs.tasks": "Tasks",
    "envs.terrains": "Terrains",
    "merge": "Merging experts",
    "merge.data": "Labeled data",
    "merge.weights": "Merging weights",
    "curriculum": "Curricula",
    "evaluation": "Evaluation",
    "finetune": "Fine-tuning",
    "kd": "Supervised distillation",
    "kd.losses": "Losses of supervised distillation",
    "kd.objective": "Objectives of supervised distillation",
    "kd.training": "Trainers of supervised distillation",
}
"""Packages whose public modules have a page, and what the page is called."""


def lay_out() -> None:
    """Copy pages and what they link to into build/pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    sources = [ROOT / name for name in NAMED] + sorted((ROOT / "docs").rglob("*.md"))
    for page in sources:
        text = page.read_text(encoding="utf-8")
        copy(page)
        for _, file, _ in targets(page, text):
            if file.is_file():
                copy(file)
    for name in ASSETS:
        shutil.copy(ROOT / "docs" / "site" / name, PAGES / name)


def copy(file: Path) -> None:
    """Copy a file of the repository to its place in build/pages."""
    target = PAGES / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)


def lay_out_source() -> None:
    """Copy the package as it is imported, for tools that read it without importing it."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "policykd", SOURCE / "policykd", ignore=without)
    for name in ("envs", "agents"):
        shutil.copytree(ROOT / name, SOURCE / "policykd" / name, ignore=without)


def write_reference() -> None:
    """Write a page per package that names its public modules."""
    (PAGES / "reference").mkdir(parents=True)
    for package, title in REFERENCE.items():
        folder = SOURCE / "policykd" / Path(*package.split("."))
        names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
        parts = [f"# {title}\n", *(f"::: policykd.{package}.{name}\n" for name in names)]
        (PAGES / "reference" / f"{package}.md").write_text("\n".join(parts), encoding="utf-8")


def main() -> int:
    """Lay out and build."""
    lay_out()
    lay_out_source()
    write_reference()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--quiet", "-f", "mkdocs.yml"]
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "docs" / "site"), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=settings, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
