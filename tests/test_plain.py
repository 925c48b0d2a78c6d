"""The reader of records: types, limits, strictness, and errors that name the field."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from policykd.errors import ConfigError, OutputError, PolicyFileError, UnknownNameError
from policykd.parsing import parse_json
from policykd.plain import Limits, added, as_plain, check_limits, content_sha256, from_plain, typed, versioned


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, Limits(1, 100)] = 3
    shares: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self):
        if sum(self.shares) != 1:
            raise ConfigError(f"shares are {self.shares}; their sum must be 1")


@dataclass(frozen=True)
class Outer:
    name: Annotated[str, Limits(pattern=r"[a-z]+", what="a name")]
    rate: float
    on: bool = False
    mode: Literal["a", "b"] = "a"
    inner: Inner | None = None
    several: Annotated[tuple[Inner, ...], Limits(entries=2)] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


FULL = Outer("x", 1.0, True, "b", Inner(4), (Inner(1, (1.0, 0.0)), Inner(2)), {"a": 0.5}, {"deep": {"er": [1]}})


def test_a_record_comes_back_equal():
    assert from_plain(Outer, as_plain(FULL), strict=True) == FULL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name is 3; it must be of type str"),
        ({"name": "X"}, "name is 'X', not a name"),
        ({"rate": True}, "rate is True"),
        ({"rate": "3e-4"}, "rate is '3e-4'"),
        ({"rate": math.inf}, "finite"),
        ({"rate": 10**400}, "finite"),
        ({"on": 1}, "on is 1; it must be of type bool"),
        ({"mode": "c"}, "unknown mode 'c'"),
        ({"inner": [1]}, "inner must be a mapping"),
        ({"inner": {"size": 0, "shares": [0.5, 0.5]}}, r"inner.size is 0; it must be in \[1, 100\]"),
        ({"inner": {"size": True, "shares": [0.5, 0.5]}}, "inner.size is True"),
        ({"inner": {"size": 1, "shares": [0.5]}}, "inner.shares has 1 values; it must have 2"),
        ({"inner": {"size": 1, "shares": [0.5, 0.6]}}, "their sum must be 1"),
        ({"inner": {"shares": [0.5, 0.5]}}, "inner.size is missing"),  # it has a default, but a file is complete
        ({"several": [as_plain(Inner()), {"sise": 3}]}, r"unknown field of several\[1\]: 'sise'; did you mean size"),
        ({"several": [as_plain(Inner())] * 3}, "several has 3 entries; at most 2"),
        ({"figures": [1]}, "figures is .* mapping"),
        ({"figures": {"a": "x"}}, "figures.a is 'x'"),
        ({"nmae": "x"}, "unknown field of the file: 'nmae'; did you mean name"),
    ],
)
def test_a_wrong_value_is_named(change, message):
    with pytest.raises(PolicyFileError, match=message):
        from_plain(Outer, {**as_plain(FULL), **change}, error=PolicyFileError, strict=True)


def test_missing_fields_are_all_named():
    with pytest.raises(ConfigError, match="name, rate are missing"):
        from_plain(Outer, {})
    with pytest.raises(ConfigError, match=r"the\.rate is missing"):
        from_plain(Outer, {"name": "x"}, "the")


def test_a_configuration_may_hold_numbers_as_text_and_names_keep_their_error():
    assert from_plain(Outer, {"name": "x", "rate": "3e-4"}).rate == 3e-4
    assert from_plain(Outer, {"name": "x", "rate": 2}).rate == 2.0
    with pytest.raises(UnknownNameError):
        from_plain(Outer, {"name": "x", "rate": 1, "moed": "a"})
    with pytest.raises(ConfigError, match="rate is 'fast'; it must be a number"):
        from_plain(Outer, {"name": "x", "rate": "fast"})


def test_derived_figures_of_a_result_are_skipped_at_every_depth():
    content = {**as_plain(FULL), "mean": 3, "inner": {**as_plain(Inner(5)), "derived": {}}}
    assert from_plain(Outer, content, strict=True, ignore_unknown=True).inner == Inner(5)


def test_long_values_are_shown_in_part():
    with pytest.raises(ConfigError) as caught:
        typed(int, "x" * 10_000, "count")
    assert len(str(caught.value)) < 200


def test_a_field_of_a_later_version_is_left_out_at_its_default():
    @dataclass(frozen=True)
    class Grown:
        old: int = 1
        new: int | None = added(None)

    assert as_plain(Grown()) == {"old": 1}
    assert as_plain(Grown(new=2)) == {"old": 1, "new": 2}
    assert from_plain(Grown, {"old": 3}, strict=True) == Grown(3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "it has no format_version"),
        ({}, "it has no format_version"),
        ({"format_version": 3}, "the thing has format 3; this policykd reads 1 to 2: update policykd"),
        ({"format_version": 0}, "format 0"),
        ({"format_version": True}, "format True"),
        ({"format_version": "1"}, "format '1'"),
    ],
)
def test_versions_that_cannot_be_read_are_refused(content, message):
    with pytest.raises(OutputError, match=message):
        versioned(content, 2, "the thing")
    assert versioned({"format_version": 2}, 2, "the thing") == {"format_version": 2}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_what_is_not_json_is_refused(content):
    with pytest.raises(PolicyFileError, match="the thing is not valid JSON"):
        parse_json(content, "the thing", PolicyFileError)


def test_hash_depends_on_values_only():
    assert content_sha256({"a": 1, "b": [2]}) == content_sha256({"b": [2], "a": 1})
    assert content_sha256({"a": 1}) != content_sha256({"a": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_sha256({"a": math.nan})


def test_limits_of_a_base_hold_where_a_subclass_has_another_default():
    @dataclass(frozen=True)
    class Base:
        share: Annotated[float, Limits(0.0, 1.0)] = 0.5

        def __post_init__(self):
            check_limits(self)

    @dataclass(frozen=True)
    class Own(Base):
        share: float = 0.25
        count: Annotated[int, Limits(2, 9)] = 3

    assert Own().share == 0.25
    with pytest.raises(ConfigError, match=r"share is 1.5; it must be in \[0.0, 1.0\]"):
        Own(share=1.5)
    with pytest.raises(ConfigError, match=r"count is 1; it must be in \[2, 9\]"):
        Own(count=1)
