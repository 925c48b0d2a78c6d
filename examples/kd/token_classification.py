"""Token classification: sentences of different length in dict batches from a ``DataLoader``, padding left out.

A token's class depends on the token before it. Run it with ``python examples/kd/token_classification.py``.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from policykd.kd.losses import CE, KD
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.outputs import Outputs
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.distiller import Distiller

WORDS, CLASSES, IGNORED = 20, 4, -100


class Sentences(Dataset[dict[str, Tensor]]):
    """Sentences of 4 to 12 tokens with a class per token."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(4, 13, (count,), generator=generator)
        self.sentences = [torch.randint(1, WORDS, (int(n),), generator=generator) for n in lengths]

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        words = self.sentences[position]
        return {"input_ids": words, "labels": (words % 2) * 2 + words.roll(1) % 2}


def collate(sentences: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Pad sentences to one length; labels of padding are ignored."""
    words = pad_sequence([sentence["input_ids"] for sentence in sentences], batch_first=True)
    labels = pad_sequence([sentence["labels"] for sentence in sentences], batch_first=True, padding_value=IGNORED)
    return {"input_ids": words, "attention_mask": words != 0, "labels": labels}


class Tagger(nn.Module):
    """Embedding, recurrent layer and a classifier of every token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.classify = nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map tokens ``(B, T)`` to logits ``(B, T, C)``."""
        hidden, _ = self.memory(self.embed(input_ids) * attention_mask[..., None])
        return self.classify(hidden)


def main(epochs: int = 8, seed: int = 0) -> dict[str, float]:
    """Train a teacher on many sentences and a student on few, and return accuracies of the student's run."""
    torch.manual_seed(seed)
    load = partial(DataLoader, batch_size=16, collate_fn=collate)
    train, val = load(Sentences(160, seed), shuffle=True), load(Sentences(100, seed + 1))
    outputs = Outputs("BTC", ignore_index=IGNORED)
    adam = partial(torch.optim.Adam, lr=1e-2)

    teacher_objective = Objective(ce=CE(), outputs=outputs)
    config = TrainConfig(epochs=epochs, seed=seed)
    more = load(Sentences(600, seed + 2), shuffle=True)
    teacher = Distiller(Tagger(48), None, teacher_objective, config, optimizer=adam).fit(more).export()

    objective = Objective(ce=0.3 * CE(), kd=0.7 * KD(temperature=2.0), outputs=outputs)
    run = Distiller(Tagger(16), teacher, objective, config, optimizer=adam, report=["balanced_accuracy"]).fit(
        train, val
    )
    return {"first epoch": run.history[0]["val_accuracy"], "last epoch": run.history[-1]["val_accuracy"]}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<12} {value:.3f}")
