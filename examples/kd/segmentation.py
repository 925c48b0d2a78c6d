"""Segmentation: a class per pixel, unlabeled pixels at the borders of objects, selection by intersection over union.

Images show bright disks and dark squares in noise. Run it with ``python examples/kd/segmentation.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from policykd.kd.losses import AT, CE, KD
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.outputs import Outputs
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller

SIDE, UNLABELED = 16, 255


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw images ``(N, 1, H, W)`` and labels ``(N, H, W)``: 0 background, 1 disk, 2 square, 255 at borders."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    places = torch.randint(4, 12, (count, 4), generator=generator)[..., None, None]
    from_disk = ((rows - places[:, 0]) ** 2 + (columns - places[:, 1]) ** 2).sqrt()
    from_square = torch.maximum((rows - places[:, 2]).abs(), (columns - places[:, 3]).abs())
    labels = torch.zeros(count, SIDE, SIDE, dtype=torch.long)
    labels[from_square <= 3] = 2
    labels[from_disk <= 3.5] = 1
    x = torch.tensor([0.0, 1.0, -1.0])[labels] + 0.7 * torch.randn(count, SIDE, SIDE, generator=generator)
    labels[((from_disk - 3.5).abs() < 0.7) | (from_square == 3)] = UNLABELED
    return x[:, None], labels


class Segmenter(nn.Module):
    """Convolutions that keep the size; it returns a dict, as torchvision's segmentation models do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU())
        self.classify = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images ``(B, 1, H, W)`` to logits ``(B, 3, H, W)``."""
        return {"out": self.classify(self.second(self.first(x)))}


def main(epochs: int = 8, seed: int = 0) -> dict[str, float]:
    """Train teacher and student, and return intersections over union on validation images."""
    torch.manual_seed(seed)
    train, val = images(80, seed), images(40, seed + 1)
    outputs = Outputs("BCHW", ignore_index=UNLABELED, read="out")
    config = TrainConfig(epochs, batch_size=8, seed=seed, select="best", optimizer=OptimizerConfig("adam", lr=0.01))

    teacher_run = Distiller(Segmenter(16), None, Objective(ce=CE(), outputs=outputs), config, metric="miou")
    teacher = teacher_run.fit(images(200, seed + 2), val).export()

    objective = Objective(ce=CE(), kd=0.5 * KD(temperature=2.0), at=10.0 * AT().on("second"), outputs=outputs)
    run = Distiller(Segmenter(6), teacher, objective, config, metric="miou").fit(train, val)
    return {"first epoch": run.history[0]["val_miou"], "best epoch": max(r["val_miou"] for r in run.history)}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<12} {value:.3f}")
