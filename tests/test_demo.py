"""The demo's bookkeeping: every skill gets a folder of its own and the expert that was trained on it."""

from dataclasses import replace
from pathlib import Path

from policykd import demo
from policykd.agents.training import TrainConfig
from policykd.envs.skills import get_skill
from policykd.progress import Silent


class FakeProcesses:
    """Runs jobs in this process."""

    def __init__(self, workers):
        pass

    def map(self, work, jobs, progress):
        return [work(job, progress) for job in jobs]


def test_two_skills_of_one_terrain_have_two_experts(tmp_path, monkeypatch):
    """0.1.0 trained biped/flat and biped/flat+run in one folder and lost one of them."""
    monkeypatch.setattr(demo, "Processes", FakeProcesses)
    monkeypatch.setattr(demo, "_train_one", lambda job, progress: job[1])
    monkeypatch.setattr(demo, "load_policy", lambda path: path)
    skills = [get_skill("biped/flat"), get_skill("biped/flat+run"), get_skill("biped/flat:hard")]
    names = demo.folder_names(skills)
    jobs = [(skill, Path(name), replace(TrainConfig(), steps=steps)) for skill, name, steps in
            zip(skills, names, (100_000, 300_000, 200_000), strict=True)]  # fmt: skip
    assert demo._train_experts(jobs, 1, Silent()) == [Path("flat"), Path("flat+run"), Path("flat-hard")]
