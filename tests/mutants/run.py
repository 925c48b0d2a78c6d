"""``make mutants``: can the tests fail? Apply seeded single mutations and count those that a test notices.

    python tests/mutants/run.py --count 300 --seed 0 --out results/mutants

A first pass runs the suite under coverage and notes which tests run each line. Every mutant then runs in a copy of the
project, in a forked process, against the fastest tests of its line, and, if it survives those, against the rest. The
outcome of every mutant is written to ``mutants.jsonl`` as soon as it is known; the same command goes on after an
interruption. A mutant whose tests take longer than the limit counts as killed by a timeout and is reported apart.

To work through one part of the code, take all mutations of it and only the tests that are meant for it; this needs no
first pass:

    python tests/mutants/run.py --paths policykd/merge/critic.py --all --tests tests/merge/test_critic.py

With ``--again`` the same command repeats the survivors only.

A survivor in the middle of the library costs hundreds of tests. ``--budget 90`` runs the fastest of them only, as many
as take 90 seconds without a mutation. What outlives those counts as a survivor: the share killed is a lower bound.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import json
import os
import py_compile
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from fork_server import ForkServer
from sites import Mutation, mutations

ROOT = Path(__file__).resolve().parents[2]
MAPPING = {"policykd.envs": "envs", "policykd.agents": "agents"}
AREAS = {
    "merge": "policykd/merge", "evaluation": "policykd/evaluation", "agents": "agents",
    "divergences": "policykd/divergences.py", "stats": "policykd/stats.py", "curriculum": "policykd/curriculum",
    "kd": "policykd/kd",
}  # fmt: skip
ALIVE = ("survived", "not run")
DEFAULTS = "tests/test_defaults.py::test_no_default_changes_by_accident"
FIRST = 25  # tests of the first attempt on a mutant
LIMIT = (120.0, 8.0)  # tests of a mutant may take that many seconds, and so many times longer than without it


def main() -> None:
    """Run the mutants that are missing and print the table."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    tests = Tests.named(options.tests) if options.tests else Tests.measured(options.out)
    chosen = sample(options.areas, options.paths, None if options.all else options.count, options.seed)
    record = options.out / "mutants.jsonl"
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    if options.again:
        done = [d for d in done if d["outcome"] not in ALIVE]
        record.write_text("".join(json.dumps(d) + "\n" for d in done))
    known = {(d["path"], d["start"], d["new"]) for d in done}
    missing = [m for m in chosen if (m.path, m.start, m.new) not in known]
    with ThreadPoolExecutor(options.workers) as pool, record.open("a") as file:
        servers = [ForkServer(lay_out(options.out / f"copy-{i}")) for i in range(options.workers)]
        list(pool.map(lambda server: check_copy(server, tests, options.out / "names.txt"), servers))

        def work(mutation: Mutation) -> dict[str, object]:
            server = servers.pop()
            try:
                return examine(mutation, server, tests, options.budget)
            finally:
                servers.append(server)

        for number, outcome in enumerate(pool.map(work, missing), 1):
            print(json.dumps(outcome), file=file, flush=True)
            place = f"{outcome['path']}:{outcome['line']} {outcome['what']}"
            print(f"{number}/{len(missing)} {outcome['outcome']} {outcome['seconds']} s: {place}", flush=True)
            done.append(outcome)
        for server in servers:
            server.close()
    wanted = {(m.path, m.start, m.new) for m in chosen}
    report([d for d in done if (d["path"], d["start"], d["new"]) in wanted], options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--areas", nargs="*", default=list(AREAS), choices=list(AREAS), help="areas to mutate")
    parser.add_argument("--paths", nargs="*", default=[], help="files or folders; without them, the whole areas")
    parser.add_argument("--all", action="store_true", help="every mutation instead of a sample")
    parser.add_argument("--tests", nargs="*", default=[], help="test files to run on each mutant; no first pass then")
    parser.add_argument("--again", action="store_true", help="run the survivors of the results folder again")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds of tests per mutant, at most")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="mutants side by side")
    parser.add_argument("--out", type=Path, default=ROOT / "results/mutants", help="results folder")
    return parser.parse_args()


def sample(areas: list[str], within: list[str], count: int | None, seed: int) -> list[Mutation]:
    """Draw mutations, each area in proportion to the square root of its size so that small ones are seen, too.

    Args:
        areas: names of areas.
        within: files and folders outside of which nothing is drawn; all are allowed if it is empty.
        count: number of mutations, or None for all of them.
        seed: seed of the draw.
    """
    rng = random.Random(seed)
    found = {area: [m for path in files_of(area) if _is_within(path, within) for m in mutations(ROOT, path)]
             for area in areas}  # fmt: skip
    if count is None:
        return [m for area in areas for m in found[area]]
    weight = {area: len(all_of) ** 0.5 for area, all_of in found.items()}
    drawn: list[Mutation] = []
    for area in areas:
        share = round(count * weight[area] / sum(weight.values()))
        drawn += rng.sample(found[area], min(share, len(found[area])))
    return drawn


def _is_within(path: str, places: list[str]) -> bool:
    return not places or any(Path(path).is_relative_to(place) for place in places)


def files_of(area: str) -> list[str]:
    """Return the Python files of an area, relative to the repository."""
    place = ROOT / AREAS[area]
    paths = [place] if place.is_file() else sorted(place.rglob("*.py"))
    return [str(path.relative_to(ROOT)) for path in paths]


@dataclass(frozen=True)
class Tests:
    """The tests of each line.

    Attributes:
        of_line: tests that run a line, fastest first; line 0 of a file stands for lines that run at import.
        seconds: durations of the tests without a mutation, by name.
        for_all: tests that are run on every mutant; if there are any, the rest does not matter.
    """

    of_line: dict[tuple[str, int], list[str]]
    seconds: dict[str, float]
    for_all: tuple[str, ...] = ()

    @classmethod
    def named(cls, names: list[str]) -> Tests:
        """Return the same tests for every line."""
        return cls({}, {}, tuple(names))

    @classmethod
    def measured(cls, out: Path) -> Tests:
        """Return the tests that run each line, measured once per results folder."""
        data, durations = out / "coverage.db", out / "durations.json"
        if not durations.exists():
            durations.write_text(json.dumps(_run_under_coverage(data)))
        seconds: dict[str, float] = json.loads(durations.read_text())
        found = _tests_by_line(data)
        return cls({place: sorted(t, key=lambda name: seconds.get(name, 0.0)) for place, t in found.items()}, seconds)

    def of(self, mutation: Mutation) -> list[str]:
        """Return the tests of a mutant."""
        if self.for_all:
            return list(self.for_all)
        own = self.of_line.get((mutation.path, mutation.line), [])
        if own and mutation.line in lines_of_functions(mutation.path):
            return own
        # A line that runs at import is on record for the test that happened to load the module first.
        return list(dict.fromkeys([DEFAULTS, *own, *self.of_line.get((mutation.path, 0), [])]))

    def within(self, names: list[str], budget: float) -> list[str]:
        """Return the first tests that together take at most ``budget`` seconds without a mutation, at least one."""
        spent = accumulate(self.seconds.get(name, 1.0) for name in names)
        return names[: max(1, sum(seconds <= budget for seconds in spent))]

    def names(self) -> list[str]:
        """Return the names of all tests."""
        return sorted({*self.for_all, *(name for names in self.of_line.values() for name in names)})

    def limit(self, names: list[str]) -> float:
        """Return the seconds after which these tests count as hanging."""
        least, factor = LIMIT
        return least + factor * sum(self.seconds.get(name, 1.0) for name in names)


@lru_cache
def lines_of_functions(path: str) -> frozenset[int]:
    """Return the lines of a file that run when a function is called, and not when the module is loaded."""
    tree = ast.parse((ROOT / path).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(line for f in functions for line in range(f.body[0].lineno, (f.end_lineno or 0) + 1))


def _run_under_coverage(data: Path) -> dict[str, float]:
    """Run the suite, write its coverage by test and return the seconds of every test."""
    print("running the suite once under coverage ...", flush=True)
    coverage = ["--cov=policykd", "--cov=agents", "--cov=envs", "--cov-context=test", "--cov-report="]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *coverage,
               "-p", "no:cacheprovider", "--durations=0", "--durations-min=0.0", "-vv"]  # fmt: skip
    environment = {**os.environ, "COVERAGE_FILE": str(data), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"the suite must pass before it is mutated:\n{done.stdout[-3000:]}")
    return _durations(done.stdout)


def _tests_by_line(data: Path) -> dict[tuple[str, int], set[str]]:
    """Read coverage's database: the tests that ran each line, and, as line 0, any line of a file."""
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
            lines = [8 * byte + bit for byte, value in enumerate(bits) for bit in range(8) if value & (1 << bit)]
            for line in [0, *lines]:
                found[name, line].add(test)
    return found


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
    bytecode = shutil.ignore_patterns("*.pyc")  # numba's compiled kernels are copied with their sources
    for source, target in (("policykd", "policykd"), ("envs", "policykd/envs"), ("agents", "policykd/agents")):
        shutil.copytree(ROOT / source, folder / target, ignore=bytecode, dirs_exist_ok=True)
    for name in ("tests", "benchmarks", "examples", "recipes", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=bytecode)
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile"):
        shutil.copy2(ROOT / name, folder / name)
    # A checked hash, not a time stamp, tells a mutant from the original; tests are compiled by pytest, see check_copy.
    compileall.compile_dir(folder / "policykd", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return folder


def check_copy(server: ForkServer, tests: Tests, listing: Path) -> None:
    """Stop unless pytest finds every test in the copy by its name: an unknown name would count as a kill.

    Tests that are run on every mutant must also pass there.
    """
    names = tests.names()
    listing.write_text("\n".join(names))
    options = [] if tests.for_all else ["--collect-only"]
    if server.attempt([*options, f"@{listing}"], 600.0, keep_bytecode=True) != "survived":
        sys.exit(f"pytest does not pass or not find all tests of {listing}; see {server.folder / 'attempt.log'}")


def examine(mutation: Mutation, server: ForkServer, tests: Tests, budget: float) -> dict[str, object]:
    """Run the tests of one mutant, for at most ``budget`` seconds, and return its record."""
    own = tests.within(tests.of(mutation), budget)
    target = server.folder / _imported(mutation.path)
    source = (ROOT / mutation.path).read_text()
    target.write_text(mutation.applied(source))
    began = time.perf_counter()
    try:
        outcome = "not run" if not own else server.attempt(own[:FIRST], tests.limit(own[:FIRST]))
        if outcome == "survived" and len(own) > FIRST:
            outcome = server.attempt(own[FIRST:], tests.limit(own[FIRST:]))
    finally:
        target.write_text(source)
    return {**asdict(mutation), "outcome": outcome, "tests": len(own), "seconds": round(time.perf_counter() - began, 1)}


def _imported(path: str) -> str:
    return path if path.startswith("policykd/") else f"policykd/{path}"


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
        if outcome["outcome"] in ALIVE:
            print(f"  {outcome['path']}:{outcome['line']} {outcome['what']} ({outcome['outcome']})")
    summary = {area: dict(counts) for area, counts in table.items()}
    (out / "summary.json").write_text(json.dumps({"table": summary, "mutants": done}, indent=1))


if __name__ == "__main__":
    main()
