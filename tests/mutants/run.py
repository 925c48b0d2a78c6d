"""``make mutants``: can the tests fail? Apply seeded single mutations and count those that a test notices.

    python tests/mutants/run.py --count 300 --seed 0 --out results/mutants

A first pass runs the suite under coverage and notes which tests run each line. Every mutant then runs in a copy of the
project, in a forked process, against the fastest tests of its line, and, if it survives those, against the rest. The
outcome of every mutant is written to ``mutants.jsonl`` as soon as it is known; the same command goes on after an
interruption. A mutant whose tests take longer than the limit counts as killed by a timeout and is reported apart.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from sites import Mutation, mutations

ROOT = Path(__file__).resolve().parents[2]
MAPPING = {"policykd.envs": "envs", "policykd.agents": "agents"}
AREAS = {
    "merge": "policykd/merge", "evaluation": "policykd/evaluation", "agents": "agents",
    "divergences": "policykd/divergences.py", "stats": "policykd/stats.py", "curriculum": "policykd/curriculum",
    "kd": "policykd/kd",
}  # fmt: skip
DEFAULTS = "tests/test_defaults.py::test_no_default_changes_by_accident"
FIRST = 25  # tests of the first attempt on a mutant
LIMIT = 240.0  # seconds that the tests of one mutant may take


def main() -> None:
    """Run the mutants that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--areas", nargs="*", default=list(AREAS), choices=list(AREAS), help="areas to mutate")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="mutants side by side")
    parser.add_argument("--out", type=Path, default=ROOT / "results/mutants", help="results folder")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tests = covering_tests(options.out)
    chosen = sample(options.areas, options.count, options.seed)
    record = options.out / "mutants.jsonl"
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    known = {(d["path"], d["start"], d["new"]) for d in done}
    missing = [m for m in chosen if (m.path, m.start, m.new) not in known]
    with ThreadPoolExecutor(options.workers) as pool, record.open("a") as file:
        folders = [lay_out(options.out / f"copy-{i}") for i in range(options.workers)]
        check_names(folders[0], tests, options.out / "names.txt")

        def work(mutation: Mutation) -> dict[str, object]:
            folder = folders.pop()
            try:
                return examine(mutation, folder, tests)
            finally:
                folders.append(folder)

        for number, outcome in enumerate(pool.map(work, missing), 1):
            print(json.dumps(outcome), file=file, flush=True)
            print(
                f"{number}/{len(missing)} {outcome['outcome']}: {outcome['path']}:{outcome['line']} {outcome['what']}"
            )
            done.append(outcome)
    wanted = {(m.path, m.start, m.new) for m in chosen}
    report([d for d in done if (d["path"], d["start"], d["new"]) in wanted], options.out)


def sample(areas: list[str], count: int, seed: int) -> list[Mutation]:
    """Draw mutations, each area in proportion to the square root of its size so that small ones are seen, too."""
    rng = random.Random(seed)
    found = {area: [m for path in files_of(area) for m in mutations(ROOT, path)] for area in areas}
    weight = {area: len(all_of) ** 0.5 for area, all_of in found.items()}
    drawn: list[Mutation] = []
    for area in areas:
        share = round(count * weight[area] / sum(weight.values()))
        drawn += rng.sample(found[area], min(share, len(found[area])))
    return drawn


def files_of(area: str) -> list[str]:
    """Return the Python files of an area, relative to the repository."""
    place = ROOT / AREAS[area]
    paths = [place] if place.is_file() else sorted(place.rglob("*.py"))
    return [str(path.relative_to(ROOT)) for path in paths]


def covering_tests(out: Path) -> dict[tuple[str, int], list[str]]:
    """Return the tests that run each line, fastest first, measured once per results folder."""
    data, durations = out / "coverage.db", out / "durations.json"
    if not durations.exists():
        print("running the suite once under coverage ...", flush=True)
        coverage = ["--cov=policykd", "--cov=agents", "--cov=envs", "--cov-context=test", "--cov-report="]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *coverage,
                   "-p", "no:cacheprovider", "--durations=0", "--durations-min=0.0", "-vv"]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(data), "OMP_NUM_THREADS": "1"},
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode != 0:
            sys.exit(f"the suite must pass before it is mutated:\n{done.stdout[-3000:]}")
        durations.write_text(json.dumps(_durations(done.stdout)))
    seconds: dict[str, float] = json.loads(durations.read_text())
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    with contextlib.closing(sqlite3.connect(data)) as database:
        rows = database.execute(
            "select f.path, c.context, b.numbits from line_bits b join file f on f.id = b.file_id "
            "join context c on c.id = b.context_id"
        )
        for path, context, bits in rows:
            test = context.rpartition("|")[0]
            if not test or not Path(path).is_relative_to(ROOT):
                continue
            name = str(Path(path).relative_to(ROOT))
            for byte, value in enumerate(bits):
                for bit in range(8):
                    if value & (1 << bit):
                        found[name, 8 * byte + bit].add(test)
            found[name, 0].add(test)  # for lines that run at import
    return {place: sorted(tests, key=lambda t: seconds.get(t, 0.0)) for place, tests in found.items()}


