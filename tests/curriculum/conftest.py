"""One tiny curriculum, run once for all tests that only read what it left behind."""

import pytest
from tiny_curriculum import TINY, short_episodes, shortened

from policykd.curriculum import run_curriculum

__all__ = ["short_episodes"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Folder and result of the tiny PLAID curriculum."""
    out = tmp_path_factory.mktemp("curriculum")
    with shortened():
        return out, run_curriculum(TINY, out, threads=1)
