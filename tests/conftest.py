"""What holds for the whole suite: Python's garbage collector leaves out what lives until the end."""

import gc

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    gc.disable()  # collection only makes objects that stay


def pytest_collection_finish(session: pytest.Session) -> None:
    """Freeze the imported modules and collected tests, which every full collection would walk through again."""
    gc.freeze()
    gc.enable()