def _durations(text: str) -> dict[str, float]:
    """Read pytest's list of durations."""
    total: Counter[str] = Counter()
    for line in text.splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[1] in ("call", "setup", "teardown") and words[0].endswith("s"):
            total[words[2]] += float(words[0][:-1])
    return dict(total)


def lay_out(folder: Path) -> Path:
    """Copy the project into a folder as it is imported, with its tests."""
    shutil.rmtree(folder, ignore_errors=True)
    for source, target in (("policykd", "policykd"), ("envs", "policykd/envs"), ("agents", "policykd/agents")):
        shutil.copytree(
            ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    for name in ("tests", "benchmarks", "examples", "recipes", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


def check_names(folder: Path, tests: dict[tuple[str, int], list[str]], listing: Path) -> None:
    """Stop unless pytest finds every test in the copy by its name: an unknown name would count as a kill."""
    listing.write_text("\n".join(sorted({name for names in tests.values() for name in names})))
    if attempt(folder, ["--collect-only", f"@{listing}"]) != "survived":
        sys.exit(f"pytest does not find all tests of {listing} in {folder}; delete {listing.parent} and run again")


def examine(mutation: Mutation, folder: Path, tests: dict[tuple[str, int], list[str]]) -> dict[str, object]:
    """Run the tests of one mutant and return its record."""
    own = tests.get((mutation.path, mutation.line))
    if not own:  # the line runs at import, as defaults and constants do
        own = [DEFAULTS, *tests.get((mutation.path, 0), [])]
    target = folder / _imported(mutation.path)
    source = (ROOT / mutation.path).read_text()
    target.write_text(mutation.applied(source))
    began = time.perf_counter()
    try:
        outcome = "not run" if not own else attempt(folder, own[:FIRST])
        if outcome == "survived" and len(own) > FIRST:
            outcome = attempt(folder, own[FIRST:])
    finally:
        target.write_text(source)
    return {**asdict(mutation), "outcome": outcome, "tests": len(own), "seconds": round(time.perf_counter() - began, 1)}


def _imported(path: str) -> str:
    return path if path.startswith("policykd/") else f"policykd/{path}"


def attempt(folder: Path, names: list[str]) -> str:
    """Return ``killed``, ``survived`` or ``timeout`` for these tests, run in a fresh process in the copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", *names]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    try:
        return "survived" if process.wait(LIMIT) == 0 else "killed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "timeout"


def report(done: list[dict[str, object]], out: Path) -> None:
    """Print killed and survived by area, then every survivor; write the same as JSON."""
    area_of = {path: area for area in AREAS for path in files_of(area)}
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in done:
        for row in (area_of[str(outcome["path"])], "all"):
            table[row][str(outcome["outcome"])] += 1
    print(f"\n{'area':<12}{'killed':>8}{'timeout':>9}{'survived':>10}{'not run':>9}{'killed %':>10}")
    for area in [*AREAS, "all"]:
        counts = table[area]
        total = counts.total()
        if total:
            share = 100 * (counts["killed"] + counts["timeout"]) / total
            print(f"{area:<12}{counts['killed']:>8}{counts['timeout']:>9}{counts['survived']:>10}"
                  f"{counts['not run']:>9}{share:>9.1f}%")  # fmt: skip
    print("\nsurvivors")
    for outcome in done:
        if outcome["outcome"] in ("survived", "not run"):
            print(f"  {outcome['path']}:{outcome['line']} {outcome['what']} ({outcome['outcome']})")
    summary = {area: dict(counts) for area, counts in table.items()}
    (out / "summary.json").write_text(json.dumps({"table": summary, "mutants": done}, indent=1))


if __name__ == "__main__":
    main()
