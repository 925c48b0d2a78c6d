"""Teachers: anything that gives logits (and perhaps features) for a batch.

``as_teacher`` turns what a user has into a ``Teacher``: a torch module in eval mode, a callable that gives class
probabilities (a scikit-learn forest, a Gaussian process, a gradient-boosted model), or outputs that were saved to disk
and are looked up by sample index. A teacher never receives a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from policykd.errors import PolicykdError
from policykd.kd.objective.inputs import Inputs, call_network, count_samples, first_tensor, map_tensors
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.signals import Signals, shape_text
from policykd.kd.objective.taps import Taps, unwrap

_FLOOR = 1e-12  # the log of a probability of zero must stay finite


class TeacherError(PolicykdError, ValueError):
    """A teacher is in a state, or gives values, that cannot be distilled from."""


@runtime_checkable
class Teacher(Protocol):
    """What the objective asks of a teacher."""

    def signals(self, x: Inputs, index: Tensor | None, taps: Mapping[str, str]) -> Signals:
        """Logits and features for a batch.

        Args:
            x: Inputs, batch first.
            index: Sample indices ``(B,)``, or None where the caller has none.
            taps: Tap name -> tap of the features that the objective needs.
        """
        ...


class ModuleTeacher:
    """A torch module that must be in eval mode; it runs without gradient.

    Args:
        module: Maps x to outputs that ``outputs`` can read.
        batch_statistics: Allow train mode, for methods that ask for the teacher's batch statistics.
        outputs: How its output is read; by default logits ``(B, C)``.
    """

    def __init__(self, module: nn.Module, *, batch_statistics: bool = False, outputs: Outputs = Outputs()) -> None:
        self.module, self.batch_statistics, self.outputs = module, batch_statistics, outputs
        self._taps: dict[tuple[tuple[str, str], ...], Taps] = {}

    def signals(self, x: Inputs, index: Tensor | None, taps: Mapping[str, str]) -> Signals:
        """Run the module with the taps attached.

        Raises:
            TeacherError: A layer of the module is in train mode.
        """
        if not self.batch_statistics:
            self._require_eval()
        key = tuple(taps.items())
        points = self._taps.setdefault(key, Taps(taps))
        with torch.no_grad(), points.attach(self.module, detach=True) as seen:
            name = f"teacher {type(unwrap(self.module)).__name__}"
            logits = self.outputs.teacher_tensor(call_network(self.module, x), count_samples(x), name)
            return Signals(logits.detach(), {name: seen.tensor(name) for name in taps})

    def _require_eval(self) -> None:
        training = [name or "the module itself" for name, layer in self.module.named_modules() if layer.training]
        if training:
            raise TeacherError(
                f"teacher {type(unwrap(self.module)).__name__} is in train mode ({training[0]}): its batch "
                "normalization and dropout would change what it teaches; call teacher.eval() first"
            )


Gives = Literal["probabilities", "logits", "values"]
"""What a callable teacher gives: probabilities, which are turned into logits, logits, or values of a regression."""


class CallableTeacher:
    """A function of x that gives class probabilities, logits or values as an array or tensor.

    Args:
        function: Called with a numpy array if ``numpy`` is set, else with the inputs.
        gives: ``"probabilities"``, ``"logits"`` or ``"values"``.
        numpy: Whether the function wants (and gives) numpy arrays.
        outputs: What the axes are; by default ``(B, C)``.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        gives: Gives = "probabilities",
        numpy: bool = False,
        outputs: Outputs | None = None,
    ) -> None:
        if gives not in get_args(Gives):
            raise TeacherError(f"a callable teacher gives 'probabilities', 'logits' or 'values', not {gives!r}")
        self.function, self.gives, self.numpy, self.outputs = function, gives, numpy, outputs

    def signals(self, x: Inputs, index: Tensor | None, taps: Mapping[str, str]) -> Signals:
        """Call the function; probabilities are checked and turned into logits.

        Raises:
            TeacherError: Features are asked for, or the rows are not probabilities.
        """
        if taps:
            raise TeacherError(f"a callable teacher has no layers to tap ({', '.join(taps)}): use logit terms only")
        outputs, like = self.outputs or Outputs(), first_tensor(x)
        with torch.no_grad():
            raw = self.function(_as_arrays(x) if self.numpy else map_tensors(torch.Tensor.detach, x))
            values = torch.as_tensor(np.asarray(raw) if not isinstance(raw, Tensor) else raw, device=like.device)
            values = outputs.checked(values.detach(), len(like), "the callable teacher")
            values = values.to(like.dtype) if like.is_floating_point() else values.float()
        if self.gives != "probabilities":
            return Signals(values)
        if outputs.kind == "multi_label":
            return Signals(_log_odds(values))
        return Signals(log_probabilities(values, axis=outputs.class_axis or 1))


