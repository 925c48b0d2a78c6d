"""Distillation in a plain torch loop: only the losses are imported from policykd.

Trains a teacher on the digits of scikit-learn, then a student with a fifth of its width on the teacher's soft labels
and on the relations between its features. Run it with ``python examples/kd_plain_loop.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from policykd.kd import functional as KF
from policykd.kd.objective.taps import Taps
from policykd.kd.tasks import Split, load
from policykd.kd.training.evaluate import accuracy


def train_teacher(teacher: nn.Module, data: Split, epochs: int) -> nn.Module:
    """Train a teacher with labels."""
    optimizer = torch.optim.SGD(teacher.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(teacher(data.x[rows]), data.y[rows]).backward()
            optimizer.step()
    return teacher.eval()


def distill(student: nn.Module, teacher: nn.Module, data: Split, epochs: int) -> nn.Module:
    """Distill in fifteen lines, without a trainer, a registry or changes to the models."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
    taps = Taps({"pooled": "pool"})
    for _ in range(epochs):
        for rows in torch.randperm(len(data)).split(64):
            x, y = data.x[rows], data.y[rows]
            with taps.attach(student) as features, taps.attach(teacher, detach=True) as teacher_features:
                logits = student(x)
                with torch.no_grad():
                    teacher_logits = teacher(x)
            loss = 0.1 * KF.ce(logits, y) + 0.9 * KF.kd(logits, teacher_logits, temperature=4.0)
            loss = loss + 0.02 * KF.rkd(features["pooled"], teacher_features["pooled"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student.eval()


def main(teacher_epochs: int = 15, student_epochs: int = 15, seed: int = 0) -> dict[str, float]:
    """Train teacher and student, and return test accuracies."""
    torch.manual_seed(seed)
    task = load("digits", seed=seed)
    teacher = train_teacher(task.teacher(), task.train, teacher_epochs)
    student = task.student()
    scores = {"teacher": accuracy(teacher, task.test), "untrained student": accuracy(student, task.test)}
    scores["distilled student"] = accuracy(distill(student, teacher, task.train, student_epochs), task.test)
    return scores


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<20} {value:.3f}")
