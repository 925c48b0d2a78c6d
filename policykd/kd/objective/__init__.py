"""Objectives: weighted, named loss terms bound to student, teachers and a batch, in any training loop.

``outputs`` says what networks give, ``taps`` reads features by module path, ``projectors`` maps them, ``terms`` weighs
losses, ``loss_call`` calls one, and ``objective`` adds them up. Everything here may be used without
:mod:`policykd.kd.training`.
"""

from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "Objective": "objective",
        "ObjectiveOutput": "objective",
        "Outputs": "outputs",
        "Taps": "taps",
        "Term": "terms",
    },
)
__all__ = ["Objective", "ObjectiveOutput", "Outputs", "Taps", "Term"]
