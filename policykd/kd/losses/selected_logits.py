"""Targets from several experts of which one teaches each sample (Amara et al., CES-KD, arXiv 2209.07606)."""

from __future__ import annotations

from torch import Tensor

from policykd.divergences import prepare_tensor


def check_expert_logits(expert_logits: Tensor) -> Tensor:
    """Return experts' logits off the graph, in float32 at least.

    Args:
        expert_logits: ``(K, N, C)``.

    Raises:
        ValueError: There are not three dimensions, or a value is not finite.
    """
    logits = prepare_tensor("expert logits", expert_logits.detach())
    if logits.dim() != 3:
        raise ValueError(f"expert logits must be (K, N, C), got {tuple(logits.shape)}")
    return logits


def selected_logits(expert_logits: Tensor, expert: Tensor) -> Tensor:
    """Return the logits of each sample's own expert, as targets of any logit loss.

    Args:
        expert_logits: ``(K, B, C)``.
        expert: Position of the expert ``(B,)`` in [0, K).

    Returns:
        ``(B, C)``, off the graph.

    Raises:
        ValueError: Shapes do not fit, a position is out of range, or a value is not finite.
    """
    logits = check_expert_logits(expert_logits)
    count, batch, _ = logits.shape
    if expert.shape != (batch,):
        raise ValueError(
            f"expert must have shape ({batch},) for logits {tuple(logits.shape)}, got {tuple(expert.shape)}"
        )
    if int(expert.min()) < 0 or int(expert.max()) >= count:
        raise ValueError(f"expert must be in [0, {count - 1}], got {int(expert.min())} to {int(expert.max())}")
    return logits.take_along_dim(expert[None, :, None], 0)[0]
