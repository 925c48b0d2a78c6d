"""A benchmark small enough for tests: 8 x 8 textures, two narrow networks, one epoch."""

from dataclasses import replace

import pytest

from policykd.kd.benchmark.config import load_task, make_network
from policykd.kd.benchmark.reference import bench_config, training
from policykd.kd.benchmark.seed_context import SeedContext
from policykd.kd.training.loop import seeded

OPTIONS = {"train": 48, "val": 20, "test": 20, "side": 8, "classes": 4, "similarity": 0.3}


@pytest.fixture
def tiny():
    def make(*methods, **changes):
        config = bench_config("textures", ("ce", *(methods or ("kd",))), seeds=2, task_options=OPTIONS)
        return replace(
            config,
            student="resnet8:2,2,3,4",
            teacher="resnet8:3,4,6,8",
            **{"train": training(1, 24, 0.05), "teacher_train": training(1, 24, 0.05), **changes},
        )

    return make


@pytest.fixture
def context(tiny):
    """The first seed with an untrained teacher."""

    def make(*methods, **changes):
        config = tiny(*methods, **changes)
        task = load_task(config, 0)
        return SeedContext(config, 0, seeded(lambda: make_network(config.teacher, task.teacher, task), 0, "teacher"))

    return make
