"""Every registered loss is placed in the reference networks: it runs, teaches, and compares what it says."""

import math

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.benchmark import connected_placements
from policykd.kd.benchmark.cells import train
from policykd.kd.benchmark.config import load_task, make_network
from policykd.kd.benchmark.placements import (
    PLACEMENTS,
    objective,
    obstacle,
    placement_of,
    preactivations,
    runnable,
    train_paraphraser,
)
from policykd.kd.benchmark.reference import bench_config
from policykd.kd.benchmark.settings import FIRST_STAGE, Setting, default_setting
from policykd.kd.losses.ofd import ofd_margin
from policykd.kd.networks import WideResNet
from policykd.kd.registry import LOSSES
from policykd.kd.tasks import load
from policykd.kd.training.batches import Batches

PLACED = sorted(name for name in LOSSES if not placement_of(name).unavailable)


def bound(context, name, setting=None, epochs=240):
    return objective(name, context.placement_context(), setting or default_setting(name), epochs)


def first_batch(context, name, step, setting=None):
    terms, student = bound(context, name, setting), context.student()
    batch = next(Batches(context.task.train, 24, seed=1).epoch(0))
    terms.build(student, context.teacher, batch.x[:2], batch.index[:2])
    return terms(student, context.teacher, batch.x, batch.targets, index=batch.index, step=step, total=240.0), student


def test_every_placement_is_used_and_every_record_names_one():
    named = {LOSSES[name].placement for name in LOSSES}
    assert {name for name in named if ":" not in name} == set(PLACEMENTS)
    for name in LOSSES:
        assert placement_of(name) is PLACEMENTS.resolve(LOSSES[name].placement)
    own = {
        f"{connected_placements.__name__}:{name}"
        for name in vars(connected_placements)
        if name.isupper() and not name.startswith("_")
    }
    assert {name for name in named if ":" in name} == own


@pytest.mark.parametrize("name", PLACED)
def test_the_own_term_reaches_the_student(context, name):
    setting = default_setting(name)
    out, student = first_batch(context(name), name, 239.0 if not setting.first_stage else 0.0)
    own = [term for term in out.terms if term not in ("labels", "soft")]
    assert own
    assert all(term.startswith(name) for term in own)
    assert {out.weights[term] for term in own} == {setting.weight}
    out.loss.backward()
    reached = [float(p.grad.abs().sum()) for p in student.parameters() if p.grad is not None]
    assert sum(reached) > 0


@pytest.mark.parametrize("name", PLACED)
def test_a_cell_trains(context, name):
    student, times = train(context(name), name, default_setting(name))
    assert not student.training
    assert all(math.isfinite(value) and value >= 0 for value in times.values())
    assert any(
        not torch.equal(a, b) for a, b in zip(student.parameters(), context(name).student().parameters(), strict=True)
    )


def test_weights_of_labels_and_plain_kd_stand_beside_the_own_term(context):
    out, _ = first_batch(context("ickd"), "ickd", 0.0)
    assert out.weights == {"ickd": 2.5, "labels": 1.0, "soft": 1.0}
    expected = sum(weight * float(out.terms[name]) for name, weight in out.weights.items())
    assert float(out.loss.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("epoch", "weight"), [(0.0, 0.0), (10.0, 0.5), (20.0, 1.0), (200.0, 1.0)])
def test_a_warm_up_keeps_its_share_of_the_published_epochs(context, epoch, weight):
    out, _ = first_batch(context("dkd"), "dkd", epoch)  # mdistiller: 20 of 240 epochs
    assert out.weights == {"dkd": pytest.approx(weight), "labels": 1.0}


def test_methods_with_an_initialization_phase_train_features_first(context):
    end = FIRST_STAGE * 240
    before, _ = first_batch(context("ab"), "ab", end - 1)
    after, _ = first_batch(context("ab"), "ab", end)
    assert before.weights == {"ab": default_setting("ab").weight, "labels": 0.0}
    assert after.weights == {"ab": 0.0, "labels": 1.0}


def test_the_paraphraser_is_trained_and_frozen_and_the_same_every_time(context):
    made = context("ft")
    first, second = bound(made, "ft").losses["ft"], bound(made, "ft").losses["ft"]
    assert not any(p.requires_grad for p in first.paraphraser.parameters())
    assert any(p.requires_grad for p in first.translator.parameters())
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    maps = made.some_features("layer3", 48).repeat(20, 1, 1, 1)
    with torch.no_grad():
        before = float(first.paraphraser.reconstruction_loss(maps))
    train_paraphraser(first, maps)
    assert not any(p.requires_grad for p in first.paraphraser.parameters())
    with torch.no_grad():
        assert float(first.paraphraser.reconstruction_loss(maps)) < 0.7 * before


def test_overhaul_takes_its_margins_from_the_norms_before_the_taps(context):
    made = context("ofd")
    with torch.no_grad():
        made.teacher.layer2[0].norm2.bias.copy_(torch.linspace(-1, 1, 6))
    loss = bound(made, "ofd").losses["ofd"]
    norm = made.teacher.layer2[0].norm2
    torch.testing.assert_close(loss.margins[1], ofd_margin(norm.bias.data, norm.weight.data.abs()))
    assert bool((loss.margins[1] < 0).all())


def test_memory_has_one_row_per_training_sample(context):
    loss = bound(context("crd"), "crd").losses["crd"]
    assert loss.student_bank.shape == (48, 16)
    assert (loss.student_embed.in_features, loss.teacher_embed.in_features) == (4, 8)


def test_preactivations_are_what_the_last_activation_of_a_stage_receives(context):
    made = context("ab")
    taps = preactivations(made.teacher, ("layer1", "layer3"))
    features = {tap: made.some_features(tap, 5) for tap in (*taps, "layer3")}
    assert taps == ("layer1.0.act2:input", "layer3.0.act2:input")
    torch.testing.assert_close(features[taps[1]].relu(), features["layer3"])
    assert bool((features[taps[1]] < 0).any())


def test_series_leave_out_the_losses_on_images():
    options = {"train": 36, "val": 12, "test": 12, "length": 32}
    config = bench_config("timeseries", task_options=options)
    assert {"ce", "kd", "sp", "rkd", "pkt", "cc", "crd", "dist"} <= set(config.methods)
    assert not {"at", "fitnet", "ofd", "sdd"} & set(config.methods)
    reasons = runnable(bench_config("timeseries", ("ce", "at"), task_options=options))
    assert reasons["ce"] == ""
    assert "must be images" in reasons["at"]


def test_a_network_without_the_layers_is_named():
    task = load("textures", train=20, val=10, test=10, side=8)
    assert "layer1.0 is not a residual block" in obstacle("ab", task, WideResNet(10))
    assert obstacle("at", task, WideResNet(10)) == ""


def test_taps_of_the_cache_are_those_that_the_terms_ask_for(context):
    made = context("ce", "reviewkd")
    student, _ = train(made, "reviewkd", Setting(weight=1.0))
    assert set(made._features) == {"layer1", "layer2", "layer3", "pool"}
    assert load_task(made.config, 0).classes == student.fc.out_features
    assert make_network("resnet8:2,2,3,4", None, made.task).fc.in_features == 4


def test_a_loss_without_a_place_in_benchmarks_says_why():
    task = load("textures", train=20, val=10, test=10, side=8)
    assert "its networks no head" in obstacle("sskd", task, WideResNet(10))
    with pytest.raises(ConfigError, match=r"sskd cannot be benchmarked: it compares .*, but the batches"):
        placement_of("sskd").place(LOSSES["sskd"], None, default_setting("sskd"))
