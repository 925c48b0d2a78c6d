"""Wrong input: every loss says what it got and what it needs."""

import pytest
import torch

from policykd.kd import functional as kf
from policykd.kd import losses
from policykd.kd.losses.ofd import ofd_margin

Z, Y = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
MAPS, VECTORS = torch.randn(4, 3, 2, 2), torch.randn(4, 6)
LOGITS = {
    "kd": kf.kd,
    "lskd": kf.lskd,
    "dkd": lambda s, t, **o: kf.dkd(s, t, Y, **o),
    "dist": kf.dist,
    "jsd": kf.jsd,
    "mse_logits": kf.mse_logits,
    "mlkd": kf.mlkd,
    "wsld": lambda s, t, **o: kf.wsld(s, t, Y, **o),
    "cwtm": lambda s, t: kf.cwtm(s, t, Y),
}
MODULES = {m.name: m for m in (losses.KD, losses.LSKD, losses.DKD, losses.DIST, losses.JSD, losses.WSLD)}
PAIRS = {
    "at": (kf.at, MAPS),
    "fitnet": (kf.fitnet, MAPS),
    "sp": (kf.sp, VECTORS),
    "cc": (kf.cc, VECTORS),
    "rkd": (kf.rkd, VECTORS),
    "pkt": (kf.pkt, VECTORS),
    "nst": (kf.nst, MAPS),
    "ft": (kf.ft, MAPS),
    "ickd": (kf.ickd, MAPS),
    "reviewkd": (kf.reviewkd, MAPS),
    "ab": (kf.ab, MAPS),
    "cat_kd": (kf.cat_kd, MAPS),
    "vid": (lambda s, t: kf.vid(s, t, torch.ones(3)), MAPS),
    "ofd": (lambda s, t: kf.ofd(s, t, -torch.ones(3)), MAPS),
    "fsp": (lambda s, t: kf.fsp([s, s], [t, t]), MAPS),
    "sdd": (lambda s, t: kf.sdd(s, t, torch.tensor([0, 1, 2, 0])), MAPS),
}


@pytest.mark.parametrize("function", LOGITS.values(), ids=LOGITS)
def test_logits(function):
    with pytest.raises(ValueError, match=r"same shape, got student \(4, 4\) and teacher \(4, 5\)"):
        function(Z[:, :4], Z)
    with pytest.raises(ValueError, match=r"student logits must be finite, got 1 non-finite of 20 values"):
        function(torch.where(torch.arange(20).reshape(4, 5) == 7, torch.nan, Z), Z)
    with pytest.raises(ValueError, match="teacher logits must be finite"):
        function(Z, Z * torch.inf)
    with pytest.raises(TypeError, match=r"floating-point tensor, got a torch.int64 tensor"):
        function(Z.long(), Z)
    with pytest.raises(ValueError, match=r"at least 2 dimensions"):
        function(Z[:, 0], Z[:, 0])
    with pytest.raises(ValueError, match=r"one element, got \(0, 5\)"):
        function(Z[:0], Z[:0])


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperature(name, temperature):
    with pytest.raises(ValueError, match=r"temperature must be finite and above 0, got"):
        LOGITS[name](Z, Z, temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be finite"):
        MODULES[name](temperature=temperature)


ON_LABELS = {
    "ce": kf.ce,
    "tfkd": kf.tfkd,
    "dkd": lambda z, y: kf.dkd(z, z, y),
    "wsld": lambda z, y: kf.wsld(z, z, y),
    "cwtm": lambda z, y: kf.cwtm(z, z, y),
}


@pytest.mark.parametrize("function", ON_LABELS.values(), ids=ON_LABELS)
def test_labels(function):
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\] for 5 classes, got values from 0 to 5"):
        function(Z, torch.tensor([0, 1, 2, 5]))
    with pytest.raises(ValueError, match="got values from -1 to 2"):
        function(Z, torch.tensor([0, 1, 2, -1]))
    with pytest.raises(ValueError, match=r"labels must have shape \(4,\) for a batch of 4, got \(3,\)"):
        function(Z, Y[:3])
    with pytest.raises(TypeError, match="integer tensor"):
        function(Z, Y.bool())


@pytest.mark.parametrize("name", PAIRS)
def test_features(name):
    function, value = PAIRS[name]
    with pytest.raises(ValueError, match=r"batch size, got|need the same shape, got"):
        function(value[:3], value)
    bad = value.clone()
    bad.view(-1)[3] = torch.inf
    for pair, who in (((bad, value), "student"), ((value, bad), "teacher")):
        with pytest.raises(ValueError, match=rf"{who} [\w -]+ must be finite, got 1 non-finite"):
            function(*pair)
    with pytest.raises(TypeError, match="floating-point"):
        function(value.int(), value)


