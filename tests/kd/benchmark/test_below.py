"""Methods below the baseline, and what their other settings reached on validation data."""

from policykd.kd.benchmark.below import below_baseline, candidate_text, draw_candidates
from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.benchmark.results import BenchResult


def setting(weight=2.0, rate=1.0, **options):
    return {"weight": weight, "lr_factor": rate, "options": options}


def test_candidates_are_told_by_how_they_differ_from_the_default():
    default = setting(temperature=4.0)
    assert candidate_text(default, default) == "default"
    assert candidate_text(setting(0.2, temperature=4.0), default) == "weight x 0.1"
    assert candidate_text(setting(2.0, 0.5, temperature=2.0), default) == "temperature 2, rate x 0.5"


def test_the_table_has_validation_accuracy_and_choices_of_every_candidate():
    def cell(chosen, first, second, test):
        tried = [
            {"setting": setting(), "val": {"accuracy": first}},
            {"setting": setting(0.2), "val": {"accuracy": second}},
        ]
        return {"chosen": chosen, "candidates": tried, "test": dict.fromkeys(MEASURES, test)}

    cells = {
        "ce": (cell(0, 0.5, 0.5, 0.5), cell(0, 0.5, 0.5, 0.5)),
        "low": (cell(1, 0.25, 0.5, 0.25), cell(0, 0.75, 0.25, 0.25)),
        "high": (cell(0, 0.5, 0.5, 0.75), cell(0, 0.5, 0.5, 0.75)),
    }
    result = BenchResult({"baseline": "ce"}, cells, ({}, {}))
    assert below_baseline(result) == ["low"]
    head, line, row = draw_candidates(result, ["low"])
    assert head == "| method | candidate: validation accuracy, % | chosen (seeds) |"
    assert line == "| --- | --- | --- |"
    assert below_baseline(BenchResult({"baseline": "high"}, cells, ({}, {}))) == ["ce", "low"]
    assert row == "| low | default: 50.0; weight x 0.1: 37.5 | default: 1; weight x 0.1: 1 |"
