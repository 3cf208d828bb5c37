"""The posterior as ArviZ's container: InferenceData on 0.x, DataTree on 1.x."""

from __future__ import annotations

from typing import Any

import numpy as np

from probgen.queries.reading import families

__all__ = ["to_arviz"]


def to_arviz(fit: Any) -> Any:
    """Groups: posterior (readable parameters), with the kind, method, seed and versions as attributes."""
    import arviz

    posterior = {name: value.double().cpu().numpy() for name, value in fit.posterior.sites.items()}
    owners = families(fit) if fit.posterior.parameters else {}
    chains, draws = fit.posterior.shape
    for name, theta in fit.posterior.parameters.items():
        flat = {key: value.reshape(chains * draws, *value.shape[2:]) for key, value in theta.items()}
        found = [owners[name].describe({k: v[i] for k, v in flat.items()}) for i in range(chains * draws)]
        for key in found[0]:
            stacked = np.stack([draw[key].double().cpu().numpy() for draw in found])
            posterior[f"{name}.{key}"] = stacked.reshape(chains, draws, *stacked.shape[1:])
    attributes = {
        "kind": "point" if fit.posterior.point else "draws",
        "model": fit.name,
        "method": fit.method,
        "seed": fit.provenance["seed"],
        **{f"version_{key}": value for key, value in fit.provenance["versions"].items()},
    }
    if int(arviz.__version__.split(".")[0]) >= 1:
        tree = arviz.from_dict({"posterior": posterior})
        tree.attrs.update(attributes)
        return tree
    made = arviz.from_dict(posterior=posterior)
    made.attrs.update(attributes)
    if posterior:
        made.posterior.attrs.update(attributes)
    return made
