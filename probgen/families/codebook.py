r"""Discrete codes of a row as vectors: vector quantisation (van den Oord, Vinyals and Kavukcuoglu, 2017).

M slots each take one of K vectors of a codebook, the one that is nearest to what an encoder says. Gradients pass the choice as if it
were not there, and the encoder is pulled to what it chose (commitment); a vector follows the mean of what chose it, by a moving average
over minibatches, and one that hardly anything chooses begins again where a row is. A value of the latent site *is* the chosen
vectors, side by side, so that its density under the guide is one point and under the prior the probability of the codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import one_hot

from probgen.errors import CapabilityError
from probgen.nn import Recurrence

__all__ = ["Codebook", "Codes", "CodesPrior", "codes_prior"]

DECAY = 0.98  # of the moving averages
DEAD = 0.2  # of the mean use of a vector, below which it begins again


class Codebook(nn.Module):
    """K vectors of C dimensions, and how often each was chosen lately.

    Args:
        slots: M, choices a row.
        codes: K.
        width: C.
        commitment: weight of the pull of the encoder to what it chose.
    """

    def __init__(self, slots: int, codes: int, width: int, commitment: float = 0.25) -> None:
        super().__init__()
        self.slots, self.codes, self.width, self.commitment = slots, codes, width, commitment
        for name, value in {
            "vectors": torch.randn(codes, width), "uses": torch.zeros(codes), "sums": torch.zeros(codes, width),
            "seen": torch.zeros(codes), "seen_sums": torch.zeros(codes, width), "others": torch.zeros(codes, width),
        }.items():  # fmt: skip
            self.register_buffer(name, value)
        self.vectors: Tensor
        self.uses: Tensor
        self.sums: Tensor
        self.seen: Tensor
        self.seen_sums: Tensor
        self.others: Tensor

    def nearest(self, vectors: Tensor) -> Tensor:
        """``(..., M)`` codes of vectors side by side, ``(..., M C)``."""
        x = vectors.detach().unflatten(-1, (self.slots, self.width))
        return (self.vectors.square().sum(-1) - 2 * x @ self.vectors.mT).argmin(-1)

    def side_by_side(self, codes: Tensor) -> Tensor:
        """``(..., M C)`` vectors of ``(..., M)`` codes."""
        return self.vectors[codes].flatten(-2)

    def forward(self, output: Tensor) -> Chosen:
        """The guide's distribution by an encoder's output ``(..., M C)``."""
        if self.training and torch.is_grad_enabled():
            self.remember(output.detach().reshape(-1, self.width))
        return Chosen(self, output)

    @property
    def perplexity(self) -> float:
        """How many vectors are in use, by how often each was chosen lately: K where all are alike."""
        return float(torch.distributions.Categorical(probs=self.uses.clamp_min(1e-12)).perplexity())

    # -- learning, without gradients -----------------------------------------------------------------------------
    def begin(self, outputs: Tensor) -> None:
        """Vectors at some outputs of an encoder, ``(N, M C)``."""
        outputs = outputs.reshape(-1, self.width)
        self.vectors = outputs[torch.linspace(0, len(outputs) - 1, self.codes).long()].clone()

    def remember(self, outputs: Tensor) -> None:
        """What a minibatch chose, and some of its outputs, where dead vectors may begin again."""
        hot = one_hot((self.vectors.square().sum(-1) - 2 * outputs @ self.vectors.mT).argmin(-1), self.codes).to(
            outputs
        )
        self.seen = self.seen + hot.sum(0)
        self.seen_sums = self.seen_sums + hot.mT @ outputs
        self.others = some_of(outputs, self.codes)

    def follow(self, rows: Any) -> None:
        """After a step: move to the mean of what chose each vector, in all processes."""
        seen, sums, others = self.seen, self.seen_sums, self.others
        if rows.size > 1:
            own = {"seen": seen, "sums": sums, "others": others if rows.leads else torch.zeros_like(others)}
            seen, sums, others = (rows.all_reduce(own)[name] for name in ("seen", "sums", "others"))
        first = not bool(self.uses.any())
        self.uses = seen if first else DECAY * self.uses + (1 - DECAY) * seen
        self.sums = sums if first else DECAY * self.sums + (1 - DECAY) * sums
        mean = self.uses.mean()
        dead = self.uses < DEAD * mean
        self.vectors = torch.where(dead[:, None], others, self.sums / self.uses.clamp_min(1e-6)[:, None])
        self.uses = torch.where(dead, mean, self.uses)
        self.sums = torch.where(dead[:, None], mean * others, self.sums)
        self.seen, self.seen_sums = torch.zeros_like(self.seen), torch.zeros_like(self.seen_sums)


def some_of(rows: Tensor, count: int) -> Tensor:
    """Rows at random, as many as are asked for."""
    return rows[torch.randint(len(rows), (count,), device=rows.device)]


class Chosen(TorchDistribution):
    r"""One point a row: the vectors nearest to an encoder's output, with the gradient of that output.

    Its log density there is 0. The density's gradient is that of the commitment, so that whatever is maximised of
    :math:`\log p - \log q` pulls the encoder to what it chose.
    """

    arg_constraints: dict = {}
    has_rsample = True
    point = True  # and no density

    def __init__(self, book: Codebook, output: Tensor) -> None:
        self.book, self.output = book, output
        self.codes = book.nearest(output)
        super().__init__(output.shape[:-1], output.shape[-1:], validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Chosen:
        return Chosen(self.book, self.output.expand(*batch_shape, -1))

    @property
    def mean(self) -> Tensor:
        return self.book.side_by_side(self.codes)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        value = self.mean + (self.output - self.output.detach())  # exactly the vectors, with the output's gradient
        return value.expand(*sample_shape, *self.output.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        same = (value.detach() == self.mean).all(-1)
        pull = self.book.commitment * (self.output - self.mean).square().sum(-1)
        return torch.where(same, pull - pull.detach(), -torch.inf)


class CodesPrior(nn.Module, ABC):
    """Probabilities of M codes."""

    def __init__(self, book: Codebook) -> None:
        super().__init__()
        self.slots, self.codes = book.slots, book.codes

    def log_prob(self, codes: Tensor) -> Tensor:
        """``(...)``: of ``(..., M)`` codes."""
        found = self.logits(codes).log_softmax(-1)
        return found.gather(-1, codes[..., None])[..., 0].sum(-1)

    @abstractmethod
    def logits(self, codes: Tensor) -> Tensor:
        """``(..., M, K)``: of each slot given those before it."""

    def draw(self, rows: int) -> Tensor:
        """``(rows, M)`` codes, one slot after the other."""
        codes = torch.zeros(rows, self.slots, dtype=torch.long, device=next(self.parameters()).device)
        for at in range(self.slots):
            codes[:, at] = torch.distributions.Categorical(logits=self.logits(codes)[:, at]).sample()
        return codes


class IndependentCodes(CodesPrior):
    """Each slot by itself."""

    def __init__(self, book: Codebook) -> None:
        super().__init__(book)
        self.weights = nn.Parameter(torch.zeros(book.slots, book.codes))

    def logits(self, codes: Tensor) -> Tensor:
        return self.weights.expand(*codes.shape[:-1], -1, -1)


class RecurrentCodes(CodesPrior):
    """Each slot given those before it, by a recurrent network."""

    def __init__(self, book: Codebook, width: int) -> None:
        super().__init__(book)
        self.net = Recurrence(book.codes, width, book.codes)

    def logits(self, codes: Tensor) -> Tensor:
        hot = one_hot(codes, self.codes).to(next(self.parameters()))
        return self.net(hot.flatten(0, -3)).reshape(*codes.shape, self.codes)


class Codes(TorchDistribution):
    """The prior over chosen vectors, ``(M C)``."""

    arg_constraints: dict = {}

    def __init__(self, book: Codebook, prior: CodesPrior, batch_shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        self.book, self.prior = book, prior
        super().__init__(batch_shape, torch.Size([book.slots * book.width]), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Codes:
        return Codes(self.book, self.prior, torch.Size(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.prior.log_prob(self.book.nearest(value))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = (*sample_shape, *self.batch_shape)
        with torch.no_grad():
            codes = self.prior.draw(max(1, torch.Size(shape).numel()))
        return self.book.side_by_side(codes).reshape(*shape, -1)


def codes_prior(kind: str, book: Codebook, width: int) -> CodesPrior:
    """By name: "independent" or "recurrent"."""
    if kind == "independent":
        return IndependentCodes(book)
    if kind == "recurrent":
        return RecurrentCodes(book, width)
    raise CapabilityError(f"prior must be 'independent' or 'recurrent', got {kind!r}.")
