"""Injection between policy files: what is measured, kept, loaded again, refused, and trained on."""

import json
from dataclasses import replace

import pytest
import torch
from injection_samples import ENCODERS, ROBOT, blind_policy
from policy_samples import forge, refused, store

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.files.policy_file import check_fits, load_policy, read_manifest
from policykd.agents.injection import files, inject, inject_file
from policykd.agents.policy import Policy
from policykd.agents.training import PpoConfig, TrainConfig, train_expert
from policykd.cli.main import main
from policykd.cli.options import parse_encoder
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, OutputError

STEPS = get_skill("biped/steps")
ENCODER = ENCODERS["last"]


@pytest.fixture
def blind(tmp_path):
    return store(tmp_path / "blind", blind_policy()) and tmp_path / "blind"


@pytest.fixture
def sighted(blind, tmp_path):
    inject_file(blind, tmp_path / "sighted", ["terrain"], encoder=ENCODER, observations=128, threads=1)
    return tmp_path / "sighted"


def test_report_and_manifest_hold_what_was_measured(blind, tmp_path):
    out = tmp_path / "sighted.zip"
    report = inject_file(blind, out, ["terrain"], encoder=ENCODER, seed=4, observations=500, threads=1)
    manifest = read_manifest(out)
    assert report.largest_random <= 1e-5
    assert report.largest_on_policy <= 1e-5
    kept = manifest.metrics["largest_difference"]
    assert kept == {"random": report.largest_random, "on_policy": report.largest_on_policy}
    assert (manifest.operation, manifest.seed, manifest.config["mode"]) == ("inject", 4, "exact")
    assert manifest.config["groups"] == ["terrain"] == list(report.groups)
    assert manifest.parents[0].weights_sha256 == read_manifest(blind).weights_sha256
    assert manifest.skills == ("biped/steps",)
    check_fits(manifest, STEPS)
    scaled = inject_file(blind, tmp_path / "scaled", ["terrain"], mode="scaled", observations=500, threads=1)
    assert min(scaled.largest_random, scaled.largest_on_policy) > 1e-4
    assert read_manifest(tmp_path / "scaled").config["scale"] == 0.01


def test_an_injection_that_changes_outputs_is_not_called_exact(blind, tmp_path, monkeypatch):
    def careless(policy, groups, *, mode, **options):
        return inject(policy, groups, mode="scaled", **options)

    monkeypatch.setattr(files, "inject", careless)
    with pytest.raises(ContractError, match="changed the outputs"):
        inject_file(blind, tmp_path / "out", ["terrain"], observations=64, threads=1)
    assert not (tmp_path / "out").exists()


def test_round_trip_of_an_injected_policy(tmp_path):
    policy = inject(blind_policy(), ["terrain"], robot=ROBOT, mode="random", encoder=ENCODER)
    policy.update_normalizer(torch.randn(30, 99))
    written = store(tmp_path / "p", policy)
    loaded = load_policy(tmp_path / "p")
    observations = torch.randn(20, 99)
    assert loaded.manifest == written
    assert loaded.policy.architecture == policy.architecture
    assert torch.equal(loaded.policy(observations), policy(observations))
    assert torch.equal(loaded.policy.value(observations), policy.value(observations))
    assert torch.equal(loaded.policy.normalizer.count, policy.normalizer.count)


def test_plain_policies_keep_the_first_format(blind, sighted):
    plain, injected = (json.loads((p / "manifest.json").read_text()) for p in (blind, sighted))
    assert (plain["format_version"], injected["format_version"]) == (1, 2)
    assert plain.keys() == injected.keys() - {"counted_apart"}
    assert "encoders" not in plain["architecture"]
    assert load_policy(blind).policy.normalizer.count.ndim == 0
    assert sorted(load_policy(blind).policy.state_dict())[:2] == ["actor.0.bias", "actor.0.weight"]


def test_new_student_with_an_encoder_needs_no_injection(tmp_path):
    policy = Policy(STEPS.group_sizes, 11, Architecture((16,), (16,), encoders=(Encoder("terrain"),)), 0)
    assert store(tmp_path / "p", policy).format_version == 2
    assert load_policy(tmp_path / "p").policy.normalizer.count.ndim == 0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"group": "phase"}, "phase"),
        ({"kernel": [51, 4]}, "50 points"),
        ({"kernel": [8]}, "one entry per convolution"),
        ({"channels": [10**6, 3]}, "encoder.channels"),
        ({"channels": "wide"}, "channels"),
        ({"dense": 2.5}, "dense"),
        ({"join": "nowhere"}, "join"),
        ({"surprise": 1}, "surprise"),
        ({"dense": 10**6}, "parameters"),
        ({"dense": 11}, "tensor"),
    ],
)
def test_tampered_encoders_are_refused(sighted, changes, word):
    architecture = json.loads((sighted / "manifest.json").read_text())["architecture"]
    encoder = {**architecture["encoders"][0], **changes}
    forge(sighted, architecture={**architecture, "encoders": [encoder]})
    refused(sighted, word)


