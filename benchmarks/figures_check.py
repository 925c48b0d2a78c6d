"""Do the documentation's figures say what the committed results say?

    python benchmarks/figures_check.py            # names page, row and both values where they differ, and fails
    python benchmarks/figures_check.py --write    # brings marked tables and generated pages up to date

Tables come from functions in `benchmarks/doc_figures`; the comment `<!-- figures: NAME -->` in front of a table names
its function. Tables without results are marked `<!-- by hand: REASON -->`. The pages of supervised distillation are
generated whole by `benchmarks/kd_evidence.py`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import kd_evidence
from doc_figures.check import compare_all, compare_generated, pages, write_all
from doc_figures.pages import find_tables
from doc_figures.registry import PHRASES, TABLES

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write tables and generated pages instead of failing")
    docs, results = ROOT / "docs", ROOT / "benchmarks" / "results"
    if parser.parse_args().write:
        write_all(docs, results)
        kd_evidence.main()
    generated = kd_evidence.pages()
    differences = [*compare_all(docs, results), *compare_generated(docs, generated)]
    for one in differences:
        print(one)
    by_hand = [(page.name, found) for page in pages(docs) for found in find_tables(page.read_text()) if found.by_hand]
    print(f"{len(TABLES)} tables, {len(PHRASES)} groups of phrases, {len(generated)} generated pages: "
          f"{len(differences)} differences")  # fmt: skip
    for page, found in by_hand:
        print(f"by hand: docs/{page}, line {found.line}: {found.by_hand}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
