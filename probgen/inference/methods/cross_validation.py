r"""Leave-one-out cross-validation of kernel widths (Habbema, Hermans and van den Broek, 1974; Duin, 1976).

.. math:: \max_h\ \sum_n w_n \log \frac{\sum_{i \ne n} w_i K_h(x_n; c_i)}{\sum_{i \ne n} w_i}

The gradient is taken block by block with respect to what the kernels' matrix product needs of the centres, and once
from there to the logarithms of the widths, over which L-BFGS climbs. Where there are more than ``rows`` rows, a seeded
sample of them is left out in turn; all rows keep their kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen.errors import CapabilityError, FitError
from probgen.families.base import Natural
from probgen.families.kernel_rows import KernelRows, LeftOut
from probgen.inference.log_sum import log_sum_exp
from probgen.inference.methods.base import Method, Step
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seeded

__all__ = ["CrossValidation", "left_out_log_prob"]

SCORES = 2**19  # in one block
PAIRS = 2**24  # of a row left out and a kernel
CHECKED = 500  # rows by which an approximation is judged


class CrossValidation(Method):
    """Kernels on all training rows, and their widths: by the likelihood of rows left out, or by the model's rule.

    Options:
        rows: how many rows are left out in turn; fewer, but at least 100, where there are more than 16 000 kernels.
        kernels: how many rows carry kernels while widths are searched for. Widths found on a sample n of N rows are
            scaled by (n / N)^(1 / (q + 4)), q lines and counts (Hall and Robinson, 2009), those of levels by its square.
    """

    defaults = {"rows": 1000, "kernels": 2**14}
    max_steps = 50
    tolerance = 1e-4
    iterates = "iteration"

    def init(self) -> None:
        task = self.task
        kept = [module for module in task.program.modules() if isinstance(module, KernelRows)]
        if len(kept) != 1:
            raise CapabilityError(
                f"method 'cross_validation' needs a program that keeps its rows; {task.program.name!r} is not one."
            )
        self.kernels = kept[0]
        self.searches = self.kernels.bandwidth == "cross_validation"
        pieces = list(task.batches.pieces())
        self.x = torch.cat([piece.x for piece in pieces])
        self.weight = torch.cat([torch.ones_like(p.x[:, 0]) if p.weights is None else p.weights for p in pieces])
        with seeded(task.seed, "cross_validation"):
            order = torch.randperm(len(self.x)).to(self.x.device)
            some = order[: task.options["kernels"] if self.searches else None].sort().values
            self.left_out = self.kernels.keep(self.x[some], self.weight[some])
            most = min(task.options["rows"], max(100, PAIRS // len(self.kernels.centre)))
            self.index = torch.randperm(len(self.left_out.y))[:most].sort().values.to(some.device)
        self.share = len(some) / len(self.x)
        self.error: float | None = None
        self.previous = -torch.inf
        low, high = self.left_out.low, self.left_out.high
        place = ((self.left_out.start / low).log() / (high / low).log()).clamp(0.01, 0.99)
        self.u = place.logit().requires_grad_()
        self.optimiser = torch.optim.LBFGS(
            [self.u], max_iter=4, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=0
        )

    def width(self) -> Tensor:
        """Between its limits on a logarithmic scale."""
        low, high = self.left_out.low, self.left_out.high
        return low * (high / low) ** self.u.sigmoid()

    def step(self) -> Step:
        if not self.searches:
            return Step({"objective": self.objective(self.left_out.start)}, True, True)
        objective = -float(self.optimiser.step(self.loss))
        if objective != objective or objective == -torch.inf:
            raise FitError("The likelihood of rows left out is not finite; give a bandwidth, 'scott' or a number.")
        gain, self.previous = objective - self.previous, objective
        done = 0 <= gain < self.task.tolerance
        return Step({"objective": objective}, done, done)

    def loss(self) -> Tensor:
        """Minus the objective, with its gradient."""
        self.optimiser.zero_grad()
        value = left_out_log_prob(self.kernels, self.left_out, self.width(), self.index, backward=True)
        self.u.grad.neg_()  # type: ignore[union-attr]
        return -value

    def objective(self, width: Tensor) -> float:
        return float(left_out_log_prob(self.kernels, self.left_out, width, self.index))

    # -- the end -----------------------------------------------------------------------------------------------
    @torch.no_grad()
    def result(self) -> Posterior:
        if self.searches and self.share < 1:
            with seeded(self.task.seed, "all rows"):
                self.kernels.keep(self.x, self.weight)
        if self.searches:
            self.kernels.set_width(self.kernels.for_more_rows(self.width(), self.share))
        if self.kernels.approximation is not None:
            sample = self.x[:: max(1, len(self.x) // CHECKED)]
            before = self.kernels.log_sum(sample, self.kernels.log_weight)
            self.kernels.merge()
            self.error = float((self.kernels.log_sum(sample, self.kernels.log_weight) - before).abs().mean())
        return Posterior()

    def diagnostics(self) -> dict[str, Any]:
        """Widths on each kernel's own scale, and the columns whose width stopped at the narrowest allowed."""
        found: dict[str, Any] = {"bandwidth": self.kernels.described(), "kernels": len(self.kernels.centre)}
        if self.error is not None:
            found["approximation_error"] = self.error  # mean |difference| in nats a row
        if not self.searches:
            return found
        narrow = self.width() < 1.02 * self.left_out.low
        names = [axis.name for axis, at in zip(self.kernels.axes.all, narrow.tolist(), strict=True) if at]
        return found | {"rows_left_out": len(self.index), "at_the_narrowest": names or None}

    def pack(self) -> dict[str, Tensor]:
        return {"u": self.u.detach()}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.u.data.copy_(tensors["u"])


