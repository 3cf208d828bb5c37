r"""A classifier of noisy rows, whose gradient draws rows of a level (Dhariwal and Nichol, 2021; Song et al., 2021).

.. math::
    \nabla_z \log p(z_t \mid y) = \nabla_z \log p(z_t) + \nabla_z \log p(y \mid z_t), \qquad
    \hat\epsilon = \hat\epsilon_\theta(z_t, t) - s\, \sigma_t \nabla_z \log p_\phi(y \mid z_t, t)

With s = 1 and exact parts that is the noise in rows of the level y; a greater s asks for rows that the classifier is surer of.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.denoising import Asked
from probgen.families.diffusion_options import checked_number
from probgen.families.level_mixture import checked_label
from probgen.nn import TimedMLP

__all__ = ["NoisedClassifier", "noised_classifier"]


class NoisedClassifier(nn.Module):
    """The level of one column given the other cells of a row, modelled or shown, and how noisy the former are.

    Args:
        schema: the columns, D of them.
        label: name of a column with levels.
        numbers: F, of a row's cells.
        hidden: widths, a residual block for each.
        dropout: share of units that are left out at each training step.
        guidance: s, of the gradient; with 0 the label is shown to the network that takes noise away.
    """

    def __init__(
        self,
        schema: Schema,
        label: str,
        numbers: int,
        hidden: tuple[int, ...],
        dropout: float = 0.0,
        guidance: float = 1.0,
    ) -> None:
        super().__init__()
        self.at, self.guidance = schema.index(label), guidance
        self.register_buffer("others", torch.arange(len(schema)) != self.at, persistent=False)
        self.others: Tensor
        self.network = TimedMLP(numbers + 2 * len(schema), hidden, len(schema[label].levels), dropout)

    def unshown(self, asked: Asked) -> Asked:
        """The same cells given all that are shown but the label."""
        return Asked(asked.modelled, asked.shown & self.others)

    def unread(self, asked: Asked) -> Asked:
        """What the classifier reads: no label."""
        return Asked(asked.modelled & self.others, asked.shown & self.others)

    def log_prob(self, read: Tensor, number: Tensor, x: Tensor) -> Tensor:
        """``(S, B)``: log probability of the labels of rows ``(B, D)`` given what is read ``(S, B, F + 2 D)`` and how noisy it is; 0 where they are unknown."""
        found = self.network(read, number).log_softmax(-1)
        code = x[:, self.at].nan_to_num().long().expand(found.shape[:-1])
        return torch.where(x[:, self.at].isnan(), 0.0, found.gather(-1, code[..., None])[..., 0])


def noised_classifier(
    schema: Schema,
    label: str | None,
    numbers: int,
    hidden: tuple[int, ...],
    dropout: float,
    guidance: float,
    conditioning: float,
) -> NoisedClassifier | None:
    """By a model's options; "auto" is the last column with levels, None no classifier.

    Raises:
        CapabilityError: no column with levels, a factor that is no number or of nothing, rows that always have their label.
    """
    checked_number("classifier_guidance", guidance, 0.0, math.inf)
    if label is None:
        if guidance != 1.0:
            raise CapabilityError(
                f"classifier_guidance={guidance:g} is of a classifier, and there is none; name a column with levels, as in classifier='label'."
            )
        return None
    label = checked_label(schema, label, "A classifier of noisy rows")
    if not conditioning:
        raise CapabilityError(
            f"classifier={label!r} guides draws of rows without their label, and with conditioning=0 none are learnt; fit with conditioning=0.5."
        )
    return NoisedClassifier(schema, label, numbers, hidden, dropout, guidance)
