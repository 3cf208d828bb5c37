"""How much memory exact answers hold, beside what was predicted before they were worked out."""

import gzip
import tempfile
import tracemalloc
from pathlib import Path

import probgen as pg
from probgen.queries.network_tables import network_of

NETWORKS = ("water", "mildew", "barley", "munin1")


def cases():
    """All marginals of one row, in wide networks that pgmpy ships."""
    for name in NETWORKS:
        fit = pg.read_network(extracted(name))
        yield {"case": f"{name}, all nodes"} | held(fit)


def extracted(name):
    """A network that pgmpy ships, as a file."""
    import pgmpy

    source = Path(pgmpy.__file__).parent / "utils" / "example_models" / f"{name}.bif.gz"
    path = Path(tempfile.mkdtemp()) / f"{name}.bif"
    path.write_bytes(gzip.decompress(source.read_bytes()))
    return path


def held(fit):
    """Predicted and held bytes of one question."""
    network = network_of(fit)
    assert network is not None
    last = {len(network.names) - 1: 0}
    network.marginals(None, last, {})  # the route is worked out
    predicted = 8 * list(network.routes.values())[-1].numbers
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    network.marginals(None, last, {})
    most = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return {"predicted_megabytes": predicted / 1e6, "held_megabytes": most / 1e6, "ratio": predicted / most}
