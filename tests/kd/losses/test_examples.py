"""The examples in the docstrings of the losses and divergences run and print what they say."""

import doctest
import importlib

import pytest

from policykd import divergences
from policykd.kd import losses
from policykd.names import public_modules

LOSSES = {f"{losses.__name__}.{name}": name for name in public_modules(losses.__name__)}
DIVERGENCES = ("categorical_kl", "categorical_jsd", "gaussian_kl", "gaussian_jsd", "gaussian_nll", "mse", "huber")
FUNCTIONS = [*LOSSES.items(), *((divergences.__name__, name) for name in DIVERGENCES)]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_example(module, name):
    home = importlib.import_module(module)
    text = getattr(home, name).__doc__
    example = doctest.DocTestParser().get_doctest(text, dict(vars(home)), name, module, None)
    assert len(example.examples) >= 2, "the docstring needs an example"
    failures = []
    doctest.DocTestRunner().run(example, out=failures.append)
    assert not failures, "".join(failures)
