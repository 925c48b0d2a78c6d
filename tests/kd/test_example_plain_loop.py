"""The example runs as it stands, and its student learns."""

import importlib.util
import inspect
from pathlib import Path

FILE = Path(__file__).parents[2] / "examples" / "kd_plain_loop.py"


def test_the_plain_loop_distils_in_fifteen_lines():
    spec = importlib.util.spec_from_file_location("kd_plain_loop", FILE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    loop = inspect.getsource(example.distill).splitlines()[2:]
    assert len(loop) <= 15
    scores = example.main(teacher_epochs=3, student_epochs=4)
    assert scores["untrained student"] < 0.3
    assert scores["distilled student"] > scores["untrained student"] + 0.4
