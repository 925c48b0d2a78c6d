"""Registries: names, close matches, entries from outside, lazy folders."""

import math
import sys

import pytest

from policykd.errors import ConfigError, UnknownNameError
from policykd.names import Registry, import_object, public_modules


@pytest.fixture
def numbers():
    registry = Registry("number", int)
    registry.register("one", 1)
    registry.register("two", 2)
    return registry


def test_an_entry_is_found_by_name(numbers):
    assert numbers["two"] == 2
    assert numbers.names() == ("one", "two")
    assert dict(numbers) == {"one": 1, "two": 2}
    assert "three" not in numbers


def test_a_wrong_name_names_close_matches(numbers):
    with pytest.raises(UnknownNameError, match="unknown number 'tow'; did you mean two"):
        numbers["tow"]


def test_registering_twice_needs_an_equal_entry(numbers):
    assert numbers.register("one", 1) == 1
    with pytest.raises(ConfigError, match="another number is already called 'one'"):
        numbers.register("one", 3)
    assert numbers["one"] == 1


def test_an_entry_of_another_type_is_refused(numbers):
    with pytest.raises(ConfigError, match="number 'x' must be a int, not a str"):
        numbers.register("x", "1")


def test_unregister(numbers):
    numbers.unregister("one")
    assert numbers.names() == ("two",)
    with pytest.raises(UnknownNameError):
        numbers.unregister("one")


def test_a_scope_undoes_its_changes(numbers):
    with numbers.scope():
        numbers.unregister("one")
        numbers.register("one", 11)
        assert numbers["one"] == 11
    assert dict(numbers) == {"one": 1, "two": 2}


def test_resolve_imports_what_a_path_names(numbers, tmp_path, monkeypatch):
    (tmp_path / "outside_numbers.py").write_text("class Box:\n    SEVEN = 7\nTEXT = 'seven'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert numbers.resolve("outside_numbers:Box.SEVEN") == 7
    assert numbers.resolve("one") == 1
    with pytest.raises(ConfigError, match="must be a int, not a str"):
        numbers.resolve("outside_numbers:TEXT")
    with pytest.raises(ConfigError, match="has no attribute 'EIGHT'"):
        numbers.resolve("outside_numbers:EIGHT")
    with pytest.raises(ConfigError, match="cannot be imported"):
        numbers.resolve("no_such_module_at_all:X")
    with pytest.raises(UnknownNameError):
        numbers.resolve("three")


def test_what_was_resolved_is_known_and_nothing_is_imported_for_it(numbers, tmp_path, monkeypatch):
    (tmp_path / "known_numbers.py").write_text("SEVEN = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert numbers.known("one") == 1
    assert numbers.known("three") is None
    assert numbers.known("known_numbers:SEVEN") is None
    assert "known_numbers" not in sys.modules
    numbers.resolve("known_numbers:SEVEN")
    assert numbers.known("known_numbers:SEVEN") == 7
    assert "known_numbers:SEVEN" not in numbers


def test_indexing_never_imports(numbers, tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text("SEVEN = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownNameError):
        numbers["never_imported:SEVEN"]
    assert "never_imported" not in sys.modules


@pytest.mark.parametrize("path", ["math", ":pi", "math:"])
def test_a_path_of_another_form_is_refused(path):
    with pytest.raises(ConfigError, match=r"must have the form package.module:Attribute"):
        import_object(path)
    assert import_object("math:pi") == math.pi


def test_a_folder_is_listed_without_importing_its_modules(tmp_path, monkeypatch):
    folder = tmp_path / "zoo_for_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "_private.py").write_text("raise RuntimeError")
    for animal in ("owl", "cat"):
        (folder / f"{animal}.py").write_text(f"ENTRY = '{animal}!'\n")
    monkeypatch.syspath_prepend(tmp_path)
    zoo = Registry.of_folder("animal", "zoo_for_test", "ENTRY", str)
    assert zoo.names() == ("cat", "owl")
    assert "zoo_for_test.cat" not in sys.modules
    assert zoo["cat"] == "cat!"
    assert "zoo_for_test.owl" not in sys.modules
    assert public_modules("zoo_for_test") == ("cat", "owl")
    with pytest.raises(ConfigError, match="animal 'cat' must be a int, not a str"):
        Registry.of_folder("animal", "zoo_for_test", "ENTRY", int)["cat"]
