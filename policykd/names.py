"""Registries: entries by name, with close matches for an unknown name, and entries from outside the package.

    ROBOTS: Registry[Robot] = Registry("robot", Robot)
    ROBOTS.register("biped", BIPED)
    ROBOTS["biped"]                     # raises UnknownNameError with close matches
    ROBOTS.resolve("my_lab.robots:DOG") # imports my_lab.robots and returns its DOG

Indexing never imports code, so it is safe for names read from files. ``resolve`` also takes
``package.module:Attribute`` and imports that module: use it for names that a person typed on the command line, in
Python or in a recipe.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, Self, TypeVar, cast

from policykd.errors import ConfigError, UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Entries by name.

    Args:
        kind: noun for an entry in messages, for example ``robot``.
        type_: type of the entries; None accepts any object.
        lazy: names whose entries are made by ``load`` at first use.
        load: function from a name in ``lazy`` to its entry.
    """

    def __init__(
        self,
        kind: str,
        type_: type | None = None,
        *,
        lazy: Iterator[str] | tuple[str, ...] = (),
        load: Callable[[str], T] | None = None,
    ) -> None:
        self.kind = kind
        self._type, self._load = type_, load
        self._entries: dict[str, T | None] = dict.fromkeys(lazy)
        self._outside: dict[str, T] = {}

    @classmethod
    def of_folder(cls, kind: str, package: str, attribute: str, type_: type | None = None) -> Self:
        """Return a registry with one entry per public module of a package, imported at first use.

        Args:
            kind: noun for an entry in messages.
            package: dotted name of the package; every module in it without a leading underscore is an entry.
            attribute: name under which each module holds its entry.
            type_: type of the entries.
        """
        lazy = tuple(name for name in public_modules(package) if name != "registry")

        def load(name: str) -> Any:
            return getattr(importlib.import_module(f"{package}.{name}"), attribute)

        return cls(kind, type_, lazy=lazy, load=load)

    def register(self, name: str, entry: T) -> T:
        """Add an entry and return it; adding an equal entry again changes nothing.

        Raises:
            ConfigError: if the name belongs to another entry, or the entry has another type than the registry.
        """
        self._check_type(name, entry)
        if name in self._entries and self[name] != entry:
            raise ConfigError(f"another {self.kind} is already called '{name}'")
        self._entries[name] = entry
        return entry

    def unregister(self, name: str) -> None:
        """Remove an entry, for example one that a test added.

        Raises:
            UnknownNameError: for an unknown name.
        """
        self[name]
        del self._entries[name]

    @contextmanager
    def scope(self) -> Iterator[Registry[T]]:
        """Undo all changes made inside the block when it ends; for tests and trials."""
        before = dict(self._entries), dict(self._outside)
        try:
            yield self
        finally:
            self._entries, self._outside = before

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        if self._entries[name] is None and self._load is not None:
            entry = self._load(name)
            self._check_type(name, entry)
            self._entries[name] = entry
        return cast(T, self._entries[name])

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> tuple[str, ...]:
        """Return the names of the entries: those of the folder, then the added ones in the order of addition."""
        return tuple(self)

    def resolve(self, name: str) -> T:
        """Return the entry of a name, or the object that ``package.module:Attribute`` names.

        Raises:
            UnknownNameError: for an unknown name; close matches are named.
            ConfigError: if the module cannot be imported, lacks the attribute, or the object has another type.
        """
        if name in self._entries or ":" not in name:
            return self[name]
        entry = import_object(name)
        self._check_type(name, entry)
        self._outside[name] = cast(T, entry)
        return self._outside[name]

    def known(self, name: str) -> T | None:
        """Return the entry of a name, or the object that ``resolve`` found for it before; None for other names.

        It imports nothing but entries, so it is safe for names read from files.
        """
        return self[name] if name in self._entries else self._outside.get(name)

    def _check_type(self, name: str, entry: object) -> None:
        if self._type is not None and not isinstance(entry, self._type):
            raise ConfigError(f"{self.kind} '{name}' must be a {self._type.__name__}, not a {type(entry).__name__}")


def public_modules(package: str) -> tuple[str, ...]:
    """Return the module names of a package without a leading underscore, in alphabetical order; imports no module.

    Args:
        package: dotted name of the package, which is imported itself unless its import is already under way.
    """
    folder = importlib.import_module(package).__path__
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_")))


def import_object(path: str) -> Any:
    """Import the object that ``package.module:Attribute`` names; the attribute may be dotted.

    Raises:
        ConfigError: if the path has another form, the module cannot be imported, or it lacks the attribute.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"'{path}' must have the form package.module:Attribute, for example my_lab.robots:DOG")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"'{path}' cannot be imported: {error}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"'{path}': module {module_name} has no attribute '{attribute}'")
        found = getattr(found, part)
    return found
