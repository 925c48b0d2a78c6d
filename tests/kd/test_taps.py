"""Taps read the right tensors, whatever the layers do, and leave nothing behind."""

import copy

import pytest
import torch
from torch import nn

from policykd.kd.networks import resnet
from policykd.kd.objective.taps import TapError, TapPoint, Taps


class Branching(nn.Module):
    """A shared activation called twice, a layer with keyword inputs, and tuple and dict outputs."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.act = nn.ReLU(inplace=inplace)
        self.second = nn.Linear(6, 6)
        self.memory = nn.LSTM(6, 5, batch_first=True)
        self.split = Split()
        self.fc = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act(self.second(self.act(self.first(x))))
        out, _ = self.memory(h.unsqueeze(1))
        parts = self.split(out[:, 0], scale=2.0)
        return self.fc(parts["left"])


class Split(nn.Module):
    def forward(self, x: torch.Tensor, *, scale: float) -> dict[str, torch.Tensor]:
        return {"left": x * scale, "right": x}


@pytest.fixture
def model() -> Branching:
    torch.manual_seed(0)
    return Branching()


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_outputs_and_inputs_are_the_tensors_that_flow(model):
    x = torch.randn(7, 4)
    with Taps({"first": "first", "into_fc": "fc:input"}).attach(model) as seen:
        logits = model(x)
    torch.testing.assert_close(seen["first"], x @ model.first.weight.T + model.first.bias)
    torch.testing.assert_close(seen["into_fc"] @ model.fc.weight.T + model.fc.bias, logits)


def test_repeated_calls_of_a_shared_layer_are_told_apart(model):
    x = torch.randn(7, 4)
    with Taps({"one": "act@0", "two": "act@1", "last": "act"}).attach(model) as seen:
        model(x)
    expected_one = torch.relu(model.first(x))
    torch.testing.assert_close(seen["one"], expected_one)
    torch.testing.assert_close(seen["two"], torch.relu(model.second(expected_one)))
    assert torch.equal(seen["two"], seen["last"])
    assert len(seen.calls("one")) == 2
    with Taps({"third": "act@2"}).attach(model) as seen:
        model(x)
    with pytest.raises(TapError, match=r"asks for call 2, but 'act' ran 2 time"):
        seen["third"]


def test_one_module_under_two_names_can_be_tapped_by_either():
    shared = nn.Linear(3, 3)
    model = nn.ModuleDict({"a": shared, "b": shared})
    model.forward = lambda x: model["b"](model["a"](x))  # type: ignore[method-assign]
    x = torch.randn(2, 3)
    with Taps({"a": "a@0", "b": "b@1"}).attach(model) as seen:
        y = model(x)
    torch.testing.assert_close(seen["a"], shared(x))
    assert torch.equal(seen["b"], y)


def test_tuple_and_dict_outputs_and_keyword_inputs(model):
    points = {"seq": "memory[0]", "cell": "memory[1][1]", "left": "split[left]", "scale": "split:input[scale]"}
    with Taps(points).attach(model) as seen:
        model(torch.randn(7, 4))
    assert seen["seq"].shape == (7, 1, 5)
    assert seen["cell"].shape == (1, 7, 5)
    torch.testing.assert_close(seen["left"], seen["seq"][:, 0] * 2.0)
    assert seen["scale"] == 2.0


def test_a_whole_tuple_is_no_tensor_and_the_error_says_what_to_write(model):
    with Taps({"whole": "memory", "parts": "split"}).attach(model) as seen:
        model(torch.randn(2, 4))
    assert isinstance(seen["whole"], tuple)
    with pytest.raises(TapError, match=r"say which item, one of \[0, 1\], e.g. 'memory\[0\]'"):
        seen.tensor("whole")
    with pytest.raises(TapError, match="'left', 'right'"):
        seen.tensor("parts")


def test_a_map_goes_place_by_place_through_the_classifier():
    torch.manual_seed(0)
    network, x = resnet(8).eval(), torch.randn(2, 3, 16, 16)
    with Taps({"cam": "layer3>fc", "fc": "fc@0"}).attach(network) as seen:
        logits = network(x)
    assert seen["cam"].shape == (2, 10, 4, 4)
    torch.testing.assert_close(seen["cam"].mean((2, 3)), logits)  # pooling and a linear layer commute
    assert len(seen.calls("fc")) == 1
    with pytest.raises(TapError, match="no layer 'fv'; close matches: fc"), Taps(["layer3>fv"]).attach(network):
        pass


def test_several_taps_on_one_layer(model):
    with Taps({"a": "fc", "b": "fc", "c": "fc:input"}).attach(model) as seen:
        logits = model(torch.randn(2, 4))
    assert seen["a"] is seen["b"] is logits
    assert seen["c"].shape == (2, 5)


def test_gradients_flow_through_taps_unless_detached(model):
    x = torch.randn(2, 4)
    with Taps(["first"]).attach(model) as live, Taps({"h": "first", "m": "memory"}).attach(model, detach=True) as cut:
        model(x)
    assert live["first"].requires_grad
    assert not cut["h"].requires_grad
    assert not cut["m"][1][0].requires_grad
    live["first"].sum().backward()
    assert model.first.weight.grad is not None


def test_missing_path_names_close_matches(model):
    with pytest.raises(TapError, match=r"no layer 'frist'; close matches: first"), Taps(["frist"]).attach(model):
        pass
    assert hooks_of(model) == 0


@pytest.mark.parametrize("text", ["fc:weight", "fc[", "fc@x", "fc:input:output", "fc>"])
def test_unreadable_taps_are_refused(text):
    with pytest.raises(TapError, match="cannot read the tap"):
        TapPoint.parse(text)


def test_no_hook_is_left_behind_even_after_errors(model):
    taps = Taps(["first", "act", "fc:input"])
    with taps.attach(model):
        assert hooks_of(model) == 4
        model(torch.randn(2, 4))
    assert hooks_of(model) == 0
    with pytest.raises(RuntimeError), taps.attach(model):
        model(torch.randn(2, 99))
    assert hooks_of(model) == 0
    with pytest.raises(TapError), Taps(["first", "nowhere"]).attach(model):
        pass
    assert hooks_of(model) == 0


def test_state_dict_outputs_and_the_users_own_hooks_are_untouched(model):
    calls = []
    model.fc.register_forward_hook(lambda *_: calls.append(1))
    before, x = copy.deepcopy(model.state_dict()), torch.randn(3, 4)
    expected = model(x)
    with Taps(["first", "memory[0]"]).attach(model):
        assert list(model.state_dict()) == list(before)
        assert torch.equal(model(x), expected)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert hooks_of(model) == 1
    assert len(calls) == 2


def test_each_forward_pass_starts_afresh_unless_accumulating(model):
    taps = Taps(["first"])
    with taps.attach(model) as seen:
        model(torch.zeros(2, 4))
        model(torch.ones(3, 4))
        assert len(seen.calls("first")) == 1
        assert seen["first"].shape == (3, 6)
    with taps.attach(model, accumulate=True) as seen:
        model(torch.zeros(2, 4))
        model(torch.ones(3, 4))
        assert [len(value) for value in seen.calls("first")] == [2, 3]
        seen.clear()
        with pytest.raises(TapError, match="did not run"):
            seen["first"]


def test_a_value_overwritten_in_place_is_not_passed_off_as_the_layers_output():
    model = Branching(inplace=True)
    with Taps({"pre": "first", "post": "act"}).attach(model) as seen:
        model(torch.randn(3, 4))
    assert bool((seen["post"] >= 0).all())
    with pytest.raises(TapError, match="overwritten in place"):
        seen["pre"]


def test_wrapped_models_are_tapped_by_the_paths_of_the_users_model(model):
    wrapped = nn.DataParallel(model)
    x = torch.randn(2, 4)
    with Taps(["first"]).attach(wrapped) as seen:
        wrapped(x)
    torch.testing.assert_close(seen["first"], model.first(x))
