"""Fixtures of the merge tests."""

import pytest
from teacher_samples import make_teacher


@pytest.fixture
def teachers():
    return [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)]
