"""The register of losses: complete, honest about its sources, and helpful about typing errors."""

import subprocess
import sys

import pytest

from policykd.kd import functional as kf
from policykd.kd import losses
from policykd.kd.registry import Method, Methods, UnknownNameError, methods

DIMENSIONS = {
    "crd": {"n_data": 50_000, "student_dim": 4, "teacher_dim": 5, "negatives": 8, "dim": 4},
    "vid": {"student_channels": 3, "teacher_channels": 4},
    "ft": {"student_channels": 3, "teacher_channels": 4},
    "ofd": {"student_channels": [3], "teacher_channels": [4]},
    "reviewkd": {"student_channels": [3, 4], "teacher_channels": [4, 5]},
}


def test_every_loss_is_registered_once():
    modules = {name for name in losses.__all__ if name not in ("KDLoss", "GatheredLoss")}
    assert {m.loss for m in methods.values()} == modules
    assert set(methods) == {name for name in kf.__all__ if name != "ofd_margin"}


@pytest.mark.parametrize("name", list(methods))
def test_record_agrees_with_its_module(name):
    method = methods[name]
    kind = method.load()
    assert kind.name == name
    assert method.batch_coupled == kind.batch_coupled
    assert ("targets" in method.needs) == ("target" in kind.inputs)
    assert ("indices" in method.needs) == ("index" in kind.inputs)
    assert ("logits" in method.needs) == (kind.signal == "logits")
    assert method.year > 2010
    assert method.equation
    assert method.title
    for preset in method.presets:
        chosen = methods.get(name, preset=preset.name)
        assert chosen.preset is preset
        assert preset.source
        assert preset.mark in ("read", "recalled", "ours")
        module = chosen.build(**DIMENSIONS.get(name, {}))
        if method.trainable is False:
            assert not list(module.parameters())


@pytest.mark.parametrize("name", [m.name for m in methods.values() if m.variants and m.name not in ("crd", "sdd")])
def test_variants_are_those_of_the_function(name):
    for variant in methods[name].variants:
        methods[name].build(variant=variant, **DIMENSIONS.get(name, {}))
    with pytest.raises(ValueError, match="variant must be one of"):
        methods[name].build(variant="nonsense", **DIMENSIONS.get(name, {}))


def test_list():
    assert [m.name for m in methods.list(needs="logits", family="relational")] == ["dist", "mlkd"]
    assert {m.name for m in methods.list(needs="targets")} == {"ce", "tfkd", "dkd", "wsld", "cwtm", "sdd"}
    assert [m.name for m in methods.list() if m.stateful] == ["crd"]
    assert len(methods.list()) == len(methods) == 28


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="unknown method 'fitnets'; did you mean fitnet"):
        methods.get("fitnets")
    with pytest.raises(UnknownNameError, match="unknown preset of crd: 'repdistill'; did you mean repdistiller"):
        methods.get("crd", preset="repdistill")
    with pytest.raises(UnknownNameError, match="unknown family 'relations'; did you mean relational"):
        methods.list(family="relations")
    with pytest.raises(UnknownNameError, match="unknown need 'label'"):
        methods.list(needs="label")


def test_register_refuses_a_taken_name():
    record = methods["kd"]
    with pytest.raises(ValueError, match="registered already"):
        Methods([record, record])
    assert isinstance(record, Method)


def test_reading_the_register_loads_no_torch():
    code = "import sys; from policykd.kd.registry import methods; methods.get('crd'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_package_names_are_found_lazily():
    import policykd.kd as kd

    assert kd.KD is losses.KD
    assert kd.methods is methods
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = kd.Nonsense