def from_sklearn(
    estimator: Any, *, classes: int | None = None, labels: Sequence[Any] | None = None, flatten: bool = True
) -> CallableTeacher:
    """A fitted model with scikit-learn's interface as a teacher: a classifier, or a regressor.

    Args:
        estimator: Has ``predict_proba`` and ``classes_``, or is a regressor with ``predict``.
        classes: Number of classes of the task; classes that the estimator never saw get probability zero.
        labels: The task's classes in order, where the estimator was not fitted on their numbers 0 to C - 1, for example
            ``["cat", "dog"]``.
        flatten: Flatten images to rows first.

    Raises:
        TeacherError: The estimator has no probabilities, is not fitted or knows labels that the task does not have.
    """
    if not hasattr(estimator, "predict_proba") and hasattr(estimator, "predict") and not hasattr(estimator, "classes_"):
        return CallableTeacher(
            lambda x: estimator.predict(x.reshape(len(x), -1) if flatten else x), gives="values", numpy=True
        )
    if not hasattr(estimator, "predict_proba") or not hasattr(estimator, "classes_"):
        raise TeacherError(f"{type(estimator).__name__} has no predict_proba, or is not fitted")
    columns, total = _columns(estimator, classes, labels)

    def probabilities(x: np.ndarray) -> np.ndarray:
        known = estimator.predict_proba(x.reshape(len(x), -1) if flatten else x)
        full = np.zeros((len(x), total))
        full[:, columns] = known
        return full

    return CallableTeacher(probabilities, numpy=True)


def _columns(estimator: Any, classes: int | None, labels: Sequence[Any] | None) -> tuple[np.ndarray, int]:
    """The task's class of every column of the estimator's probabilities, and the number of classes."""
    if isinstance(estimator.classes_, list):
        raise TeacherError(
            f"{type(estimator).__name__} was fitted on several outputs: give a function instead, e.g. "
            "CallableTeacher(lambda x: np.stack([p[:, 1] for p in model.predict_proba(x)], 1), numpy=True)"
        )
    known = np.asarray(estimator.classes_)
    if labels is not None:
        places = {label: place for place, label in enumerate(labels)}
        if missing := [label for label in known.tolist() if label not in places]:
            raise TeacherError(f"the estimator knows {missing[0]!r}, which is not among labels={list(labels)!r}")
        return np.array([places[label] for label in known.tolist()]), max(len(places), classes or 0)
    if not np.issubdtype(known.dtype, np.integer):
        raise TeacherError(
            f"the estimator's classes are {known.dtype} ({known.tolist()[:3]}, ...), the task's are numbers: give them "
            f"in the task's order, from_sklearn(estimator, labels={known.tolist()[:3]!r}...)"
        )
    total = classes if classes is not None else int(known.max()) + 1
    if known.min() < 0 or known.max() >= total:
        raise TeacherError(f"the estimator knows labels {known.min()} to {known.max()}, the task has {total} classes")
    return known, total


def _as_arrays(x: Inputs) -> Any:
    return map_tensors(lambda tensor: tensor.detach().cpu().numpy(), x)


def _log_odds(probabilities: Tensor) -> Tensor:
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        low, high = float(probabilities.min()), float(probabilities.max())
        raise TeacherError(f"the teacher gives values from {low:.4g} to {high:.4g}, which are not probabilities")
    return probabilities.double().logit(eps=_FLOOR).to(probabilities.dtype)


