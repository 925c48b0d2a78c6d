"""The registry of losses: complete, honest about its sources, and helpful about typing errors."""

import subprocess
import sys
from dataclasses import replace

import pytest

from policykd.errors import ConfigError, UnknownNameError
from policykd.kd import catalog, losses
from policykd.kd import functional as kf
from policykd.kd.registry import LOSSES, LossInfo
from policykd.names import public_modules

DIMENSIONS = {
    "crd": {"n_data": 50_000, "student_dim": 4, "teacher_dim": 5, "negatives": 8, "dim": 4},
    "vid": {"student_channels": 3, "teacher_channels": 4},
    "ft": {"student_channels": 3, "teacher_channels": 4},
    "ofd": {"student_channels": [3], "teacher_channels": [4]},
    "reviewkd": {"student_channels": [3, 4], "teacher_channels": [4, 5]},
    "pad": {"student_dim": 3, "teacher_dim": 4},
    "kta": {"student_channels": 3, "teacher_channels": 4},
    "semckd": {"student_channels": [3, 4], "teacher_channels": [4, 5]},
}


def test_every_loss_has_one_file_one_record_and_one_function():
    files = set(public_modules(losses.__name__))
    assert files == set(public_modules(catalog.__name__)) == set(LOSSES) == set(kf.__all__)
    for name in LOSSES:
        kind = LOSSES[name].load()
        assert LOSSES[name].loss == f"policykd.kd.losses.{name}:{kind.__name__}"
        assert kind is getattr(losses, kind.__name__)
        assert callable(getattr(kf, name))
    assert {LOSSES[name].load().__name__ for name in LOSSES} <= set(losses.__all__)


def test_modules_and_functions_are_listed():
    assert {"KD", "ReviewKD", "loss_module"} <= set(dir(losses))
    assert {"kd", "reviewkd"} <= set(dir(kf))
    found = {}
    exec("from policykd.kd.functional import *\nfrom policykd.kd.losses import *", found)
    assert found["dkd"] is kf.dkd
    assert found["DKD"] is losses.DKD
    for module, name in ((kf, "dkdd"), (kf, "DKD"), (losses, "DKDD"), (losses, "Dkd")):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(module, name)


@pytest.mark.parametrize("name", LOSSES)
def test_record_agrees_with_its_module(name):
    info = LOSSES[name]
    kind = info.load()
    assert kind.name == info.name == name
    assert info.batch_coupled == kind.batch_coupled
    assert ("targets" in info.needs) == ("target" in kind.inputs)
    assert ("indices" in info.needs) == ("index" in kind.inputs)
    assert ("logits" in info.needs) == (kind.signal == "logits")
    assert 1950 < info.year < 2100
    assert info.equation
    assert info.title
    for preset in info.presets:
        chosen = LOSSES.get(name, preset=preset.name)
        assert chosen.preset is preset
        assert preset.source
        assert preset.mark in ("read", "recalled", "ours")
        module = chosen.build(**DIMENSIONS.get(name, {}))
        if info.trainable is False:
            assert not list(module.parameters())


@pytest.mark.parametrize("name", [m.name for m in LOSSES.values() if m.variants and m.name not in ("crd", "sdd")])
def test_variants_are_those_of_the_function(name):
    for variant in LOSSES[name].variants:
        LOSSES[name].build(variant=variant, **DIMENSIONS.get(name, {}))
    with pytest.raises(ConfigError, match="variant must be one of"):
        LOSSES[name].build(variant="nonsense", **DIMENSIONS.get(name, {}))


def test_list():
    assert [m.name for m in LOSSES.list(needs="logits", family="relational")] == ["dist", "mlkd"]
    on_labels = {
        "selective_kd",
        "ce",
        "tfkd",
        "dkd",
        "wsld",
        "cwtm",
        "sdd",
        "ground_truth_mse",
        "multi_teacher_kd",
        "std_scaled_kd",
        "nkd",
        "ofa_kd",
        "bce",
        "gaussian_nll",
    }
    assert {m.name for m in LOSSES.list(needs="targets")} == on_labels
    assert [m.name for m in LOSSES.list() if m.stateful] == ["crd"]
    assert [m.name for m in LOSSES.list()] == list(LOSSES) == list(LOSSES.names())


def test_order_is_that_of_family_rank_and_name():
    assert list(LOSSES)[:5] == ["ce", "tfkd", "bce", "gaussian_nll", "kd"]
    families = list(dict.fromkeys(info.family for info in LOSSES.values()))
    assert families == ["baseline", "response", "relational", "contrastive", "feature"]
    try:
        for name in ("zeta", "alpha"):  # without a rank: behind the ranked ones of their family, by name
            LOSSES.register(name, replace(LOSSES["ce"], name=name, rank=LossInfo.rank))
        assert list(LOSSES)[:6] == ["ce", "tfkd", "alpha", "bce", "gaussian_nll", "zeta"]
    finally:
        LOSSES.unregister("zeta")
        LOSSES.unregister("alpha")


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="unknown loss 'fitnets'; did you mean fitnet"):
        LOSSES.get("fitnets")
    with pytest.raises(UnknownNameError, match="unknown preset of crd: 'repdistill'; did you mean repdistiller"):
        LOSSES.get("crd", preset="repdistill")
    with pytest.raises(UnknownNameError, match="unknown preset of mse_logits"):
        _ = LOSSES["mse_logits"].default_preset
    with pytest.raises(UnknownNameError, match="unknown family 'relations'; did you mean relational"):
        LOSSES.list(family="relations")
    with pytest.raises(UnknownNameError, match="unknown need 'label'"):
        LOSSES.list(needs="label")


def test_register_refuses_a_taken_and_a_wrong_name():
    record = LOSSES["kd"]
    assert LOSSES.register("kd", record) is record
    with pytest.raises(ConfigError, match="another loss is already called 'kd'"):
        LOSSES.register("kd", replace(record, title="Other"))
    with pytest.raises(ConfigError, match="loss 'kd' cannot be registered under another name, 'kd2'"):
        LOSSES.register("kd2", record)
    with pytest.raises(ConfigError, match="loss 'kd3' must be a LossInfo, not a str"):
        LOSSES.register("kd3", "kd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "answers"}, "loss kd: family is 'answers'; it must be one of baseline, response"),
        ({"needs": ("logits", "labels")}, "loss kd: needs is 'labels'"),
        ({"default": "mdistiller"}, "loss kd: default is 'mdistiller'; it must be one of repdistiller, paper_speech"),
        ({"tuned": "margin"}, "loss kd: tuned is 'margin'"),
        ({"weight_factor": 0.0}, "loss kd: weight_factor must be above 0"),
    ],
)
def test_a_record_out_of_range_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(LOSSES["kd"], **change)


def test_reading_the_registry_loads_no_torch():
    code = "import sys; from policykd.kd.registry import LOSSES; LOSSES.list(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_package_names_are_found_lazily():
    import policykd.kd as kd

    assert kd.KD is losses.KD
    assert kd.LOSSES is LOSSES
    assert kd.functional is kf
    for name in ("Nonsense", "nonsense"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(kd, name)
