r"""The passes of a linear-Gaussian path by parallel prefix sums, for few long sequences (Särkkä and García-Fernández, 2021).

A row with the step that leads to it is an element of a semigroup: the law of its state given the state before it and
the row, :math:`\mathcal N(F z + f, C)`, and what the row says of the state before it, :math:`(\eta, J)`. Products of
elements from the left are filtered states, products from the right are what later rows say, and log N batched rounds
make all of them. A first row forgets what is before it (F = 0), so that sequences of any lengths lie end to end.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from probgen.inference.kalman_passes import Layout, Motion, Potentials, apply, information

__all__ = ["ScannedBackward", "ScannedFilter"]

Elements = tuple[Tensor, ...]


def scan(join: Callable[[Elements, Elements], Elements], elements: Elements) -> Elements:
    """All products of leading elements (Ladner and Fischer, 1980)."""
    n = len(elements[0])
    if n == 1:
        return elements
    odd = scan(join, join(every(elements, 0, n - 1), every(elements, 1, n)))
    even = join(tuple(part[: (n - 1) // 2] for part in odd), every(elements, 2, n)) if n > 2 else None
    out = tuple(torch.empty_like(part) for part in elements)
    for at, part in enumerate(out):
        part[0], part[1::2] = elements[at][0], odd[at]
        if even is not None:
            part[2::2] = even[at]
    return out


def every(elements: Elements, first: int, last: int) -> Elements:
    """Every other element."""
    return tuple(part[first:last:2] for part in elements)


def join(one: Elements, other: Elements) -> Elements:
    """An element and the one after it as one element."""
    (F, f, C, eta, J), (F2, f2, C2, eta2, J2) = one, other
    L = F.shape[-1]
    right = torch.cat([F, C, (f + (C @ eta2[..., None])[..., 0])[..., None]], -1)
    solved = torch.linalg.solve(torch.eye(L).to(F) + C @ J2, right)
    XF, XC, Xf = solved[..., :L], solved[..., L : 2 * L], solved[..., 2 * L :]
    spread = F2 @ XC @ F2.mT + C2
    told = eta2 - (J2 @ f[..., None])[..., 0]
    curve = XF.mT @ J2 @ F + J
    return (
        F2 @ XF,
        (F2 @ Xf)[..., 0] + f2,
        0.5 * (spread + spread.mT),
        (XF.mT @ told[..., None])[..., 0] + eta,
        0.5 * (curve + curve.mT),
    )


def follow(one: Elements, other: Elements) -> Elements:
    """Two affine maps, one after the other."""
    return other[0] @ one[0], (other[0] @ one[1][..., None])[..., 0] + other[1]


def elements_of(motion: Motion, potentials: Potentials, layout: Layout) -> Elements:
    """Every row, with the step that leads to it, as one element."""
    h, J, b = potentials.linear, potentials.square, motion.transition.offset
    N, L, first = len(h), len(b), layout.first
    curve, gain, root = information(motion.transition, J)
    C = root @ root.mT
    f = b + apply(C, None, h - apply(J, None, b.expand(N, L)))
    eta = apply(gain, None, h - apply(J, None, b.expand(N, L)))
    found = [gain.mT, f, C, eta, curve]
    found = [part.expand(N, *part.shape[1:]).clone() for part in found]
    m0, S = motion.initial.offset, motion.initial.root
    at = J if len(J) == 1 else J[first]
    K = torch.linalg.cholesky(torch.eye(S.shape[1]).to(S) + S.mT @ at @ S)
    half = torch.linalg.solve_triangular(K, S.mT.expand(len(K), -1, -1), upper=False)
    C = half.mT @ half
    for place in (0, 3, 4):
        found[place][first] = 0.0
    found[1][first] = m0 + apply(C, None, h[first] - apply(at, None, m0.expand(len(first), L)))
    found[2][first] = C
    return tuple(found)


class ScannedFilter:
    """The forward pass, as :class:`probgen.inference.kalman_passes.Filter` gives it."""

    row = None

    def __init__(self, motion: Motion, potentials: Potentials, layout: Layout) -> None:
        k, h, J = potentials.constant, potentials.linear, potentials.square
        A, b, G = motion.transition.matrix, motion.transition.offset, motion.transition.root
        _, self.mean, self.covariance, _, _ = scan(join, elements_of(motion, potentials, layout))
        m, P = torch.empty_like(self.mean), torch.empty_like(self.covariance)
        m[layout.first], P[layout.first] = motion.initial.offset, motion.initial.root @ motion.initial.root.mT
        m[layout.after] = self.mean[layout.before] @ A.mT + b
        P[layout.after] = A @ self.covariance[layout.before] @ A.mT + G @ G.mT
        pull = h - apply(J, None, m)
        inside = 0.5 * torch.linalg.slogdet(torch.eye(len(A)).to(A) + P @ J)[1]
        step = (self.covariance @ pull[..., None])[..., 0]
        self.value = k + 0.5 * ((h + pull) * m).sum(-1) + 0.5 * (pull * step).sum(-1) - inside

    def smoothed(self, square: Tensor, place: Tensor | None) -> Tensor:
        """Covariances with the information of later rows added."""
        P = self.covariance if place is None else self.covariance[place]
        found = torch.linalg.solve(torch.eye(P.shape[-1]).to(P) + P @ square, P)
        return 0.5 * (found + found.mT)


class ScannedBackward:
    """The backward pass, as :class:`probgen.inference.kalman_passes.Backward` gives it."""

    row = None

    def __init__(self, motion: Motion, potentials: Potentials, layout: Layout) -> None:
        h, J, b = potentials.linear, potentials.square, motion.transition.offset
        self.layout = layout
        turned = tuple(part.flip(0) for part in elements_of(motion, potentials, layout))
        *_, told, curve = scan(lambda one, other: join(other, one), turned)
        self.linear, self.square = torch.zeros_like(told), torch.zeros_like(curve)
        self.linear[:-1], self.square[:-1] = told.flip(0)[1:], curve.flip(0)[1:]
        self.drive = h - apply(J + self.square, None, b.expand(h.shape))
        _, gain, root = information(motion.transition, (J + self.square)[layout.after])
        self.gain, self.root = torch.zeros_like(self.square), root.new_zeros(len(h), *root.shape[1:])
        self.gain[layout.before], self.root[layout.before] = gain, root

    def path(self, first: Tensor, push: Tensor) -> Tensor:
        """States that follow z' = E' z + push from the first rows on."""
        gain, push = torch.zeros_like(self.gain), push.roll(1, 0)
        gain[self.layout.after] = self.gain[self.layout.before].mT
        push[self.layout.first] = first
        return scan(follow, (gain, push))[1]