def left_out_log_prob(
    kernels: KernelRows, left_out: LeftOut, width: Tensor, index: Tensor, backward: bool = False
) -> Tensor:
    """Weighted mean log density of rows that are left out in turn, in model coordinates.

    Args:
        kernels: the rows that are kept.
        left_out: how they are left out.
        width: ``(A,)`` of Gaussian kernels on lines.
        index: which rows.
        backward: add the gradient to that of what the width was made of.
    """
    natural = kernels.smooth.natural(kernels.centre, width, kernels.stretch)
    leaves = {key: value.detach().requires_grad_(backward) for key, value in natural.items()}
    weight = left_out.weight[index] / left_out.weight[index].sum()
    total = width.new_zeros(())
    step = max(1, SCORES // len(kernels.centre))
    for rows, share in zip(index.split(step), weight.split(step), strict=True):
        with torch.set_grad_enabled(backward):
            part = (share * without_own(kernels, leaves, left_out, rows)).sum()
        if backward:
            part.backward()
        total = total + part.detach()
    if backward:
        used = [key for key, leaf in leaves.items() if leaf.grad is not None and natural[key].requires_grad]
        torch.autograd.backward([natural[key] for key in used], [leaves[key].grad for key in used])
    return total


def without_own(kernels: KernelRows, natural: Natural, left_out: LeftOut, rows: Tensor) -> Tensor:
    """``(B,)``: log density of each row under all kernels but those that were made from it."""
    score = kernels.smooth.score_axes(natural, left_out.y[rows], left_out.log_jacobian[rows])
    score = score.add_(kernels.log_weight[:, None])
    centre, place = own_kernels(left_out, rows)
    mass = torch.zeros_like(kernels.log_weight[: len(rows)]).index_add(0, place, kernels.log_weight[centre].exp())
    return log_sum_exp(score.index_put_((centre, place), score.new_tensor(-torch.inf))) - torch.log1p(-mass)


def own_kernels(left_out: LeftOut, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a kernel and the place in ``rows`` of a row that it was made from, each once."""
    place = rows.new_full((len(left_out.y) + 1,), -1)  # the last one answers for "no row"
    place[rows] = torch.arange(len(rows), device=rows.device)
    at = place[left_out.origin]  # (K, J)
    centre = (at >= 0).nonzero()[:, 0]
    code = (centre * len(rows) + at[at >= 0]).unique()
    return code // len(rows), code % len(rows)
