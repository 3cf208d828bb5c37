r"""Diffusion of levels by masks: cells vanish one after the other, and come back in any order (Austin et al., 2021; Hoogeboom et al., 2022).

.. math::
    \log p(x) \ge \mathbb E_{\pi} \sum_{i=1}^{K} \log p_\theta(x_{\pi_i} \mid x_{\pi_1}, \dots, x_{\pi_{i-1}})
    = \mathbb E_{r, \pi}\, \frac{K}{K - r} \sum_{i > r} \log p_\theta(x_{\pi_i} \mid x_{\pi_1}, \dots, x_{\pi_r})

over orders :math:`\pi` of the K modelled cells and numbers r from 0 to K - 1, all alike. It is the bound of absorbing-state diffusion in continuous time, whatever its
schedule, and that of an autoregressive model in a random order. One r drawn at random estimates it without bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from probgen.data.schema import Schema
from probgen.families.denoising import Asked, Noise, NoiseProcess, in_steps
from probgen.families.noised_cells import alike

__all__ = ["MaskedDiffusion"]


class MaskedDiffusion(NoiseProcess):
    """Cells that are not visible yet, and a network that says what they may be given those that are.

    Args:
        schema: D columns of levels.
        network: from one-hot visible cells, masks of visible and modelled columns, and the share that is visible, to logits of all levels.
        draw_steps: in which cells are drawn; None for one cell after the other, which alone is the law that the bound is of.
        guidance: how much further than what is shown says the draws go.
        conditioning: as for every process.
    """

    def __init__(
        self,
        schema: Schema,
        network: nn.Module,
        draw_steps: int | None = None,
        guidance: float = 0.0,
        conditioning: float = 0.5,
    ) -> None:
        super().__init__(torch.tensor(alike(list(schema))), conditioning)
        self.network, self.draw_steps, self.guidance = network, draw_steps or len(schema), guidance
        sizes = torch.tensor([len(column.levels) for column in schema])
        self.register_buffer("valid", torch.arange(int(sizes.max())) < sizes[:, None], persistent=False)  # (D, L)
        self.valid: Tensor

    @property
    def numbers(self) -> int:
        return int(self.valid.sum())

    def logits(self, codes: Tensor, visible: Tensor, asked: Asked) -> Tensor:
        """``(S, B, D, L)`` log probabilities of every cell, given codes ``(S, B, D)`` where they are visible."""
        hot = one_hot(torch.where(visible, codes, 0).long(), self.valid.shape[1]) * visible[..., None]
        read = torch.cat([hot[..., self.valid], visible, asked.modelled.expand_as(visible)], -1)
        dtype = torch.get_default_dtype()
        said = self.network(read.to(dtype), visible.to(dtype).mean(-1))
        wide = said.new_full((*visible.shape, self.valid.shape[1]), -torch.inf)
        wide[..., self.valid] = said
        return wide.log_softmax(-1)

    def terms(self, x: Tensor, asked: Asked, times: Tensor, noise: Noise) -> Tensor:
        codes, count = x.nan_to_num().expand(len(times), *x.shape), asked.modelled.sum(-1)
        rank = self.order(noise.normal(x.new_empty(len(times), len(x), self.numbers)), asked)
        seen = (times * count).floor().clamp(max=(count - 1).clamp_min(0))  # (S, B)
        hidden = asked.modelled & (rank >= seen[..., None])
        log_p = self.logits(codes, asked.shown | (asked.modelled & ~hidden), asked)
        own = log_p.gather(-1, codes.long()[..., None])[..., 0]
        return torch.where(hidden, own, 0.0).sum(-1) * count / (count - seen).clamp_min(1)

    def order(self, normal: Tensor, asked: Asked) -> Tensor:
        """``(S, B, D)``: in which place each modelled cell comes."""
        scores = torch.where(asked.modelled, normal[..., : len(self.block)], torch.inf)
        return scores.argsort(-1).argsort(-1)

    def draw(self, x: Tensor, asked: Asked, noises: Sequence[Noise]) -> Tensor:
        normal = in_steps(noises, x.new_empty(len(x), self.numbers), self.draw_steps + 1)
        rank, count = self.order(next(normal), asked), asked.modelled.sum(-1)
        codes, most = x.nan_to_num().expand_as(rank).clone(), int(count.max())
        steps = min(self.draw_steps, most)
        for step in range(steps):
            before, after = ((at * count).div(steps, rounding_mode="floor")[:, None] for at in (step, step + 1))
            now = asked.modelled & (rank >= before) & (rank < after)
            log_p = self.guided(codes, asked.shown | (asked.modelled & (rank < before)), asked)
            gumbel = torch.zeros_like(log_p)
            gumbel[..., self.valid] = -(-torch.special.log_ndtr(next(normal))).log()
            codes = torch.where(now, (log_p + gumbel).argmax(-1).to(codes), codes)
        return codes

    def guided(self, codes: Tensor, visible: Tensor, asked: Asked) -> Tensor:
        """What is said given the shown cells, and beyond it, away from what is said without them (Ho and Salimans, 2022)."""
        given = self.logits(codes, visible, asked)
        if not self.guidance:
            return given
        without = self.logits(codes, visible & ~asked.shown, asked.unshown())
        return torch.where(self.valid, given + self.guidance * (given - without), -torch.inf)
