"""The register of losses: what each is, where it comes from, how it departs from its paper, which weights go with it.

    methods.list(needs="logits", family="relational")
    method = methods.get("crd", preset="repdistiller")
    loss = method.build(n_data=50_000, student_dim=64, teacher_dim=256)

The records are plain data in ``policykd.kd.catalog``; torch is loaded by ``build`` and ``load`` only.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from policykd.errors import UnknownNameError
from policykd.kd.catalog import METHODS
from policykd.kd.catalog.record import Family, Method, Need, Preset


class Methods(Mapping[str, Method]):
    """The registered methods by name."""

    def __init__(self, records: Iterable[Method] = ()) -> None:
        self._records: dict[str, Method] = {}
        for record in records:
            self.register(record)

    def register(self, record: Method) -> Method:
        """Add a method.

        Raises:
            ValueError: the name is taken.
        """
        if record.name in self._records:
            raise ValueError(f"method {record.name!r} is registered already")
        self._records[record.name] = record
        return record

    def __getitem__(self, name: str) -> Method:
        if name not in self._records:
            raise UnknownNameError("method", name, self._records)
        return self._records[name]

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def get(self, name: str, default: Any = None, *, preset: str | None = None) -> Method:
        """Return a method, with one of its presets chosen if `preset` is given.

        Raises:
            UnknownNameError: no such method or preset (unless a `default` is given for the method).
        """
        if default is not None and name not in self:
            fallback: Method = default
            return fallback
        method = self[name]
        if preset is None:
            return method
        known = {p.name: p for p in method.presets}
        if preset not in known:
            raise UnknownNameError(f"preset of {name}:", preset, known)
        return replace(method, preset=known[preset])

    def list(self, *, needs: Need | None = None, family: Family | None = None) -> builtins.list[Method]:
        """Return the methods that need this signal and belong to this family, in the order of the register.

        Raises:
            UnknownNameError: no method has such a need or family.
        """
        records = builtins.list(self._records.values())
        for what, wanted, known in (
            ("need", needs, {need for m in records for need in m.needs}),
            ("family", family, {m.family for m in records}),
        ):
            if wanted is not None and wanted not in known:
                raise UnknownNameError(what, wanted, known)
        return [m for m in records if (needs is None or needs in m.needs) and family in (None, m.family)]


methods = Methods(METHODS)

__all__ = ["Family", "Method", "Methods", "Need", "Preset", "UnknownNameError", "methods"]
