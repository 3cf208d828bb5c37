"""log sum exp over the first axis, differentiable twice and safe where everything is impossible."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["LogSumExp", "log_sum_exp"]


def log_sum_exp(x: Tensor) -> Tensor:
    """``(K, ...)`` -> ``(...)``; -inf, with gradient zero, where all of the first axis is -inf."""
    return LogSumExp.apply(x)[0]


class LogSumExp(torch.autograd.Function):
    """log sum exp over the first axis, keeping the softmax that its gradient needs: one exponential, not two."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        top = x.amax(0)
        top = torch.where(top.isinf(), 0.0, top)  # rows that are impossible stay -inf instead of NaN
        share = (x - top).exp_()
        total = share.sum(0)
        share /= total.clamp_min(torch.finfo(x.dtype).tiny)
        return top + total.log(), share

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:  # type: ignore[override]
        return Share.apply(*ctx.saved_tensors, gradient)


class Share(torch.autograd.Function):
    """gradient * softmax(x), with the softmax already known; differentiable again, so that Hessians are right."""

    @staticmethod
    def forward(x: Tensor, share: Tensor, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return share * gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, Tensor]:  # type: ignore[override]
        share, gradient = ctx.saved_tensors
        inner = outer * gradient
        return share * (inner - (inner * share).sum(0)), None, (outer * share).sum(0)
