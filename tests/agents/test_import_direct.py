"""Files of other libraries where a policy file is expected: a merge imports them once, other commands say how."""

import shutil
from pathlib import Path

import pytest
import torch

from policykd.agents.files.policy_file import load_policy
from policykd.agents.importing.direct import import_once, is_foreign
from policykd.cli.main import main
from policykd.errors import ConfigError, PolicyFileError

sb3 = pytest.importorskip("stable_baselines3")
EXPERT = Path(__file__).parents[1] / "data" / "flat-expert"


@pytest.fixture(scope="module")
def balancer(tmp_path_factory):
    """A linear policy of stable-baselines3 that pushes the cart below the pole."""
    model = sb3.PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": {"pi": [], "vf": []}}, device="cpu", seed=0)
    with torch.no_grad():
        model.policy.action_net.weight[:] = torch.tensor([[0.0, 0.0, -5.0, -2.0], [0.0, 0.0, 5.0, 2.0]])
        model.policy.action_net.bias.zero_()
    path = tmp_path_factory.mktemp("zoo") / "CartPole-v1.zip"
    model.save(path)
    return path


def test_what_is_foreign(balancer, tmp_path):
    assert is_foreign(balancer)
    assert is_foreign(balancer.parent), "a folder with one zip, as in rl-trained-agents"
    (tmp_path / "policy.onnx").write_bytes(b"")
    assert is_foreign(tmp_path / "policy.onnx")
    assert not is_foreign(EXPERT)
    assert not is_foreign(tmp_path / "missing.zip")
    shutil.make_archive(str(tmp_path / "own"), "zip", EXPERT)
    assert not is_foreign(tmp_path / "own.zip")


def test_it_is_imported_once(balancer, tmp_path):
    out = tmp_path / "1-CartPole-v1"
    report = import_once(balancer, out)
    assert report is not None
    assert report.score > report.random
    written = (out / "manifest.json").stat().st_mtime_ns
    assert import_once(balancer, out) is None
    assert (out / "manifest.json").stat().st_mtime_ns == written
    other = tmp_path / "CartPole-v1.zip"
    sb3.PPO("MlpPolicy", "CartPole-v1", device="cpu", seed=1).save(other)
    with pytest.raises(ConfigError, match=r"1-CartPole-v1 is not an import of .*; choose another --out"):
        import_once(other, out)


def test_what_the_defaults_lack_is_said(tmp_path):
    torch.save(
        {"actor_state_dict": {"mlp.0.weight": torch.zeros(2, 4), "mlp.0.bias": torch.zeros(2)}}, tmp_path / "m.pt"
    )
    with pytest.raises(
        ConfigError, match=r"m\.pt names no activation .* import it first.*: policykd import .*m\.pt --out"
    ):
        import_once(tmp_path / "m.pt", tmp_path / "out")


def test_other_commands_name_the_import(balancer):
    for path in (balancer, balancer.parent):
        with pytest.raises(PolicyFileError, match=rf"has to be imported first: policykd import {path} --out EXPERT"):
            load_policy(path)
    with pytest.raises(PolicyFileError) as found:
        load_policy(EXPERT / "weights.safetensors")
    assert "policykd import" not in str(found.value)


def test_a_merge_takes_it(balancer, tmp_path, capsys):
    command = ["merge", str(balancer), "--out", str(tmp_path / "student"), "--rounds", "1", "--hidden", "8", "--loss",
               "forward_kl", "--critic", "none", "--set", "envs=2", "updates=20", "validation_episodes=2"]  # fmt: skip
    assert main(command) == 0
    assert "on gym:CartPole-v1 in 10 episodes, random actions" in capsys.readouterr().out
    student = load_policy(tmp_path / "student").manifest
    expert = load_policy(tmp_path / "student" / "experts" / "1-CartPole-v1").manifest
    assert student.parents[0].weights_sha256 == expert.weights_sha256


def test_a_folder_that_holds_a_run_is_refused_before_the_import(balancer, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(["merge", str(balancer), "--out", str(tmp_path)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_an_environment_is_filmed_and_not_viewed(balancer, tmp_path, capsys):
    import_once(balancer, tmp_path / "expert")
    assert main(["view", str(tmp_path / "expert"), "--out", str(tmp_path / "v.html")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "gym:CartPole-v1 is a gymnasium environment, which policykd view cannot show" in told
    assert f"policykd render {tmp_path / 'expert'} --skill 'gym:CartPole-v1'" in told