@pytest.mark.parametrize("name", ["at", "nst", "ickd", "cat_kd"])
def test_maps_have_four_dimensions(name):
    with pytest.raises(
        ValueError, match=r"must be \(B, C, H, W\) or \(B, C, L\), got student \(4, 6\) .* for vectors use cc"
    ):
        PAIRS[name][0](VECTORS, VECTORS)


def test_widths_that_must_agree():
    wide = torch.randn(4, 5, 2, 2)
    for name in ("ickd", "cat_kd", "sdd"):
        with pytest.raises(ValueError, match="equal channels"):
            PAIRS[name][0](MAPS, wide)
    with pytest.raises(ValueError, match=r"equal widths here, got 6 and 5 values"):
        kf.cc(VECTORS, VECTORS[:, :5], variant="adjacent")
    with pytest.raises(ValueError, match="projector can match"):
        kf.fitnet(MAPS, wide)
    with pytest.raises(ValueError, match=r"FSP needs equal channels"):
        kf.fsp([MAPS, MAPS], [MAPS, wide])


def test_levels():
    with pytest.raises(ValueError, match="at least 2, got 1 and 1"):
        kf.fsp([MAPS], [MAPS])
    with pytest.raises(ValueError, match="same number of student and teacher levels, at least 1, got 2 and 1"):
        kf.ab([MAPS, MAPS], [MAPS])
    with pytest.raises(ValueError, match="built for 2 levels, got 1"):
        losses.ReviewKD([3, 3], [3, 3])([MAPS], [MAPS])
    with pytest.raises(ValueError, match="one margin per level, got 2 margins for 1 levels"):
        kf.ofd(MAPS, MAPS, [-torch.ones(3), -torch.ones(3)])


def test_channels():
    with pytest.raises(ValueError, match=r"as many student as teacher levels, got \[3\] and \[3, 4\]"):
        losses.OFD([3], [3, 4])
    with pytest.raises(ValueError, match="at least one level"):
        losses.ReviewKD([], [])
    with pytest.raises(TypeError, match="teacher logits must be a floating-point tensor, got a list"):
        kf.kd(Z, Z.tolist())


def test_options():
    for call in (
        lambda: kf.at(MAPS, MAPS, variant="papr"),
        lambda: losses.CC(variant="papr"),
        lambda: losses.KD(variant="papr"),
    ):
        with pytest.raises(ValueError, match=r"variant must be one of .*, got 'papr'"):
            call()
    with pytest.raises(ValueError, match="temperatures must hold at least one temperature, got none"):
        losses.MLKD(temperatures=())
    with pytest.raises(ValueError, match=r"temperature must be finite and above 0, got 0\.0"):
        kf.mlkd(Z, Z, temperatures=(2.0, 0.0))
    with pytest.raises(ValueError, match=r"certainty must be in \(0, 1\), got 1.0"):
        losses.TFKD(certainty=1.0)
    with pytest.raises(ValueError, match="temperature must be finite and above 0, got -1"):
        losses.TFKD(temperature=-1.0)
    with pytest.raises(ValueError, match="at least 2 classes"):
        kf.tfkd(Z[:, :1], torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\)"):
        losses.CE(label_smoothing=1.0)
    with pytest.raises(ValueError, match="needs normalize=True"):
        kf.cc(VECTORS, VECTORS, normalize=False)
    with pytest.raises(ValueError, match="order must be above 0, got 0"):
        kf.cc(VECTORS, VECTORS, order=0)
    with pytest.raises(ValueError, match="margin must be above 0"):
        losses.AB(margin=0.0)
    with pytest.raises(ValueError, match="cells must begin with 1"):
        kf.sdd(MAPS, MAPS, torch.tensor([0, 1, 2, 0]), cells=(2,))
    with pytest.raises(ValueError, match=r"variance must be 3 values above 0"):
        kf.vid(MAPS, MAPS, torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"standard deviations must be above 0, the smallest is 0"):
        ofd_margin(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"no hint regressor from size \(4, 4\) to \(7, 7\)"):
        losses.FitNet((3, 4, 4), (3, 7, 7))
    with pytest.raises(ValueError, match="reduction must be one of"):
        losses.SP(reduction="average")
    with pytest.raises(ValueError, match="candidates must be rows of both banks, got 0 to 9"):
        kf.crd(VECTORS, VECTORS, torch.randn(5, 6), torch.randn(5, 6), torch.tensor([[0, 9]] * 4))
