"""Tokens (B, T, D) are not read as maps (B, C, L): by the layer, by the events of the outputs, with a way around."""

import pytest
import torch
from torch import nn

from policykd.errors import ConfigError, ShapeError
from policykd.kd.losses import AT, CE, CWD, FT, ICKD, KD, KTA, NST, SP, VID, FitNet
from policykd.kd.objective import Objective, Outputs
from policykd.kd.objective.projectors import Chain, Conv1x1, Identity, Linear, Pool, ProjectorError, TokenLinear, Tokens
from policykd.kd.objective.token_axes import map_readers
from policykd.kd.training.teacher_cache import TeacherCache

X, Y = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])


class Pooled(nn.Module):
    """Tokens of a layer, pooled over time before the classifier."""

    def __init__(self, width, layer=None):
        super().__init__()
        self.tokens = layer or nn.Linear(8, width)
        self.fc = nn.Linear(width, 3)

    def forward(self, x):
        return self.fc(self.tokens(x).mean(1))


class Convolved(nn.Module):
    """A 1-D map (B, C, L)."""

    def __init__(self, width):
        super().__init__()
        self.tokens, self.fc = nn.Conv1d(5, width, 3), nn.Linear(width, 3)

    def forward(self, x):
        return self.fc(self.tokens(x).mean(2))


class Opaque(nn.Module):
    """A layer of which nothing is known."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, width))

    def forward(self, x):
        return x @ self.weight


def loss(term, student, teacher, y=Y, **options):
    objective = Objective(ce=CE(), feature=term, **options)
    return objective.build(student, teacher, X)(student, teacher, X, y).terms["feature"]


WRONG = {
    "Conv1x1": lambda: FitNet().on("tokens", student_proj=Conv1x1()),
    "Pool": lambda: FitNet().on("tokens", student_proj=Chain(Pool(1), Linear()), teacher_proj=Pool(1)),
    "AT": lambda: AT().on("tokens"),
    "NST": lambda: NST().on("tokens"),
    "ICKD": lambda: ICKD().on("tokens"),
    "CWD": lambda: CWD().on("tokens"),
    "VID": lambda: VID(5, 5, dims=1).on("tokens"),
    "FT": lambda: FT(5, 5, dims=1).on("tokens"),
    "KTA": lambda: KTA(5, 5).on("tokens"),
}
LAYERS = {
    "Linear": lambda width: nn.Linear(8, width),
    "LayerNorm": lambda width: nn.Sequential(nn.Linear(8, width), nn.LayerNorm(width)),
    "Linear behind ReLU and dropout": lambda width: nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Dropout()),
    "TransformerEncoderLayer": lambda width: nn.Sequential(
        nn.Linear(8, width), nn.TransformerEncoderLayer(width, 1, width, batch_first=True)
    ),
}


@pytest.mark.parametrize("reader", WRONG)
def test_tokens_of_a_layer_with_features_last_are_not_read_as_maps(reader):
    with pytest.raises(ProjectorError, match=r"'tokens' gives tokens .*put the projector Tokens\(\) before it"):
        loss(WRONG[reader](), Pooled(6), Pooled(7).eval())


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_that_give_tokens_are_known(layer):
    networks = [Pooled(width, LAYERS[layer](width)) for width in (6, 7)]
    with pytest.raises(ProjectorError, match="has its features on the last axis, but AT reads axis 1 as channels"):
        loss(AT().on("tokens"), networks[0], networks[1].eval())


def test_the_cures_that_the_message_names_read_the_right_axis():
    student, teacher = Pooled(6), Pooled(7).eval()
    own, its = student.tokens(X), teacher.tokens(X)
    found = loss(AT().on("tokens", student_proj=Tokens(), teacher_proj=Tokens()), student, teacher)
    torch.testing.assert_close(found, AT()(own.transpose(1, 2), its.transpose(1, 2)).detach())
    assert loss(FitNet().on("tokens", student_proj=TokenLinear()), student, teacher) > 0
    vouched = loss(AT().on("tokens", student_proj=Identity(), teacher_proj=Identity()), student, teacher)
    torch.testing.assert_close(vouched, AT()(own, its).detach())


def test_the_teacher_is_checked_too_and_maps_of_convolutions_are_not_refused():
    with pytest.raises(ProjectorError, match="'tokens' gives tokens"):
        loss(AT().on("tokens"), Convolved(6), Pooled(7).eval())
    assert loss(AT().on("tokens"), Convolved(6), Convolved(7).eval()) > 0
    assert loss(FitNet().on("tokens", student_proj=Conv1x1()), Convolved(6), Convolved(7).eval()) > 0
    assert loss(SP().on("tokens"), Pooled(6), Pooled(7).eval()) >= 0  # a loss on whole features reads no axis


def test_features_that_share_the_event_axis_of_the_outputs_are_tokens_whatever_layer_gives_them():
    student, teacher = (nn.Sequential(Opaque(width), nn.Linear(width, 3)) for width in (6, 7))
    y = torch.randint(0, 3, (4, 5))
    with pytest.raises(ProjectorError, match=r"axis 1 has as many places as the outputs BTC have events \(5\)"):
        loss(AT().on("0"), student, teacher.eval(), y, outputs=Outputs("BTC"))
    cache = TeacherCache(teacher(X).detach().numpy(), {"0": teacher[0](X).detach().numpy()}, name="stored")
    objective = Objective(
        ce=CE(), feature=AT().on("0", student_proj=Identity(), teacher_proj=None), outputs=Outputs("BTC")
    )
    with pytest.raises(ProjectorError, match="'0' gives tokens"):
        objective(student, cache, X, y, index=torch.arange(4))


def test_terms_by_event_and_terms_on_logits_read_no_map():
    terms = Objective(ce=CE(), kd=KD(), rows=FitNet().on("0").per_event(), outputs=Outputs("BTC")).terms
    assert map_readers(terms) == ([], [])


@pytest.mark.parametrize("make", [lambda: VID(4, 6), lambda: FT(4, 6), lambda: KTA(4, 6)])
def test_losses_with_own_layers_do_not_take_a_batch_of_series_for_one_image(make):
    """With as many samples as channels, torch's convolution would accept the wrong reading silently."""
    with pytest.raises((ShapeError, ConfigError), match=r"dims=1|\(B, C, H, W\)"):
        make()(torch.randn(4, 4, 12), torch.randn(4, 6, 12))
