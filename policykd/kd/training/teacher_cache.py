"""Teacher outputs on disk, keyed by sample index.

A cache is a folder of ``.npy`` files (memory-mapped, so that large ones need no memory) with a ``manifest.json``, or
one ``.safetensors`` file with a tensor ``logits`` and one per feature, row i belonging to sample i. Nothing is
unpickled. A cache holds the teacher's outputs for the *stored* samples, and is refused where the student sees augmented
ones; :meth:`TeacherCache.write_variants` stores them for augmented variants that repeat over epochs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from policykd.kd.objective.inputs import Inputs, count_samples, first_tensor
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.signals import Signals, check_finite
from policykd.kd.objective.teachers import TeacherError, as_teacher
from policykd.kd.training.batches import Batches
from policykd.kd.training.fields import Fields
from policykd.kd.training.variants import Variants

_FORMAT = 1


class TeacherCache:
    """Cached outputs of one teacher, usable wherever a teacher is.

    Args:
        logits: Array or memory map ``(N, C)``, or ``(N, ...)`` in the layout of the objective's outputs.
        features: Tap text -> array or memory map ``(N, ...)``.
        name: What to call the cache in messages.
        variants: Number and seed of the variants of every sample that it holds, first variant 0 of all samples; None
            for the samples as they are.
    """

    def __init__(
        self,
        logits: np.ndarray,
        features: Mapping[str, np.ndarray] | None = None,
        *,
        name: str = "cache",
        variants: tuple[int, int] | None = None,
    ) -> None:
        if logits.ndim < 1:
            raise TeacherError(f"{name}: logits must be (N, C), got {logits.shape}")
        self.logits, self.features, self.name, self.variants = logits, dict(features or {}), name, variants
        for tap, rows in self.features.items():
            if len(rows) != len(logits):
                raise TeacherError(f"{name}: feature {tap!r} has {len(rows)} rows, logits have {len(logits)}")

    def __len__(self) -> int:
        return len(self.logits)

    def signals(self, x: Inputs, index: Tensor | None, taps: Mapping[str, str]) -> Signals:
        """Look up the rows of a batch.

        Raises:
            TeacherError: No indices were given, an index is out of range, or a feature was not cached.
        """
        if index is None:
            raise TeacherError(f"{self.name} is keyed by sample index: call objective(..., index=indices)")
        rows = index.detach().cpu().numpy()
        if len(rows) != count_samples(x):
            raise TeacherError(f"{self.name}: {len(rows)} indices for a batch of {count_samples(x)}")
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise TeacherError(f"{self.name} holds samples 0 to {len(self) - 1}, not {rows.min()} to {rows.max()}")
        missing = [tap for tap in taps.values() if tap not in self.features]
        if missing:
            raise TeacherError(
                f"{self.name} has no feature {missing[0]!r}; it holds {sorted(self.features) or 'logits only'}"
            )
        device = first_tensor(x).device
        take = {name: _rows(self.features[tap], rows, device) for name, tap in taps.items()}
        return Signals(_rows(self.logits, rows, device), take)

    @classmethod
    def write(
        cls,
        path: str | Path,
        teacher: Any,
        batches: Iterable[tuple[Inputs, Tensor]],
        *,
        samples: int,
        taps: Iterable[str] = (),
        outputs: Outputs = Outputs(),
        variants: tuple[int, int] | None = None,
    ) -> TeacherCache:
        """Run a teacher over a data set once and store what it says.

        Args:
            path: Folder to create; an existing cache there is replaced once the new one is complete.
            teacher: Anything that ``as_teacher`` takes.
            batches: Pairs (x, sample indices) that cover every sample.
            samples: Number of samples N.
            taps: Taps of the features to store.
            outputs: How the teacher's output is read.
            variants: Number and seed of the variants that the rows are, see :class:`TeacherCache`.

        Raises:
            TeacherError: The teacher's outputs are not finite, or the batches miss a sample.
        """
        path, source, named = Path(path), as_teacher(teacher, outputs), {tap: tap for tap in taps}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            files = _write_arrays(temporary, source, batches, samples, named)
            manifest = {"format": _FORMAT, "samples": samples, "files": files}
            manifest |= {} if variants is None else {"variants": list(variants)}
            (temporary / "manifest.json").write_text(json.dumps(manifest))
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls.open(path)

    @classmethod
    def write_variants(
        cls,
        path: str | Path,
        teacher: Any,
        data: Any,
        variants: Variants,
        *,
        batch_size: int = 256,
        taps: Iterable[str] = (),
        outputs: Outputs = Outputs(),
        fields: Fields = Fields(),
    ) -> TeacherCache:
        """Run a teacher over every augmented variant of a data set once and store its outputs.

        Args:
            path: As in :meth:`write`.
            teacher: As in :meth:`write`.
            data: What :class:`policykd.kd.training.batches.Batches` takes.
            variants: The variants; give the same to ``Distiller.fit(..., augment=variants)``.
            batch_size: Samples at a time.
            taps: Taps of the features to store.
            outputs: How the teacher's output is read.
            fields: Which entries of a sample are what.
        """
        source = Batches(data, batch_size, shuffle=False, augment=variants, fields=fields)
        batches = ((batch.x, batch.teacher_index) for e in range(variants.count) for batch in source.epoch(e))
        rows = source.samples * variants.count
        return cls.write(path, teacher, batches, samples=rows, taps=taps, outputs=outputs, variants=variants.identity)

    @classmethod
    def open(cls, path: str | Path) -> TeacherCache:
        """Open a folder written by ``write``, or a ``.safetensors`` file.

        Raises:
            TeacherError: The cache is missing, incomplete or damaged; the message names the file.
        """
        path = Path(path)
        variants = None
        if path.suffix == ".safetensors":
            arrays = _open_safetensors(path)
        else:
            arrays, variants = _open_folder(path)
        if "logits" not in arrays:
            raise TeacherError(f"{path} holds no 'logits'; it has {sorted(arrays)}")
        return cls(arrays.pop("logits"), arrays, name=str(path), variants=variants)


def _rows(array: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array[rows])).to(device)


def _write_arrays(
    folder: Path, teacher: Any, batches: Iterable[tuple[Inputs, Tensor]], samples: int, taps: Mapping[str, str]
) -> dict[str, str]:
    arrays: dict[str, np.ndarray] = {}
    seen = np.zeros(samples, dtype=bool)
    for x, index in batches:
        signals, rows = teacher.signals(x, index, taps).full_precision(), index.cpu().numpy()
        if len(rows) and not (rows.min() >= 0 and rows.max() < samples):
            raise TeacherError(f"a batch holds sample {rows.max()}, but the cache is for {samples} samples")
        for name, tensor in zip(["logits", *taps], signals.tensors(), strict=True):
            check_finite(tensor, f"the teacher's {name}")
            values = tensor.cpu().numpy()
            if name not in arrays:
                file = folder / f"{len(arrays):03d}.npy"
                shape = (samples, *values.shape[1:])
                arrays[name] = np.lib.format.open_memmap(file, mode="w+", dtype=values.dtype, shape=shape)
            arrays[name][rows] = values
        seen[rows] = True
    if not seen.all():
        raise TeacherError(
            f"{int((~seen).sum())} of {samples} samples were in no batch, the first is {int((~seen).argmax())}"
        )
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    return {name: f"{number:03d}.npy" for number, name in enumerate(arrays)}


def _open_folder(path: Path) -> tuple[dict[str, np.ndarray], tuple[int, int] | None]:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        files, samples = dict(manifest["files"]), int(manifest["samples"])
        count, seed = manifest.get("variants", (0, 0))
        variants = (int(count), int(seed)) if count else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"{path} is not a teacher cache: manifest.json cannot be read ({error})") from None
    arrays = {}
    for name, file in files.items():
        target = path / Path(file).name  # a manifest from elsewhere must not point outside its folder
        try:
            arrays[name] = np.load(target, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise TeacherError(f"{target} is damaged or missing ({error})") from None
        if len(arrays[name]) != samples:
            raise TeacherError(f"{target} has {len(arrays[name])} rows, manifest.json says {samples}")
    return arrays, variants


def _open_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise TeacherError(f"{path} is damaged or missing ({error})") from None
