"""The lock file of uv: what pyproject.toml asks for, in the versions that this release was tested with."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked():
    """Name to the versions that are locked; several where Python's version decides."""
    found = {}
    for package in LOCK["package"]:
        found.setdefault(package["name"], []).append(Version(package.get("version", "0")))
    return found


def test_every_tested_version_is_locked():
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    assert len(pins) > 30
    versions = locked()
    for pin in pins:
        (exact,) = pin.specifier
        assert Version(exact.version) in versions[canonicalize_name(pin.name)], pin


def test_what_the_project_asks_for_is_locked_within_its_ranges():
    versions = locked()
    for text in [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]:
        wanted = Requirement(text)
        found = versions[canonicalize_name(wanted.name)]
        assert all(version in wanted.specifier for version in found), (text, found)


def test_the_lock_knows_this_pyproject():
    (own,) = [package for package in LOCK["package"] if package["name"] == "policykd"]
    assert LOCK["requires-python"] == PROJECT["requires-python"]
    assert own["version"] == PROJECT["version"]
    assert set(own["metadata"]["provides-extras"]) == set(PROJECT["optional-dependencies"])
    wanted = {
        (canonicalize_name(Requirement(text).name), extra)
        for extra, texts in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items()
        for text in texts
    }
    found = {(one["name"], one.get("marker", "").partition("extra == ")[2].strip("'")) for one in
             own["metadata"]["requires-dist"]}  # fmt: skip
    assert found == wanted


def test_packages_come_from_the_public_index():
    sources = {tuple(package["source"].items()) for package in LOCK["package"]}
    assert sources == {(("registry", "https://pypi.org/simple"),), (("editable", "."),)}
