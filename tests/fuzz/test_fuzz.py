"""A short fuzz run over every format, and checks that the campaign itself can fail; ``make fuzz`` is the long one."""

import importlib.util
import os
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_campaign
from byte_mutations import BYTES, mutate_zip
from fuzz_campaign import FORMATS, case_of, finite, judge, run_cases, run_isolated, samples_of
from fuzz_formats import NEEDS, Format
from pickle_mutations import HOSTILE, mutate_pickle
from record_mutations import mutate_json, mutate_yaml

from policykd.errors import PolicyFileError

CASES = 10


@pytest.mark.parametrize("name", list(FORMATS))
def test_mutated_files_are_refused_or_loaded(name):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}")
    rows = []
    run_cases(name, 1, range(CASES), samples_of(name), rows.append)
    verdicts = [row for row in rows if row[1] != "begun"]
    assert len(verdicts) == CASES
    good = ("refused", "loaded", "slow")  # times of a test depend on the machine; the long run judges them
    assert not [row for row in verdicts if row[1] not in good]
    assert any(row[1] == "refused" for row in verdicts)


def test_a_case_depends_on_format_seed_and_number_only():
    samples = samples_of("policy")
    (_, one), (_, two), (_, other) = (case_of("policy", samples, 3, n) for n in (8, 8, 12))
    assert one == two != other
    assert one != samples[0]


@pytest.mark.parametrize(
    ("read", "verdict"),
    [
        (lambda folder: {"a": [np.array([1.0])]}, "loaded"),
        (lambda folder: {"a": [np.array([1.0, np.nan])]}, "not finite"),
        (lambda folder: {}["x"], "other exception"),
        (lambda folder: float(np.ones(350_000_000, np.uint8)[0]), "memory"),
    ],
)
def test_verdicts(read, verdict, tmp_path):
    assert judge(read, tmp_path)[0] == verdict


def test_our_own_errors_are_refusals(tmp_path):
    def read(folder):
        raise PolicyFileError("no")

    assert judge(read, tmp_path) == ("refused", "PolicyFileError: no")


def test_a_crash_is_a_fault_of_its_case_and_the_others_go_on(monkeypatch):
    def read(folder):
        if (folder / "x").read_bytes() == b"die":
            os._exit(3)

    monkeypatch.setitem(FORMATS, "tiny", (Format(lambda: {"x": b"ok"}, read),))
    monkeypatch.setattr(
        fuzz_campaign, "case_of", lambda name, samples, seed, n: (FORMATS[name][0], {"x": b"die" if n == 1 else b"ok"})
    )
    rows = sorted(run_isolated("tiny", 0, range(3), [{"x": b"ok"}]))
    assert [(number, verdict) for number, verdict, _ in rows] == [(0, "loaded"), (1, "crash"), (2, "loaded")]


def test_a_sample_that_is_not_loaded_stops_the_campaign(monkeypatch):
    monkeypatch.setitem(FORMATS, "bad", (Format(lambda: {"x": b""}, lambda folder: {}["x"]),))
    with pytest.raises(AssertionError, match="a sample of bad itself is not loaded"):
        run_cases("bad", 0, range(1), [{"x": b""}], lambda row: None)


def test_finite_looks_into_everything():
    assert finite({"a": (1.0, [np.zeros(2)], "x", None)})
    assert not finite([({"a": float("inf")},)])


@pytest.mark.parametrize("mutate", BYTES)
def test_bytes_change(mutate):
    content = bytes(range(200))
    changed = [mutate(content, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(c != content for c in changed) >= 18
    assert len(set(changed)) > 10


def test_zips_stay_zips_and_their_members_change():
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in "abc":
            archive.writestr(name, name * 50)
    found = set()
    for seed in range(60):
        content = mutate_zip(buffer.getvalue(), np.random.default_rng(seed), lambda name, body, rng: body + b"!")
        try:
            with zipfile.ZipFile(BytesIO(content)) as archive:
                found.add(tuple(sorted(archive.namelist())))
        except zipfile.BadZipFile:
            found.add("damaged")
    assert {("a", "b", "c"), ("a", "b"), ("a", "a", "b", "c")} <= found


def test_hostile_opcodes_get_into_pickles_and_records_change():
    import pickle

    content = pickle.dumps({"a": [1, 2.5, "x"]}, protocol=2)
    changed = [mutate_pickle(content, np.random.default_rng(seed)) for seed in range(60)]
    assert any(snippet in c for c in changed for snippet in HOSTILE if len(snippet) > 8)
    assert len(set(changed)) > 40
    texts = {mutate_json(b'{"a": [1, 2, {"b": null}]}', np.random.default_rng(seed)) for seed in range(60)}
    assert len(texts) > 40
    assert len({mutate_yaml(b"a: 1\nb: {c: [1, 2]}\n", np.random.default_rng(seed)) for seed in range(60)}) > 30
