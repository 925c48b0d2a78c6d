"""Tasks: data in fixed splits together with reference networks.

``load("digits")`` and the generated ones need nothing; ``load("cifar100", root=...)`` and the other loaders read what
is on disk and never download or unpickle.
"""

from policykd.kd.data.files import DataFileError
from policykd.kd.tasks import cifar, digits, mnist, npz, prepared, series, textures, uci_har
from policykd.kd.tasks.base import Split, Task, stratified
from policykd.kd.tasks.registry import available, load, options, register, typed_options

__all__ = [
    "DataFileError",
    "Split",
    "Task",
    "available",
    "cifar",
    "digits",
    "load",
    "mnist",
    "npz",
    "options",
    "prepared",
    "register",
    "series",
    "stratified",
    "textures",
    "typed_options",
    "uci_har",
]
