"""Feature losses on maps (B, C, L) are those on maps (B, C, 1, L), module weights included."""

import pytest
import torch

from policykd.kd import functional as kf
from policykd.kd import losses


def maps(channels, length, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, channels, length, generator=generator, dtype=torch.float64)


S, T, SAME = maps(3, 8, 0), maps(4, 6, 1), maps(3, 8, 2)
FUNCTIONS = {
    "at": (kf.at, S, T),
    "nst": (kf.nst, S, T),
    "ickd": (kf.ickd, S, maps(3, 5, 3)),
    "ft": (kf.ft, S, SAME),
    "fitnet": (kf.fitnet, S, SAME),
    "vid": (lambda s, t: kf.vid(s, t, torch.ones(3, dtype=s.dtype)), S, SAME),
    "ab": (kf.ab, S, SAME),
    "ofd": (lambda s, t: kf.ofd(s, t, -torch.ones(3, dtype=s.dtype)), S, SAME),
    "reviewkd": (lambda s, t: kf.reviewkd(s, t, pools=()), S, SAME),
    "fsp": (lambda s, t: kf.fsp([s, s[..., :4]], [t, t[..., :2]]), S, SAME),
    "cat_kd": (lambda s, t: kf.cat_kd(s, t, pool_size=None), S, SAME),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function, student, teacher = FUNCTIONS[name]
    flat = function(student, teacher)
    torch.testing.assert_close(flat, function(student[:, :, None], teacher[:, :, None]), rtol=1e-12, atol=1e-14)
    assert float(flat) > 0


def test_pools_and_cells_are_along_the_length():
    s, t = S.clone(), SAME
    halves = [m.unflatten(2, (2, 4)).mean(3) for m in (s, t)]
    unit = [h / h.norm(dim=2, keepdim=True) for h in halves]
    torch.testing.assert_close(kf.cat_kd(s, t, pool_size=2), (unit[0] - unit[1]).square().mean())
    gaps = [((s - t) ** 2).mean(), ((halves[0] - halves[1]) ** 2).mean(), ((s.mean(2) - t.mean(2)) ** 2).mean()]
    torch.testing.assert_close(kf.reviewkd(s, t, pools=(2, 1)), (gaps[0] + gaps[1] / 2 + gaps[2] / 4) / 1.75)
    labels = torch.tensor([0, 1, 2, 0, 1])
    regions = [m.mean(2) for m in (s, t)], [h[:, :, 0] for h in halves], [h[:, :, 1] for h in halves]
    right = [(z_t.argmax(1) == labels) for _, z_t in regions]
    values = [
        torch.where(r == right[0], 1.0, 2.0) * kf.kd(z_s, z_t, reduction="none")
        for r, (z_s, z_t) in zip(right, regions, strict=True)
    ]
    torch.testing.assert_close(kf.sdd(s, t, labels, cells=(1, 2)), torch.stack(values).mean())


MODULES = {
    "ab": (lambda dims: losses.AB([3], [4], dims=dims), S, maps(4, 8, 1)),
    "ickd": (lambda dims: losses.ICKD(3, 4, dims=dims), S, T),
    "ofd": (lambda dims: losses.OFD([3], [4], dims=dims), S, maps(4, 8, 1)),
    "vid": (lambda dims: losses.VID(3, 4, dims=dims), S, T),
    "ft": (lambda dims: losses.FT(3, 4, dims=dims), S, T),
    "reviewkd": (lambda dims: losses.ReviewKD([3, 3], [4, 4], pools=(), dims=dims), [S, S[..., :4]], [T, T[..., :3]]),
    "fitnet": (lambda dims: losses.FitNet((3, 8)[:1] + (1, 8)[2 - dims :], (4, 6)[:1] + (1, 6)[2 - dims :]), S, T),
}


def two_dimensional(weights, same=True):
    """One-dimensional kernels as the middle row of two-dimensional ones, or as their only row."""
    widened = {}
    for name, weight in weights.items():
        if same and weight.dim() == 3 and weight.shape[2] == 3:
            kernel = weight.new_zeros(*weight.shape, 3)
            kernel[:, :, 1] = weight
            widened[name] = kernel
        else:
            widened[name] = weight[:, :, None] if weight.dim() == 3 else weight
    return widened


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    torch.manual_seed(0)
    make, student, teacher = MODULES[name]
    one, two = make(1).double(), make(2).double()
    two.load_state_dict(two_dimensional(one.state_dict(), same=name != "fitnet"))
    lifted = [
        [m[:, :, None] for m in side] if isinstance(side, list) else side[:, :, None] for side in (student, teacher)
    ]
    torch.testing.assert_close(one(student, teacher), two(*lifted), rtol=1e-10, atol=1e-12)


def test_maps_of_other_dimensions_are_refused():
    for function in (kf.at, kf.nst):
        with pytest.raises(ValueError, match=r"\(B, C, L\), got student \(5, 3, 8\) and teacher \(5, 3, 1, 8\)"):
            function(S, S[:, :, None])
    with pytest.raises(ValueError, match=r"must both be \(B, C, H, W\) or both \(B, C, L\)"):
        losses.VID(3, 4)(S[:, :, 0], T[:, :, 0])
    with pytest.raises(ValueError, match="dims must be one of 1, 2, got 3"):
        losses.VID(3, 4, dims=3)
