r"""What is asked of models of sequences of tokens: continuations, and how many guesses a token is worth.

A continuation draws one token after another, by logits divided by a temperature, of the k most probable alone (Fan, Lewis and Dauphin, 2018), or
of the most probable that together have the probability p (nucleus sampling; Holtzman et al., 2020). Of T tokens with C characters,

.. math::
    \text{perplexity} = \exp\Bigl(-\frac1T \log p(x)\Bigr), \qquad
    \text{bits per character} = -\frac{\log_2 p(x)}{C}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.table import Table
from probgen.data.texts import as_texts, coded_texts
from probgen.errors import CapabilityError, DataError
from probgen.families.step_chain import StepChain
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, observe
from probgen.whole import check_whole, is_whole

__all__ = ["TextScore", "continue_sequences", "continue_text", "text_score"]

ROWS = 2**15  # steps that are drawn side by side


@dataclass(frozen=True)
class TextScore:
    """How well a model says some texts.

    Attributes:
        nats_per_token: minus the mean log density of a token.
        standard_error: of it, from text to text; NaN of a single one.
        tokens, characters: how many there are.
        kind: of the density: "exact", or "upper_bound" of the cost where texts are byte pairs, for a text has other spellings too.
    """

    nats_per_token: float
    standard_error: float
    tokens: int
    characters: int
    kind: str

    @property
    def perplexity(self) -> float:
        """Of how many equally probable tokens the model would be as unsure."""
        return math.exp(self.nats_per_token)

    @property
    def bits_per_character(self) -> float:
        """What a code of the texts costs."""
        return self.nats_per_token * self.tokens / self.characters / math.log(2)

    def __str__(self) -> str:
        return (
            f"{self.nats_per_token:.4f} nats a token, perplexity {self.perplexity:.3f}, {self.bits_per_character:.4f} bits a"
            f" character ({self.tokens} tokens, {self.kind})"
        )


def text_score(fit: Any, texts: Any, *, draws: int | None = None, seed: int = 0) -> TextScore:
    """Cross-entropy, perplexity and bits a character of texts.

    Args:
        fit: of text, by any model of sequences.
        texts: strings, or a table of text; ends of texts are tokens, where the fit has them.
        draws, seed: as for :meth:`Fit.log_prob`, of models whose density is an integral.

    Example:
        >>> import probgen as pg
        >>> table = pg.Table.from_text("to be or not to be " * 20)
        >>> fit = pg.fit("recurrent", table, width=8, context=16, max_steps=20, progress=False)
        >>> str(pg.text_score(fit, "not to be"))
        '... nats a token, perplexity ..., ... bits a character (9 tokens, exact)'
    """
    table = text_table(fit, texts)
    found = fit.log_prob(table, draws=draws, seed=seed, progress=False)
    tokens, lengths = int(table.known.sum()), np.add.reduceat(table.known[:, 0], starts_of(table))
    characters = sum(map(len, table.texts()))
    if not characters:
        raise DataError("The texts have no character; there is nothing to score.")
    cost = -np.asarray(found.value)
    mean = float(cost.sum()) / tokens
    rest = cost - mean * lengths
    many = len(cost)
    error = math.sqrt(many / (many - 1) * float(rest @ rest)) / tokens if many > 1 else math.nan
    pairs = fit.schema.text.tokenizer not in ("", "words")
    return TextScore(mean, error, tokens, characters, "upper_bound" if pairs and found.kind == "exact" else found.kind)


def starts_of(table: Table) -> np.ndarray:
    """The first row of every sequence."""
    assert table.lengths is not None
    return np.cumsum(table.lengths) - table.lengths


def text_table(fit: Any, texts: Any) -> Table:
    """Texts as a table with the fit's tokens."""
    if fit.schema.text is None:
        raise CapabilityError(f"{fit.name!r} was not fitted to text; make its table with Table.from_text(texts).")
    table = fit.read([texts] if isinstance(texts, str) else texts)
    if table.lengths is None:
        raise DataError("The table's rows do not stand in sequences; make it with Table.from_text(texts).")
    return table


