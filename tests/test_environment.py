"""Versions and machine: known packages are there, unknown ones are left out."""

import platform
from importlib.metadata import version

from policykd.environment import environment, package_version


def test_installed_packages_are_named_and_others_left_out():
    found = environment(("torch", "no-such-package"))
    assert found["torch"] == version("torch")
    assert found["python"] == platform.python_version()
    assert list(found) == ["python", "system", "processor", "torch"]
    assert all(found.values())
    assert package_version("no-such-package") is None
