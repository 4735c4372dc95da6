"""Batch norm of the currents: plain, threshold-dependent, and with a factor for each step.

All normalise (T · N, C, ...), steps folded into the batch, so that one mean and one variance
hold for all steps.

    bn     gamma starts at 1
    tdbn   gamma starts at alpha · V_th: normalised currents start on the scale of the threshold
    tebn   as tdbn, times a learned factor p[t] of each step, which starts at 1

Source: tdBN: Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks",
AAAI 2021; there alpha · V_th is a constant factor and gamma starts at 1, the same function at the
start. TEBN: Duan et al., "Temporal Effective Batch Normalization in Spiking Neural Networks",
NeurIPS 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurodeploy.errors import GraphError
from neurodeploy.nn.synchronization import batch_normalized
from neurodeploy.recipes import NormKind


class TemporalBatchNorm(nn.Module):
    """Batch norm over all steps, then a learned factor for each step: y[t] = p[t] · BN(x)[t].

    A chip has one weight for all steps, so that only equal factors can be folded into it.

    Args:
        norm: The batch norm.
        steps: T.

    Attributes:
        norm: As given.
        factors: Parameter p, (T,).
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, steps: int) -> None:
        super().__init__()
        self.norm = norm
        self.factors = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        """Give (T · N, C, ...) for the same shape.

        Raises:
            GraphError: If the first axis is no multiple of T.
        """
        steps = len(self.factors)
        if x.shape[0] % steps:
            raise GraphError(
                f"TemporalBatchNorm: {x.shape[0]} steps times samples, a multiple of {steps} "
                "steps is required."
            )
        normalized = batch_normalized(x, self.norm)
        scale = self.factors.repeat_interleave(x.shape[0] // steps)
        return normalized * scale.view(-1, *(1,) * (x.dim() - 1))


def make_batch_norm(
    kind: NormKind,
    channels: int,
    *,
    is_spatial: bool,
    threshold: float,
    steps: int,
    alpha: float = 1.0,
) -> nn.Module:
    """Make the batch norm of a recipe.

    Args:
        kind: "bn", "tdbn" or "tebn".
        channels: C.
        is_spatial: Whether currents are (T · N, C, H, W); else (T · N, C).
        threshold: V_th.
        steps: T.
        alpha: Share of the threshold; below 1 where several currents add up.
    """
    norm: nn.BatchNorm1d | nn.BatchNorm2d = (
        nn.BatchNorm2d(channels) if is_spatial else nn.BatchNorm1d(channels)
    )
    if kind == "bn":
        return norm
    nn.init.constant_(norm.weight, alpha * threshold)
    return norm if kind == "tdbn" else TemporalBatchNorm(norm, steps)


def affine_norm(module: nn.Module) -> nn.BatchNorm1d | nn.BatchNorm2d | None:
    """Give the batch norm that holds gamma and beta, or None for a module of another kind."""
    if isinstance(module, TemporalBatchNorm):
        return module.norm
    return module if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else None