def continue_text(
    fit: Any,
    prompt: str | Sequence[str],
    length: int = 200,
    *,
    draws: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> list[str]:
    """Texts that go on from what is given, of ``draws`` for every prompt, those of the first prompt first; the prompt stands before each.

    Args:
        fit: of text, by ``recurrent`` or ``transformer``.
        prompt: how the texts begin, one or several; "" for a text from its first token on.
        length: tokens at most; a text that ends before is shorter.
        draws: continuations of each prompt.
        temperature: below 1 for what is more probable, above for what is less; 0 for the most probable token at each place.
        top_k: so many most probable tokens are drawn from.
        top_p: the fewest most probable tokens that have this probability are drawn from.
        seed: of the draws.

    Raises:
        CapabilityError: a fit of something else, or a number outside of its range.
        DataError: a prompt with characters that the model does not know.

    Example:
        >>> import probgen as pg
        >>> table = pg.Table.from_text("to be or not to be " * 20)
        >>> fit = pg.fit("recurrent", table, width=8, context=16, max_steps=20, progress=False)
        >>> [len(text) for text in pg.continue_text(fit, "not ", 10, draws=2)]
        [14, 14]
    """
    if fit.schema.text is None:
        raise CapabilityError(f"{fit.name!r} was not fitted to text; use continue_sequences(fit, table, steps).")
    check_whole("length", length)
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    parts = [
        coded_texts(as_texts(one), fit.schema, end=False)[0] if one != "" else np.zeros((0, 1)) for one in prompts
    ]
    longer = [np.concatenate([part, np.full((length, 1), np.nan)]) for part in parts]
    table = Table.from_codes(np.concatenate(longer), fit.schema, lengths=np.array([len(one) for one in longer]))
    change = changed(temperature, top_k, top_p)
    found = [text for drawn in drawn_tables(fit, table, draws, seed, change) for text in drawn.texts()]
    return [found[draw * len(prompts) + at] for at in range(len(prompts)) for draw in range(draws)]


def continue_sequences(
    fit: Any,
    table: Any,
    steps: int,
    *,
    draws: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> list[Table]:
    """``draws`` tables in which every sequence goes on for some steps, drawn as :func:`continue_text` draws.

    Args:
        fit: of sequences, by ``recurrent`` or ``transformer``.
        table: sequences; unknown cells before the end are drawn, too, given what stands before them.
        steps: how many more.
        draws, temperature, top_k, top_p, seed: as for :func:`continue_text`; the last three but the seed are for columns with levels.
    """
    change = changed(temperature, top_k, top_p)
    if change is not None and not all(column.is_discrete for column in fit.schema):
        raise CapabilityError("temperature, top_k and top_p are for columns with levels; leave them out.")
    return drawn_tables(fit, fit.read(table).extended(check_whole("steps", steps)), draws, seed, change)


def drawn_tables(
    fit: Any, table: Table, draws: int, seed: int, change: Callable[[Tensor], Tensor] | None
) -> list[Table]:
    """The unknown cells of sequences drawn, each given all before it, all draws side by side."""
    check_whole("draws", draws)
    many, made = max(1, ROWS // table.n_rows), []
    with torch.no_grad(), fit.setting():
        batch = fit.batches(table, table.n_rows).batch(table)
        with seeded(seed, "continue"):
            chain = chain_of(fit, batch)
        for first in range(0, draws, many):
            x = batch.x.expand(min(many, draws - first), -1, -1)
            with seeded(seed, "continue", first):
                drawn, _ = chain.walked(x, batch.x.isnan(), change)
            made += [fit.standardiser.inverse(one.double().cpu().numpy()) for one in drawn]
    return [table.with_values(np.where(table.known, table.values, values)) for values in made]


def chain_of(fit: Any, batch: Any) -> StepChain:
    """The chain that says a fit's sequences."""
    sites = observe(fit.program, batch, Given(fit.posterior.theta()), sum_out=False).sites.values()
    found = next((site.distribution for site in sites if isinstance(site.distribution, StepChain)), None)
    if found is None:
        raise CapabilityError(
            f"{fit.name!r} does not say sequences token by token; continuations are for recurrent and transformer. Use fit.forecast."
        )
    return found


# ------------------------------------------------------------------------------------------------------- which levels
def changed(temperature: float, top_k: int | None, top_p: float | None) -> Callable[[Tensor], Tensor] | None:
    """What is done to logits before a level is drawn; None where nothing is."""
    if isinstance(temperature, bool) or not isinstance(temperature, Real) or not 0 <= temperature < math.inf:
        raise CapabilityError(f"temperature must be a number of at least 0, got {temperature!r}.")
    if top_k is not None and not is_whole(top_k, 1):
        raise CapabilityError(f"top_k must be a whole number of at least 1, got {top_k!r}.")
    if top_p is not None and (isinstance(top_p, bool) or not isinstance(top_p, Real) or not 0 < top_p <= 1):
        raise CapabilityError(f"top_p must be a probability above 0 and at most 1, got {top_p!r}.")
    if temperature == 1 and top_k is None and top_p is None:
        return None
    most = 1 if temperature == 0 else top_k
    return partial(narrowed, temperature=float(temperature) or 1.0, top_k=most, top_p=top_p)


def narrowed(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits ``(..., L)``, those of levels that are not to be drawn minus infinity.

    Example:
        >>> narrowed(torch.tensor([0.5, 0.3, 0.2]).log(), 1.0, None, 0.6).exp()
        tensor([0.5000, 0.3000, 0.0000])
    """
    logits = logits / temperature
    order = logits.argsort(dim=-1, descending=True, stable=True)
    probability = logits.gather(-1, order).softmax(-1)
    kept = torch.ones_like(probability, dtype=torch.bool)
    if top_k is not None:
        kept[..., top_k:] = False
    if top_p is not None:
        kept &= probability.cumsum(-1) - probability < top_p
    return logits.masked_fill(~torch.zeros_like(kept).scatter(-1, order, kept), -torch.inf)
