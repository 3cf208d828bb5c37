"""Categorical columns whose row of the table is known: look-ups in compiled loops, and counts as their gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.native import call, library, takes

__all__ = ["as_bytes", "look_up", "usable"]

UNKNOWN = 255  # as in the source


def usable(logits: Tensor, levels: int) -> bool:
    """True where compiled loops may stand in: plain leaves, as EM has them, not functions of parameters."""
    return logits.is_leaf and levels < UNKNOWN and takes("codes", logits)


def as_bytes(x: Tensor) -> Tensor:
    """``(N, D)`` codes of one byte each, for :func:`look_up`."""
    return torch.where(x.isnan(), float(UNKNOWN), x).to(torch.uint8)


def look_up(logits: Tensor, codes: Tensor, rows: Tensor) -> Tensor:
    """``(N,)``: the sum over columns d of ``logits[rows[n], d, codes[n, d]]``, without unknown cells.

    Args:
        logits: ``(K, D, L)``.
        codes: ``(N, D)`` bytes.
        rows: ``(N,)`` row numbers of the table.
    """
    return LookUp.apply(logits, codes.contiguous(), rows.contiguous())


class LookUp(torch.autograd.Function):
    """Its gradient with respect to the logits is the weighted count of every level."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, codes: Tensor, rows: Tensor) -> Tensor:  # type: ignore[override]
        assert (codes.dtype, rows.dtype) == (torch.uint8, torch.int64), "codes are bytes, rows are whole numbers"
        ctx.save_for_backward(codes, rows)
        ctx.shape = logits.shape
        out = logits.new_empty(len(codes))
        call(loops().forward, *codes.shape, logits.shape[-1], codes, rows, logits.contiguous(), out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("compiled look-ups have no second derivative")  # callers that need one do not come here
        codes, rows = ctx.saved_tensors
        counts = gradient.new_zeros(ctx.shape)
        call(loops().backward, *codes.shape, ctx.shape[-1], codes, rows, gradient.contiguous(), counts)
        return counts, None, None


def loops() -> Any:
    """The compiled functions."""
    return library("codes")
