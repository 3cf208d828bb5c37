"""What several examples draw."""

import numpy as np


def coloured_digits(codes, digits, axes, title):
    """Codes in the plane, a colour a digit, and the digit in the middle of its codes."""
    digits = np.asarray(digits).astype(int)
    axes.scatter(*codes.T, c=digits, cmap="tab10", s=7, alpha=0.6, linewidths=0)
    for digit in set(digits.tolist()):
        axes.text(*np.median(codes[digits == digit], axis=0), str(digit), fontsize=15, weight="bold", ha="center")
    axes.set_title(title, loc="left")
    axes.set(xticks=[], yticks=[])