def log_probabilities(probabilities: Tensor, *, axis: int = 1) -> Tensor:
    """The logits of class probabilities ``(B, C)``: their logarithm, with zeros lifted to 1e-12.

    Args:
        probabilities: Probabilities.
        axis: Axis of the classes.

    Raises:
        TeacherError: A value is outside [0, 1] or a row does not sum to one (within 1e-3).
    """
    total = probabilities.sum(axis)
    valid = bool((probabilities >= 0).all()) and bool((total - 1).abs().le(1e-3).all())
    if not valid:
        raise TeacherError(
            f"the teacher's rows {shape_text(probabilities)} are not probabilities: least value "
            f"{float(probabilities.min()):.4g}, row sums {float(total.min()):.4g} to {float(total.max()):.4g}; "
            "use CallableTeacher(function, gives='logits') if it gives logits"
        )
    return probabilities.clamp_min(_FLOOR).log()


def as_teacher(source: Any, outputs: Outputs = Outputs()) -> Teacher:
    """Make a teacher from a module, a fitted scikit-learn model, a callable for probabilities, or a teacher.

    Args:
        source: One of these.
        outputs: How the outputs of a module or a callable are read.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(source, nn.Module):
        return ModuleTeacher(source, outputs=outputs)
    if isinstance(source, Teacher):
        return _with_outputs(source, outputs)
    if hasattr(source, "predict_proba") or (hasattr(source, "predict") and hasattr(source, "fit")):
        return _with_outputs(from_sklearn(source), outputs)
    if callable(source):
        return CallableTeacher(source, outputs=outputs)
    raise TypeError(f"a teacher is a module, a callable x -> probabilities or a cache, not a {type(source).__name__}")


def _with_outputs(teacher: Teacher, outputs: Outputs) -> Teacher:
    """A callable teacher that does not say what its axes are takes over those of the objective."""
    if isinstance(teacher, CallableTeacher) and teacher.outputs is None:
        return CallableTeacher(teacher.function, gives=teacher.gives, numpy=teacher.numpy, outputs=outputs)
    return teacher


def _sources(source: Any) -> list[Any]:
    if isinstance(source, Mapping):
        return list(source.values())
    return list(source) if isinstance(source, list | tuple) else [source]


def has_stored(source: Any) -> bool:
    """Whether a teacher's outputs are stored, as in a cache; only these have ``variants``."""
    return any(hasattr(teacher, "variants") for teacher in _sources(source))


def check_stored(source: Any, augmented: bool, variants: tuple[int, int] | None) -> None:
    """Check that stored outputs of teachers are those of the inputs that the student sees.

    Args:
        source: What an objective takes as teacher.
        augmented: Whether the inputs are augmented.
        variants: Number and seed of the augmented variants of every sample that repeat over epochs; None for new ones.

    Raises:
        TeacherError: They are not.
    """
    for teacher in _sources(source):
        if not has_stored(teacher):
            continue
        stored = teacher.variants
        if stored != variants or augmented != (stored is not None):
            raise TeacherError(
                f"{teacher.name} holds the teacher's outputs for {_variants_text(False, stored)}, but the student sees "
                f"{_variants_text(augmented, variants)}: give the teacher itself, or store its outputs by "
                "TeacherCache.write_variants and train with the same augment=Variants(...)"
            )


def _variants_text(augmented: bool, variants: tuple[int, int] | None) -> str:
    if variants is not None:
        return f"{variants[0]} augmented variants (seed {variants[1]})"
    return "newly augmented inputs" if augmented else "the inputs as they are"


def as_teachers(source: Any, outputs: Outputs = Outputs()) -> dict[str, Teacher]:
    """Named teachers from one teacher (named ``teacher``), a mapping, or a sequence (named ``0``, ``1``, ...).

    ``None`` gives no teacher, for objectives without one.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping | nn.ModuleDict):
        return {str(name): as_teacher(item, outputs) for name, item in source.items()}
    if isinstance(source, Sequence | nn.ModuleList):
        return {str(position): as_teacher(item, outputs) for position, item in enumerate(source)}
    return {"teacher": as_teacher(source, outputs)}
