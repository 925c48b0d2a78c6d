"""What is known about every loss, as data: paper, equation, variants, departures, presets with their provenance."""

from policykd.kd.catalogue.feature import METHODS as _FEATURE
from policykd.kd.catalogue.record import Method, Preset
from policykd.kd.catalogue.relational import METHODS as _RELATIONAL
from policykd.kd.catalogue.response import METHODS as _RESPONSE

METHODS: tuple[Method, ...] = (*_RESPONSE, *_RELATIONAL, *_FEATURE)

__all__ = ["METHODS", "Method", "Preset"]
