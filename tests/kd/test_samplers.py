"""Class-uniform and super-class-uniform batches: their make-up, what an epoch covers, seeds, and bad input."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from policykd.kd.training.samplers import ClassUniformSampler, SuperclassUniformSampler, same_class_share, super_classes

BALANCED = np.repeat(np.arange(20), 12)
UNEVEN = np.repeat(np.arange(6), [3, 5, 8, 20, 2, 9])


@pytest.mark.parametrize(("labels", "c", "k"), [(BALANCED, 10, 4), (BALANCED, 7, 5), (UNEVEN, 3, 2), (UNEVEN, 2, 3)])
def test_every_batch_has_c_classes_with_k_samples(labels, c, k):
    sampler = ClassUniformSampler(labels, classes=c, per_class=k)
    batches = list(sampler)
    assert len(batches) == len(sampler) > 0
    for batch in batches:
        assert len(batch) == sampler.batch_size
        counts = Counter(labels[batch])
        assert len(counts) == c
        assert set(counts.values()) == {k}
    rows = [row for batch in batches for row in batch]
    assert len(set(rows)) == len(rows)


def test_an_epoch_covers_everything_but_the_remainder():
    assert len({row for batch in ClassUniformSampler(BALANCED, classes=10, per_class=4) for row in batch}) == 240
    # 12 = 2 * 5 + 2: two samples per class are left over, others in other epochs
    sampler = ClassUniformSampler(BALANCED, classes=10, per_class=5)
    covered = [{row for batch in sampler.epoch(number) for row in batch} for number in range(30)]
    assert {len(rows) for rows in covered} == {200}
    assert len(set.union(*covered)) == 240


@pytest.mark.parametrize("c", [1, 2, 3, 5])
def test_no_order_of_drawing_gives_more_batches(c):
    """Groups per class g, batches of c classes: b batches exist exactly when sum_i min(g_i, b) >= b c."""
    for seed in range(20):
        groups = np.random.default_rng(seed).integers(1, 9, 6)
        sampler = ClassUniformSampler(np.repeat(np.arange(6), 2 * groups), classes=c, per_class=2)
        possible = max(b for b in range(60) if np.minimum(groups, b).sum() >= b * c)
        assert len(list(sampler.epoch(seed))) == len(sampler) == possible


def test_epochs_are_a_function_of_seed_and_number():
    one, same = (ClassUniformSampler(BALANCED, classes=10, per_class=4, seed=3) for _ in range(2))
    first, second = list(one), list(one)
    assert first != second
    assert first == list(same.epoch(0))
    same.set_epoch(1)
    assert second == list(same)
    assert first != list(ClassUniformSampler(BALANCED, classes=10, per_class=4, seed=4))


def test_share_of_pairs_of_one_class():
    labels = np.repeat(np.arange(100), 10)
    batches = list(ClassUniformSampler(labels, classes=10, per_class=4))
    shares = {same_class_share(labels[batch]) for batch in batches}
    assert shares == {60 / 780}
    assert round(shares.pop(), 6) == 0.076923
    rng = np.random.default_rng(0)
    random = [same_class_share(labels[rng.permutation(1000)[:40]]) for _ in range(200)]
    assert np.mean(random) == pytest.approx(9 / 999, abs=0.0015)


def test_superclass_batches_stay_inside_one_superclass():
    superclass = np.arange(20) % 3
    sampler = SuperclassUniformSampler(BALANCED, superclass, classes=5, per_class=4, seed=1)
    batches = list(sampler)
    for batch in batches:
        counts = Counter(BALANCED[batch])
        assert len(counts) == 5
        assert set(counts.values()) == {4}
        assert len({superclass[label] for label in counts}) == 1
    rows = [row for batch in batches for row in batch]
    assert len(set(rows)) == len(rows)
    # 7, 7 and 6 classes with three groups each give 4, 4 and 3 batches of five
    assert len(batches) == len(sampler) == 11
    assert {superclass[BALANCED[batch[0]]] for batch in batches} == {0, 1, 2}
    assert batches == list(sampler.epoch(0))


def test_superclasses_follow_the_class_centers():
    labels = torch.arange(6).repeat(5)
    corner = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    features = corner[labels % 3] + 0.1 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    groups = super_classes(features, labels, 3)
    assert groups.dtype == torch.int64
    assert [int(g) for g in groups[:3]] == [int(g) for g in groups[3:]]
    assert sorted(groups[:3].tolist()) == [0, 1, 2]


def test_small_superclasses_join_the_nearest():
    centers = torch.tensor([[0.0], [1.0], [2.0], [20.0], [21.0], [9.0]])
    alone = super_classes(centers, torch.arange(6), 3)
    assert Counter(alone.tolist())[int(alone[5])] == 1
    joined = super_classes(centers, torch.arange(6), 3, smallest=2)
    assert sorted(Counter(joined.tolist()).values()) == [2, 4]
    assert joined[5] == joined[0]


def test_works_as_batch_sampler_of_a_loader():
    data = TensorDataset(torch.arange(240), torch.from_numpy(BALANCED))
    loader = DataLoader(data, batch_sampler=ClassUniformSampler(BALANCED, classes=10, per_class=4))
    assert len(loader) == 6
    assert all(len(y.unique()) == 10 for _, y in loader)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"a batch needs 5 classes with 8 samples each.*only 3"):
        ClassUniformSampler(UNEVEN, classes=5, per_class=8)
    with pytest.raises(ValueError, match="at least 1, got 0 and 2"):
        ClassUniformSampler(UNEVEN, classes=0, per_class=2)
    with pytest.raises(ValueError, match="labels must be integers"):
        ClassUniformSampler(np.zeros(3), classes=1, per_class=1)
    with pytest.raises(ValueError, match="super-classes are given for 3"):
        SuperclassUniformSampler(UNEVEN, [0, 0, 1], classes=1, per_class=1)
    with pytest.raises(ValueError, match=r"of classes \[4, 5\] only 1"):
        SuperclassUniformSampler(UNEVEN, [0, 0, 0, 0, 1, 1], classes=2, per_class=3)
    with pytest.raises(ValueError, match="class 1 has no sample"):
        super_classes(torch.zeros(2, 2), torch.tensor([0, 2]), 1)
    with pytest.raises(ValueError, match=r"count and smallest must be in \[1, 2\]"):
        super_classes(torch.zeros(2, 2), torch.tensor([0, 1]), 3)
