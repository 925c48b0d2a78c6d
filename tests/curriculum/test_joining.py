"""Comparisons that ran apart become the one that would have run in one piece."""

from dataclasses import replace

import pytest
from rich.console import Console
from test_comparison_values import BOTH, SKILLS, run

from policykd.cli.commands.compare import Compare
from policykd.curriculum.comparison import Comparison, shared_experts
from policykd.curriculum.joining import join_comparisons
from policykd.errors import ConfigError, OutputError
from policykd.storage import write_json


def comparison(curricula, seeds, **scores):
    runs = tuple(run(name, seed, first=0.3 + 0.1 * seed, **scores) for name in curricula for seed in seeds)
    return Comparison(BOTH, curricula, seeds, SKILLS, 1000, shared_experts(runs, SKILLS), runs)


def test_seeds_and_curricula_from_several_places_are_one_comparison():
    whole = comparison(("plaid", "tl-only"), (0, 1, 2))
    parts = [comparison(("plaid", "tl-only"), (2,)), comparison(("plaid",), (0, 1)), comparison(("tl-only",), (0, 1))]
    assert join_comparisons(parts) == whole
    assert join_comparisons([whole]) == whole


def test_scores_of_a_joined_comparison_are_normalized_by_all_experts():
    parts = [comparison(("plaid",), (0,), experts=(0.2, 0.4)), comparison(("plaid",), (1,), experts=(0.4, 0.8))]
    assert join_comparisons(parts).experts == pytest.approx((0.3, 0.6))


def test_what_cannot_be_joined_is_refused_by_name():
    first = comparison(("plaid", "tl-only"), (0,))
    with pytest.raises(ConfigError, match="no comparison was given"):
        join_comparisons([])
    with pytest.raises(ConfigError, match="plaid with seed 0 is in two"):
        join_comparisons([first, comparison(("plaid",), (0, 1))])
    with pytest.raises(ConfigError, match="lack tl-only 1"):
        join_comparisons([first, comparison(("plaid",), (1,))])
    other = replace(comparison(("plaid", "tl-only"), (1,)), recipe=replace(BOTH, transfer_noise=0.3))
    with pytest.raises(ConfigError, match="recipe's transfer_noise"):
        join_comparisons([first, other])
    same = replace(BOTH, curriculum="tl-only")
    assert join_comparisons([first, replace(comparison(("plaid", "tl-only"), (1,)), recipe=same)]).seeds == (0, 1)


def test_the_command_joins_files_and_writes_table_and_page(tmp_path):
    paths = []
    for seed in (0, 1):
        paths.append(tmp_path / f"{seed}.json")
        write_json(paths[-1], comparison(("plaid", "tl-only"), (seed,)).to_json())
    console = Console(record=True, width=120)
    Compare(join=tuple(paths), out=tmp_path / "joined").run(console)
    assert Comparison.load(tmp_path / "joined" / "comparison.json") == comparison(("plaid", "tl-only"), (0, 1))
    assert "2 seeds" in console.export_text()
    assert (tmp_path / "joined" / "index.html").exists()
    with pytest.raises(OutputError, match="holds a comparison already"):
        Compare(join=tuple(paths), out=tmp_path / "joined").run(console)
