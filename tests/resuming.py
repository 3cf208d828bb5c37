"""Fits that are stopped and go on."""

from __future__ import annotations


def stopped_and_resumed(fit, state, at):
    """The fit of ``fit(**more)`` that was interrupted after a step, and went on from its checkpoint."""

    def stop(step, _values, _method):
        if step == at:
            raise KeyboardInterrupt

    fit(callback=stop, checkpoint=state)
    return fit(checkpoint=state)
