"""Teachers: anything that gives logits (and perhaps features) for a batch.

``as_teacher`` turns what a user has into a ``Teacher``: a torch module in eval mode, a callable that gives class
probabilities (a scikit-learn forest, a Gaussian process), or outputs that were saved to disk and are looked up by
sample index. A teacher never receives a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from policykd.kd.objective.signals import Signals, check_logits, shape_text
from policykd.kd.objective.taps import Taps, unwrap

_FLOOR = 1e-12  # the log of a probability of zero must stay finite


class TeacherError(ValueError):
    """A teacher is in a state, or gives values, that cannot be distilled from."""


@runtime_checkable
class Teacher(Protocol):
    """What the objective asks of a teacher."""

    def signals(self, x: Tensor, index: Tensor | None, taps: Mapping[str, str]) -> Signals:
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
        module: Maps x to logits ``(B, C)``.
        batch_statistics: Allow train mode, for methods that ask for the teacher's batch statistics.
    """

    def __init__(self, module: nn.Module, *, batch_statistics: bool = False) -> None:
        self.module, self.batch_statistics = module, batch_statistics
        self._taps: dict[tuple[tuple[str, str], ...], Taps] = {}

    def signals(self, x: Tensor, index: Tensor | None, taps: Mapping[str, str]) -> Signals:
        """Run the module with the taps attached.

        Raises:
            TeacherError: A layer of the module is in train mode.
        """
        if not self.batch_statistics:
            self._require_eval()
        key = tuple(taps.items())
        points = self._taps.setdefault(key, Taps(taps))
        with torch.no_grad(), points.attach(self.module, detach=True) as seen:
            logits = check_logits(self.module(x), len(x), f"teacher {type(unwrap(self.module)).__name__}")
            return Signals(logits.detach(), {name: seen.tensor(name) for name in taps})

    def _require_eval(self) -> None:
        training = [name or "the module itself" for name, layer in self.module.named_modules() if layer.training]
        if training:
            raise TeacherError(
                f"teacher {type(unwrap(self.module)).__name__} is in train mode ({training[0]}): its batch "
                "normalization and dropout would change what it teaches; call teacher.eval() first"
            )


class CallableTeacher:
    """A function of x that gives class probabilities or logits as an array or tensor ``(B, C)``.

    Args:
        function: Called with a numpy array if ``numpy`` is set, else with the tensor.
        gives: ``"probabilities"`` or ``"logits"``.
        numpy: Whether the function wants (and gives) numpy arrays.
    """

    def __init__(self, function: Callable[[Any], Any], *, gives: str = "probabilities", numpy: bool = False) -> None:
        if gives not in ("probabilities", "logits"):
            raise TeacherError(f"a callable teacher gives 'probabilities' or 'logits', not {gives!r}")
        self.function, self.gives, self.numpy = function, gives, numpy

    def signals(self, x: Tensor, index: Tensor | None, taps: Mapping[str, str]) -> Signals:
        """Call the function; probabilities are checked and turned into logits by the logarithm.

        Raises:
            TeacherError: Features are asked for, or the rows are not probabilities.
        """
        if taps:
            raise TeacherError(f"a callable teacher has no layers to tap ({', '.join(taps)}): use logit terms only")
        with torch.no_grad():
            raw = self.function(x.detach().cpu().numpy() if self.numpy else x.detach())
            values = torch.as_tensor(np.asarray(raw) if not isinstance(raw, Tensor) else raw, device=x.device)
            values = check_logits(values.detach(), len(x), "the callable teacher")
            values = values.to(x.dtype) if x.is_floating_point() else values.float()
        return Signals(values if self.gives == "logits" else log_probabilities(values))


def from_sklearn(estimator: Any, *, classes: int | None = None, flatten: bool = True) -> CallableTeacher:
    """A fitted scikit-learn classifier as a teacher.

    Args:
        estimator: Has ``predict_proba`` and ``classes_`` (integer labels).
        classes: Number of classes of the task; classes that the estimator never saw get probability zero.
        flatten: Flatten images to rows first.

    Raises:
        TeacherError: The estimator has no probabilities, is not fitted or knows labels outside the range.
    """
    if not hasattr(estimator, "predict_proba") or not hasattr(estimator, "classes_"):
        raise TeacherError(f"{type(estimator).__name__} has no predict_proba, or is not fitted")
    labels = np.asarray(estimator.classes_)
    total = classes if classes is not None else int(labels.max()) + 1
    if labels.min() < 0 or labels.max() >= total:
        raise TeacherError(f"the estimator knows labels {labels.min()} to {labels.max()}, the task has {total} classes")

    def probabilities(x: np.ndarray) -> np.ndarray:
        known = estimator.predict_proba(x.reshape(len(x), -1) if flatten else x)
        full = np.zeros((len(x), total))
        full[:, labels] = known
        return full

    return CallableTeacher(probabilities, numpy=True)


def log_probabilities(probabilities: Tensor) -> Tensor:
    """The logits of class probabilities ``(B, C)``: their logarithm, with zeros lifted to 1e-12.

    Raises:
        TeacherError: A value is outside [0, 1] or a row does not sum to one (within 1e-3).
    """
    total = probabilities.sum(1)
    valid = bool((probabilities >= 0).all()) and bool((total - 1).abs().le(1e-3).all())
    if not valid:
        raise TeacherError(
            f"the teacher's rows {shape_text(probabilities)} are not probabilities: least value "
            f"{float(probabilities.min()):.4g}, row sums {float(total.min()):.4g} to {float(total.max()):.4g}; "
            "use CallableTeacher(function, gives='logits') if it gives logits"
        )
    return probabilities.clamp_min(_FLOOR).log()


def as_teacher(source: Any) -> Teacher:
    """Make a teacher from a module, a fitted scikit-learn classifier, a callable for probabilities, or a teacher.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(source, nn.Module):
        return ModuleTeacher(source)
    if isinstance(source, Teacher):
        return source
    if hasattr(source, "predict_proba"):
        return from_sklearn(source)
    if callable(source):
        return CallableTeacher(source)
    raise TypeError(f"a teacher is a module, a callable x -> probabilities or a cache, not a {type(source).__name__}")


def as_teachers(source: Any) -> dict[str, Teacher]:
    """Named teachers from one teacher (named ``teacher``), a mapping, or a sequence (named ``0``, ``1``, ...).

    ``None`` gives no teacher, for objectives without one.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping | nn.ModuleDict):
        return {str(name): as_teacher(item) for name, item in source.items()}
    if isinstance(source, Sequence | nn.ModuleList):
        return {str(position): as_teacher(item) for position, item in enumerate(source)}
    return {"teacher": as_teacher(source)}
