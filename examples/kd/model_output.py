"""Models in the style of Hugging Face: keyword inputs, an output object with ``logits``, encoder states as features.

The library itself is not needed. Run it with ``python examples/kd/model_output.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policykd.kd.losses import CE, KD, FitNet
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import TokenLinear
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller
from policykd.kd.training.fields import Fields

WORDS, LENGTH, CLASSES = 16, 8, 3


@dataclass
class ClassifierOutput:
    """An output as transformers return it."""

    logits: Tensor
    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] = ()


class SentenceClassifier(nn.Module):
    """A small transformer encoder with a classifier of the mean token."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(WORDS, width), nn.Parameter(0.1 * torch.randn(LENGTH, width))
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> ClassifierOutput:
        """Map tokens ``(B, T)`` to logits ``(B, C)``."""
        hidden = self.encoder(self.embed(input_ids) + self.places, src_key_padding_mask=attention_mask == 0)
        weights = attention_mask[..., None] / attention_mask.sum(1)[:, None, None]
        return ClassifierOutput(logits=self.classifier((hidden * weights).sum(1)), hidden_states=(hidden,))


def sentences(count: int, seed: int) -> dict[str, Tensor]:
    """Draw sentences; the class is that of the rarest of three words, which all sentences hold."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(4, WORDS, (count, LENGTH), generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    words[torch.arange(count), torch.randint(0, 4, (count,), generator=generator)] = labels + 1
    mask = (torch.arange(LENGTH) < torch.randint(5, LENGTH + 1, (count, 1), generator=generator)).long()
    return {"input_ids": words * mask, "attention_mask": mask, "labels": labels}


def main(epochs: int = 8, seed: int = 0) -> dict[str, float]:
    """Train teacher and student, and return accuracies on validation data."""
    torch.manual_seed(seed)
    train, val = sentences(128, seed), sentences(200, seed + 1)
    config = TrainConfig(epochs, batch_size=16, seed=seed, optimizer=OptimizerConfig("adam", lr=3e-3, weight_decay=0.0))
    fields = Fields(inputs=["input_ids", "attention_mask"], targets="labels")

    teacher_run = Distiller(SentenceClassifier(32, 2), None, Objective(ce=CE()), config, fields=fields)
    teacher = teacher_run.fit(sentences(800, seed + 2)).export()

    hint = FitNet().on("encoder", student_proj=TokenLinear())
    objective = Objective(ce=0.5 * CE(), kd=0.5 * KD(temperature=2.0), hint=0.1 * hint)
    run = Distiller(SentenceClassifier(16, 1), teacher, objective, config, fields=fields).fit(train, val)
    return {"first epoch": run.history[0]["val_accuracy"], "last epoch": run.history[-1]["val_accuracy"]}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<12} {value:.3f}")
