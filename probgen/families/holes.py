"""Coupled Gaussians with many patterns of holes: the density and its expected statistics in compiled loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.native import call, library, takes

__all__ = ["extra_of_holes", "usable"]


def usable(like: Tensor) -> bool:
    """True where the compiled loops take these numbers."""
    return takes("holes", like)


def extra_of_holes(
    linear: Tensor, precision: Tensor, x: Tensor, unknown: Tensor, edges: Tensor, order: Tensor
) -> Tensor:
    """``(K, N)``: what integrating the unknown cells out adds to the log density with zeros in their places.

    Args:
        linear: ``(K, D)`` linear natural parameters h.
        precision: ``(K, D, D)`` symmetric precision matrices P.
        x: ``(N, D)`` with zeros for unknown cells.
        unknown: ``(G, D)`` distinct patterns, one byte a cell.
        edges: ``(G + 1,)`` where each pattern's rows begin in ``order``.
        order: ``(N,)`` rows, pattern after pattern.
    """
    return Holes.apply(linear, precision, x.contiguous(), unknown, edges, order)


class Holes(torch.autograd.Function):
    """Its gradient with respect to (h, P) is the expected (x, -xx'/2) beyond those of the zeros."""

    @staticmethod
    def forward(ctx: Any, linear: Tensor, precision: Tensor, x: Tensor, *layout: Tensor) -> Tensor:  # type: ignore[override]
        unknown, edges, order = layout
        h, P = in_lanes(linear), in_lanes(precision)
        blocks, D, N = len(h), linear.shape[1], len(x)
        out = x.new_empty(N, blocks, h.shape[-1])
        call(holes().forward, len(unknown), blocks, D, edges, order, unknown, x, P, h, out)
        ctx.save_for_backward(h, P, x, unknown, edges, order)
        ctx.components = len(linear)
        return out.flatten(1)[:, : len(linear)].mT.contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("compiled holes have no second derivative")  # callers that need one do not come here
        h, P, x, unknown, edges, order = ctx.saved_tensors
        K, (blocks, D) = ctx.components, h.shape[:2]
        weight = x.new_zeros(len(x), blocks * h.shape[-1])
        weight[:, :K] = gradient.mT
        first, second = torch.zeros_like(h), torch.zeros_like(P)
        call(holes().backward, len(unknown), blocks, D, edges, order, unknown, x, P, h, weight, first, second)
        one, two = (value.movedim(-1, 1).flatten(0, 1)[:K] for value in (first, second))
        both = torch.diag_embed(0.5 * two.diagonal(0, -2, -1)) - two  # each pair of cells stands in one place only
        return one, both, None, None, None, None


def holes() -> Any:
    """The compiled functions."""
    return library("holes")


def in_lanes(value: Tensor) -> Tensor:
    """``(K, ...)`` -> ``(B, ..., lanes)``: as many components side by side as a register holds, filled up with copies."""
    lanes = holes().lanes()
    missing = -len(value) % lanes
    full = torch.cat([value, value[:1].expand(missing, *value.shape[1:])]) if missing else value
    return full.unflatten(0, (-1, lanes)).movedim(1, -1).contiguous()
