"""The views and the terms of SSKD against a loop, its networks, and the experiment."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.experiments.system import Fit
from policykd.kd.losses.sskd import head_loss, split_views, view_similarity
from policykd.kd.networks.headed_cnn import HeadedCNN, SimilarityHead, ViewOutputs, rotated_views
from policykd.kd.systems.sskd import EXPERIMENT, SSKDCell, SSKDRecipe, find_original


def test_views():
    images = torch.randn(3, 2, 8, 8)
    views = rotated_views(images)
    assert views.shape == (3, 4, 2, 8, 8)
    assert torch.equal(views[:, 0], images)
    assert torch.equal(rotated_views(views[:, 3])[:, 1], images)  # a fourth quarter turn
    normal, rotated = split_views(views.flatten(0, 1))
    assert torch.equal(normal, images)
    assert torch.equal(rotated[4], views[1, 2])


def test_head_keeps_the_width():
    head = SimilarityHead(5)
    assert head(torch.randn(8, 5)).shape == (8, 5)
    assert [tuple(p.shape) for p in head.parameters()] == [(5, 5), (5,), (5, 5), (5,)]


def test_views_and_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="must be square"):
        rotated_views(torch.zeros(1, 1, 8, 6))
    with pytest.raises(ConfigError, match="two convolutions"):
        HeadedCNN((4,))


def test_a_headed_network_fits_any_images_and_classes():
    network = HeadedCNN((4, 6), in_channels=3, classes=7)
    found = network.outputs(torch.randn(2, 3, 8, 8))
    assert (found.logits.shape, found.embeddings.shape) == ((8, 7), (8, 6))
    assert network(torch.randn(2, 3, 8, 6)).shape == (2, 7)


def outputs(seed, batch=4, width=6, classes=5):
    rng = np.random.default_rng(seed)
    return ViewOutputs(*(torch.from_numpy(rng.normal(size=(4 * batch, n))) for n in (classes, width)))


def test_terms_without_rotations_are_plain_distillation():
    student, teacher, labels = outputs(0), outputs(1), torch.tensor([0, 3, 1, 2])
    terms = SSKDRecipe(rotated_weight=0.0, similarity_weight=0.0, rotated_share=0.0)
    normal, normal_t = student.logits[::4], teacher.logits[::4]
    expected = 0.1 * kf.ce(normal, labels) + 0.9 * kf.kd(normal, normal_t, temperature=4.0)
    torch.testing.assert_close(terms.objective(student, teacher, labels), expected)


def test_terms_against_a_loop():
    student, teacher, labels = outputs(0), outputs(1), torch.tensor([0, 3, 1, 2])

    def p(z, t):
        e = np.exp(z / t - (z / t).max())
        return e / e.sum()

    def kl(teacher_row, student_row, t):
        a, b = p(teacher_row, t), p(student_row, t)
        return t**2 * (a * np.log(a / b)).sum()

    (z_s, g_s), (z_t, g_t) = ((o.logits.numpy(), o.embeddings.numpy()) for o in (student, teacher))
    total = np.mean([-np.log(p(z_s[4 * i], 1)[labels[i]]) for i in range(4)]) * 0.1
    total += 0.9 * np.mean([kl(z_t[4 * i], z_s[4 * i], 4) for i in range(4)])
    total += 2.7 * np.mean([kl(z_t[j], z_s[j], 4) for j in range(16) if j % 4])

    def row(g, j):
        return np.array([g[j] @ g[4 * i] / np.linalg.norm(g[j]) / np.linalg.norm(g[4 * i]) for i in range(4)])

    rotated = [j for j in range(16) if j % 4]
    ranks = [int((row(g_t, j) > row(g_t, j)[j // 4]).sum()) for j in rotated]
    keep = ranks.count(0) + int(0.75 * (12 - ranks.count(0)))
    kept = sorted(range(12), key=lambda place: (ranks[place], place))[:keep]
    total += 10 * np.mean([kl(row(g_t, rotated[k]), row(g_s, rotated[k]), 0.5) for k in kept])
    assert 0 < ranks.count(0) < 12
    assert float(SSKDRecipe().objective(student, teacher, labels)) == pytest.approx(total, rel=1e-10)


def test_training_the_head_leaves_the_rest_untouched():
    images = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = HeadedCNN((4, 6))
    network(images)  # running statistics are no longer those of the start
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit = Fit((4, 6), steps=40, batch_size=16, lr=5e-3)
    SSKDCell(0, EXPERIMENT.config).train_head(network, find_original, images, fit, None)
    after = network.state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"head"}
    with torch.no_grad():
        scores = view_similarity(network.outputs(images[:16]).embeddings)
        untrained = view_similarity(HeadedCNN((4, 6)).eval().outputs(images[:16]).embeddings)
    assert head_loss(scores) < head_loss(untrained)


def test_a_cell_of_the_experiment_is_a_function_of_its_seed():
    config = replace(
        EXPERIMENT.config,
        teacher=replace(EXPERIMENT.config.teacher, steps=10),
        student=replace(EXPERIMENT.config.student, steps=4),
        shares=(0.2, 0.8),
        head_steps=10,
    )
    cell = EXPERIMENT.run(0, config)
    EXPERIMENT.check_cell(cell)
    assert cell == EXPERIMENT.run(0, config)
    assert torch.is_grad_enabled()
    assert cell["transferred rows"]["wrong rows"] < cell["all rows"]["wrong rows"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": Fit((8, 16), steps=4, batch_size=101)}, "student.batch_size"),
        ({"similarity_share": 1.5}, "similarity_share"),
        ({"rotated_weight": -1.0}, "rotated_weight"),
        ({"similarity_temperature": 0.0}, "similarity_temperature"),
    ],
)
def test_configurations_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        SSKDRecipe(**change)
