"""TorchScript archives of deployed policies: chains of dense layers, an LSTM or GRU in front, a normalizer.

The archive's tree of modules, with their class names, tells what they compute; its code is not run. Modules that are
not part of such a chain are refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from policykd.agents.importing.foreign_policy import ForeignPolicy, Layer, Standardization
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.recurrence import Recurrence, recurrence
from policykd.agents.importing.weights import chain_actions, chain_activations
from policykd.errors import PolicyFileError
from policykd.symbolic_pickle import Record

_ACTIVATIONS = {"ELU": "elu", "ReLU": "relu", "SiLU": "silu", "Tanh": "tanh"}
_EXPORTERS = {
    "GraphModule", "PolicyExporterGRU", "PolicyExporterLSTM", "Sequential", "_TorchMLPModel", "_TorchPolicyExporter",
}  # fmt: skip
_NOTHING = {"Identity", "Dropout"}
_RECURRENT = {"LSTM", "GRU"}
_NORMALIZERS = {"EmpiricalNormalization"}
_NORMALIZED, _REMEMBERED = ("normalizer", "obs_normalizer", "actor_obs_normalizer"), ("memory", "rnn", "memory_a")


def matches(tree: Any) -> bool:
    """Return whether a tree of arrays is that of a TorchScript module."""
    return isinstance(tree, Record) and tree.name.startswith("__torch__.")


def read(tree: Any, path: Path, options: ImportOptions) -> ForeignPolicy:
    """Return the policy of an archive.

    Raises:
        PolicyFileError: naming a module that cannot be described, or different activations.
    """
    chain = _Chain(path.name)
    chain.add(tree, "")
    if not chain.layers:
        raise PolicyFileError(f"{path.name} holds no dense layers")
    activation, squash = chain_activations(chain.activations, len(chain.layers), path.name)
    memory = chain.memory
    inputs = memory.inputs if memory is not None else int(chain.layers[0].weight.shape[1])
    notes: tuple[str, ...] = () if chain.standardization is not None else ("without a normalizer",)
    if memory is not None:
        notes += (f"keeps a state ({memory.kind}, {memory.hidden}): it is reset at the beginning of every episode",)
    if _class_name(tree) not in _EXPORTERS:
        notes += (f"{_class_name(tree)} is not a known exporter: what its own code adds to its modules is left out",)
    return ForeignPolicy(
        source=f"TorchScript {_class_name(tree)}",
        groups={"observation": inputs},
        actor=tuple(chain.layers),
        activation=activation,
        squash=squash,
        actions=chain_actions(squash, len(chain.layers[-1].bias)),
        standardization=chain.standardization if options.normalized is not False else None,
        recurrence=memory,
        notes=notes,
    )


class _Chain:
    """Layers of a module tree in the order in which they stand there.

    Attributes:
        layers: dense layers.
        memory: recurrent layer in front of them.
        activations: activations, each with the number of layers in front of it.
        standardization: normalizer in front of everything.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self.layers: list[Layer] = []
        self.memory: Recurrence | None = None
        self.activations: list[tuple[int, str]] = []
        self.standardization: Standardization | None = None

    def add(self, module: Record, name: str) -> None:
        """Append a module and its children."""
        kind = _class_name(module)
        if kind in _NOTHING:
            return
        if kind == "Linear":
            self._dense(module, name)
        elif kind in _ACTIVATIONS:
            self._activate(_ACTIVATIONS[kind], module, name)
        elif kind in _RECURRENT:
            self._recurrent(module, name)
        elif kind in _NORMALIZERS:
            self._normalize(module, name)
        else:
            self._children(module, name, kind)

    def _children(self, module: Record, name: str, kind: str) -> None:
        attributes = module.attributes
        children = {key: value for key, value in attributes.items() if _is_module(value)}
        own = [
            k for k, v in attributes.items() if isinstance(v, np.ndarray) and k not in ("hidden_state", "cell_state")
        ]
        if own or (not children and name):
            raise PolicyFileError(f"{self._file} has a module '{name or kind}' ({kind}), which cannot be described")
        for key in sorted(children, key=_place):
            self.add(children[key], f"{name}.{key}" if name else key)

    def _dense(self, module: Record, name: str) -> None:
        weight, bias = (module.attributes.get(key) for key in ("weight", "bias"))
        if not isinstance(weight, np.ndarray) or weight.ndim != 2:
            raise PolicyFileError(f"{self._file} has a linear module '{name}' without weights")
        size = (
            self.layers[-1].weight.shape[0] if self.layers else (self.memory.hidden if self.memory else weight.shape[1])
        )
        if weight.shape[1] != size:
            raise PolicyFileError(
                f"{self._file} is not a chain: '{name}' reads {weight.shape[1]} numbers, but {size} come in"
            )
        self.layers.append(Layer(weight, bias if isinstance(bias, np.ndarray) else np.zeros(len(weight), np.float32)))

    def _activate(self, kind: str, module: Record, name: str) -> None:
        if module.attributes.get("alpha", 1.0) != 1.0:
            raise PolicyFileError(f"{self._file} has an ELU '{name}' with another alpha than 1")
        self.activations.append((len(self.layers), kind))

    def _recurrent(self, module: Record, name: str) -> None:
        if self.layers or self.memory is not None:
            raise PolicyFileError(f"{self._file} has a recurrent module '{name}' behind other layers")
        arrays = {f"m.{k}": v for k, v in module.attributes.items() if isinstance(v, np.ndarray)}
        self.memory = recurrence(arrays, "m")

    def _normalize(self, module: Record, name: str) -> None:
        if self.layers or self.memory is not None or self.standardization is not None:
            raise PolicyFileError(f"{self._file} has a normalizer '{name}' behind other modules")
        mean, std = (module.attributes.get(key) for key in ("_mean", "_std"))
        if not (isinstance(mean, np.ndarray) and isinstance(std, np.ndarray)):
            raise PolicyFileError(f"{self._file} has a normalizer '{name}' without statistics")
        epsilon = module.attributes.get("eps", 1e-2)
        self.standardization = Standardization(np.ravel(mean), np.ravel(std) + float(epsilon))


def _place(name: str) -> int:
    """Return the place of a child in the chain: normalizers, then memories, then the rest, whatever their order."""
    return next((place for place, names in enumerate((_NORMALIZED, _REMEMBERED)) if name in names), 2)


def _is_module(value: Any) -> bool:
    return isinstance(value, Record) and value.name.startswith("__torch__.")


def _class_name(module: Record) -> str:
    return module.name.rpartition(".")[2]
