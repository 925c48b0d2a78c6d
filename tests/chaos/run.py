"""Runs killed at random moments: ``python tests/chaos/run.py --kills 100``; it goes on where it was interrupted.

Every command is run once without interruption. A case then kills it one to three times with SIGKILL, resumes it to its
end, and compares weights, recorded states and JSON with those of the uninterrupted run. Some cases run out of disk,
cannot write, or meet a second process in their folder. Cases depend on command, seed and number only.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from chaos_campaign import CASES
from chaos_runs import RUNS

OTHERS = 2
"""Cases of each command and of each fault that is not a kill."""


def wanted(found, names, kills, others):
    """Yield (command, fault, case) of what is missing, the commands in turn."""
    for fault, count in (("kill", kills), *((name, others) for name in CASES if name != "kill")):
        share = {name: count // len(names) + (i < count % len(names)) for i, name in enumerate(names)}
        each = share if fault == "kill" else dict.fromkeys(names, count)
        for case in range(max(each.values())):
            for name in names:
                if case < each[name] and str(case) not in found.get(name, {}).get(fault, {}):
                    yield name, fault, case


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="killed runs of all commands together")
    parser.add_argument("--others", type=int, default=OTHERS, help="cases of every other fault for every command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", action="append", choices=list(RUNS), help="only this command; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("results/chaos.json"))
    parser.add_argument("--folder", type=Path, help="keep the runs here; default a temporary folder")
    given = parser.parse_args()
    content = json.loads(given.out.read_text()) if given.out.exists() else {"seed": given.seed, "runs": {}}
    if content["seed"] != given.seed:
        parser.error(f"{given.out} holds cases of seed {content['seed']}; choose another --out")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        place = given.folder or Path(place)
        for name, fault, case in wanted(content["runs"], given.run or list(RUNS), given.kills, given.others):
            folder = place / name.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=True)
            hits, wrong = CASES[fault](name, given.seed, case, folder)
            entry = content["runs"].setdefault(name, {}).setdefault(fault, {})
            entry[str(case)] = {"hits": hits, "fault": wrong}
            given.out.write_text(json.dumps(content, indent=1) + "\n")
            print(f"{name}, {fault}, case {case}: {hits} hits, {wrong or 'equal'}", flush=True)
    every = [one for faults in content["runs"].values() for cases in faults.values() for one in cases.values()]
    bad = [one for one in every if one["fault"]]
    kills = sum(one["hits"] for faults in content["runs"].values() for one in faults.get("kill", {}).values())
    print(f"{len(every)} cases, {kills} kills, {len(bad)} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
