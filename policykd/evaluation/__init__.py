"""Evaluation: policies on fixed tracks that training never saw, compared pairwise, with confidence intervals.

It may use environments and policies; it trains nothing.
"""

from policykd.evaluation.evaluate import evaluate
from policykd.evaluation.results import Episodes, Evaluation, Summary
from policykd.evaluation.table import evaluation_table

__all__ = ["Episodes", "Evaluation", "Summary", "evaluate", "evaluation_table"]
