"""The long fuzz run: ``python tests/fuzz/run.py --cases 10000``; it goes on where it was interrupted.

Counts of every format are written to a JSON file; faults are printed and kept in it with their case, so that
``--format NAME --case N`` shows one of them again.
"""

import argparse
import json
import multiprocessing
import sys
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_campaign import FORMATS, MOST_MEGABYTES, SECONDS, case_of, judge, run_isolated, samples_of

_STEP = 1000


def campaign(job):
    """Return the counts and faults of a part of a format's cases."""
    name, seed, first, last = job
    torch.set_num_threads(1)
    rows = run_isolated(name, seed, range(first, last), samples_of(name))
    counts = Counter(verdict for _, verdict, _ in rows)
    faults = [
        [number, verdict, detail[-1500:]] for number, verdict, detail in rows if verdict not in ("refused", "loaded")
    ]
    return name, last, dict(counts), faults


def show_case(name, seed, number):
    """Print what becomes of one case, in this process."""
    import tempfile

    form, files = case_of(name, samples_of(name), seed, number)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "case"
        for file, content in files.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(content)
            print(file, len(content), content[:200] if len(content) < 5000 else "")
        print(*judge(form.read, place), sep="\n")


def markdown(formats):
    """Return the table of the counts, and of the formats together."""
    rows = ["| format | cases | refused | loaded | faults |", "| --- | --- | --- | --- | --- |"]
    total = Counter()
    for name, entry in formats.items():
        figures = {**{key: entry[key] for key in ("cases", "refused", "loaded")}, "faults": len(entry["faults"])}
        total.update(figures)
        rows.append(f"| {name} | {' | '.join(f'{number:,}' for number in figures.values())} |")
    rows.append(f"| all | {' | '.join(f'{total[key]:,}' for key in ('cases', 'refused', 'loaded', 'faults'))} |")
    return "\n".join(rows)


def write_table(page, formats):
    """Replace the table between the marks of a page."""
    begin, end = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{markdown(formats)}\n{end}{rest.partition(end)[2]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", action="append", choices=list(FORMATS), help="only this format; may be repeated")
    parser.add_argument("--case", type=int, help="show one case of --format")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/fuzz.json"))
    parser.add_argument("--table", type=Path, help="write the table of --out into this page, and run nothing")
    given = parser.parse_args()
    names = given.format or list(FORMATS)
    if given.case is not None:
        show_case(names[0], given.seed, given.case)
        return 0
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    if found.get("seed", given.seed) != given.seed:
        parser.error(f"{given.out} holds cases of seed {found['seed']}; choose another --out")
    formats = found.get("formats", {})
    if given.table is not None:
        write_table(given.table, formats)
        return 0
    jobs = [
        (name, given.seed, first, min(first + _STEP, given.cases))
        for name in names
        for first in range(formats.get(name, {}).get("cases", 0), given.cases, _STEP)
    ]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool(given.workers) as pool:
        for name, last, counts, faults in pool.imap(campaign, jobs):
            entry = formats.setdefault(name, {"cases": 0, "refused": 0, "loaded": 0, "faults": []})
            entry |= {key: entry[key] + counts.get(key, 0) for key in ("refused", "loaded")}
            entry["cases"], entry["faults"] = last, entry["faults"] + faults
            limits = {"seconds": SECONDS, "megabytes": MOST_MEGABYTES}
            given.out.write_text(
                json.dumps({"seed": given.seed, "limits": limits, "formats": formats}, indent=1) + "\n"
            )
            figures = (f"{entry[key]} {key}" for key in ("refused", "loaded"))
            print(name, last, *figures, len(entry["faults"]), "faults", flush=True)
    return 1 if any(entry["faults"] for entry in formats.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
