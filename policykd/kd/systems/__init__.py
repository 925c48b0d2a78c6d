"""Systems: whole distillation methods (data, teachers, stages, objective), each with the experiment that tests it.

Every module or package in this folder without a leading underscore is a system, and ``policykd kd run NAME`` runs it.
To add one, write ``policykd/kd/systems/my_method.py`` and its test, nothing else. It has three parts::

    @dataclass(frozen=True)
    class MyRecipe(Recipe):                   # the configuration; `--set student.lr=1e-3 weight=5` changes it
        teacher: Fit = Fit((256, 64), epochs=40)
        student: Fit = Fit((48,), epochs=80)
        weight: float = 2.0

    class MyMethod(System[MyRecipe]):
        name, title, paper, claim = "my_method", "...", "...", "A whole sentence that the experiment tests."
        recipe = MyRecipe()

        def arms(self, cell):                 # how every student is trained, by the name of its arm
            mine = cell.recipe.weight * Mine().on("hidden1")
            return {"CE": Arm(Objective(ce=CE())), "mine": Arm(Objective(ce=CE(), mine=mine))}

        claims = (higher("accuracy", "mine", "CE", by=0.01).says("A sentence that can be read alone."),)

    EXPERIMENT = MyMethod().experiment()      # its record

* An arm is an objective, as in ``crd``, or a function ``(student, batch, epoch) -> scalar`` where a step needs more
  than one batch's signals, as in ``sp``.
* ``measure`` gives the metrics of a trained network; its default is the accuracy on test data.
* Other data or networks: a subclass of ``Cell``, see ``sk_kd``. Several teachers: override ``run``, see ``ca_mkd``. No
  network at all: ``ground_truth_self_distillation``.
* Draw everything from the cell's seed and a purpose (``cell.network``, :mod:`policykd.seeding`): then arms are paired.
* A loss is a file in :mod:`policykd.kd.losses`; a helper of one system is a module of its package, see ``sskd``.

A system of another package needs no entry here: ``policykd kd run my_lab.my_method:EXPERIMENT`` runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policykd.names import Registry

if TYPE_CHECKING:
    from policykd.kd.experiments.experiment import Experiment

SYSTEMS: Registry[Experiment] = Registry.of_folder("system", __name__, "EXPERIMENT")
"""The experiments of all systems by module name; a module is imported when its experiment is asked for."""

__all__ = ["SYSTEMS"]
