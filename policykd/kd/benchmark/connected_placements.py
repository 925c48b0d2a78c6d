"""Placements of losses whose trained parts stand between student and teacher; records name them by their path.

Every module attribute is a :class:`policykd.kd.benchmark.placements.Placement`.
"""

from __future__ import annotations

from policykd.errors import ConfigError
from policykd.kd.benchmark.placements import Placement, PlacementContext, Terms
from policykd.kd.benchmark.settings import Setting
from policykd.kd.registry import LossInfo

_LOGITS = "fc"


def _pooled(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    own, other = (context.shapes((context.vector,), teacher=side)[0][0] for side in (False, True))
    loss = info.build(**{**setting.options, "student_dim": own, "teacher_dim": other})
    return {info.name: loss.on(context.vector)}


def _levels(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    loss = info.build(**{**setting.options, **context.widths(*context.levels)})
    return {info.name: loss.on(context.levels)}


def _stages(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    terms = {}
    for tap in context.levels:
        options = {"student_channels": context.shapes((tap,))[0][0], "classes": context.task.classes}
        terms[f"{info.name}_{tap}"] = info.build(**{**setting.options, **options}).on(tap, _LOGITS)
    return terms


def _classifier(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    raise ConfigError(f"{info.name} cannot be benchmarked: {_CLASSIFIER}")


_CLASSIFIER = "its student predicts through the teacher's classifier, and a benchmark measures the student's own"
POOLED = Placement("the pooled feature, the student's through a trained map", _pooled)
LEVELS = Placement("all pairs of stages", _levels, needs="image")
STAGES = Placement("the student's stages, through trained heads, and the teacher's logits", _stages, needs="image")
CLASSIFIER = Placement("the last map", _classifier, needs="image", unavailable=_CLASSIFIER)
