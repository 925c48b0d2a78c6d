"""What is known about every loss, as data: paper, equation, variants, departures, presets with their provenance."""

from policykd.kd.catalog.feature import METHODS as _FEATURE
from policykd.kd.catalog.record import Method, Preset
from policykd.kd.catalog.relational import METHODS as _RELATIONAL
from policykd.kd.catalog.response import METHODS as _RESPONSE

METHODS: tuple[Method, ...] = (*_RESPONSE, *_RELATIONAL, *_FEATURE)

__all__ = ["METHODS", "Method", "Preset"]