def test_other_tampering_with_the_second_format(sighted):
    content = json.loads((sighted / "manifest.json").read_text())
    architecture = content["architecture"]
    for changes in ({"format_version": 1}, {"counted_apart": 1}, {"counted_apart": False}, {"architecture": [1]},
                    {"architecture": {**architecture, "encoders": {}}},
                    {"architecture": {**architecture, "encoders": [3]}},
                    {"architecture": {**architecture, "hidden": []}}):  # fmt: skip
        forge(sighted, **{**content, **changes})
        refused(sighted)
    forge(sighted, **content)
    load_policy(sighted)


@pytest.mark.parametrize("encoder", [None, ENCODER])
def test_injected_policy_is_trained_on(blind, tmp_path, encoder):
    """A blind policy, injected, trains on terrain: new features get statistics and weights, old ones go on."""
    inject_file(blind, tmp_path / "sighted", ["terrain"], encoder=encoder, observations=64, threads=1)
    first = load_policy(tmp_path / "sighted")
    config = TrainConfig(steps=512, segment_steps=512, validation_episodes=2, threads=1,
                         ppo=PpoConfig(envs=16, rollout_steps=16, minibatch=128, epochs=2))  # fmt: skip
    short = replace(STEPS, episode_steps=32)
    result = train_expert([short], tmp_path / "run", config, init=load_policy(tmp_path / "sighted"))
    trained = load_policy(result.policy_path)
    assert trained.manifest.format_version in (2, 3)  # 3 where the skill's id does not say everything
    assert trained.manifest.parents[0].weights_sha256 == first.manifest.weights_sha256
    count = trained.policy.normalizer.count
    # every feature saw the rollout between two updates; new ones saw the 32 * 16 warm-up states, too
    assert (count[49:] - 512).tolist() == (count[:49] - 300).mean().expand(50).tolist()
    name = "actor.0.weight" if encoder is None else "actor.0.layers.1.weight"
    assert trained.policy.state_dict()[name][:, 49 if encoder is None else 24 :].abs().max() > 1e-5


def test_command_line(blind, tmp_path, capsys):
    out = tmp_path / "sighted"
    command = ["inject", str(blind), "--groups", "terrain", "--out", str(out), "--threads", "1"]
    assert main([*command, "--encoder", "terrain:4x8,3x4/2,10", "--hidden", "30", "16"]) == 0
    printed = capsys.readouterr().out
    manifest = read_manifest(out)
    assert f"{manifest.metrics['largest_difference']['on_policy']:.2e} on-policy" in printed
    assert manifest.metrics["observations"] == 10_000
    assert manifest.architecture.encoders == (ENCODER,)
    assert manifest.architecture.hidden == (30, 16)
    assert main(command) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--groups", "terain"], "did you mean terrain"),
        (["--groups", "proprio"], "already reads observation group 'proprio'"),
        ([], "nothing to inject"),
        (["--hidden", "8", "8"], "at least as wide"),
        (["--encoder", "terrain", "--hidden", "30", "30"], "name that group"),
        (["--groups", "terrain", "--encoder", "terrain:16,8"], "--encoder terrain:16,8"),
        (["--groups", "terrain", "--skill", "biped/stepps"], "did you mean biped/steps"),
    ],
)
def test_bad_commands_are_refused(blind, tmp_path, capsys, arguments, message):
    assert main(["inject", str(blind), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_out_must_be_free_and_source_must_exist(blind, tmp_path):
    with pytest.raises(OutputError, match="choose another"):
        inject_file(blind, blind, ["terrain"])
    assert main(["inject", str(tmp_path / "nowhere"), "--groups", "terrain", "--out", str(tmp_path / "out")]) == 2


@pytest.mark.parametrize(
    ("text", "encoder"),
    [
        ("terrain", Encoder("terrain")),
        ("terrain@every", Encoder("terrain", join="every")),
        ("terrain:8x3,32@every", Encoder("terrain", (8,), (3,), (1,), 32, "every")),
        ("terrain:12", Encoder("terrain", (), (), (), 12)),
    ],
)
def test_encoders_on_the_command_line(text, encoder):
    assert parse_encoder(text) == encoder


@pytest.mark.parametrize("text", ["terrain:", "terrain:16x8", "terrain:0x8,3", "terrain:axb,3"])
def test_encoders_that_are_none(text):
    with pytest.raises(ConfigError):
        parse_encoder(text)
