"""One training step of a flow, and draws from it, beside zuko's flow of the same kind and size.

Ten numbers, three maps with two hidden layers of 128, eight bins, 256 rows, Adam, float32, one thread. Both are timed in turn;
``pip install zuko`` first.
"""

import statistics

import torch

from benchmarks import measure
from probgen.families.flows import (
    Affine,
    Autoregressive,
    Coupling,
    FlowDistribution,
    Inverted,
    RationalQuadratic,
    alternating,
)

SIZE, MAPS, HIDDEN, BINS, ROWS = 10, 3, (128, 128), 8, 256


def cases():
    """Kinds of maps, a step of maximum likelihood and draws of each."""
    import zuko

    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(SIZE), 1.0), 1)
    common = {"transforms": MAPS, "hidden_features": HIDDEN}
    pairs = {
        "affine autoregressive": (lambda: Inverted(Autoregressive(SIZE, Affine(), HIDDEN)), zuko.flows.MAF(SIZE, **common)),
        "affine coupling": (lambda: Coupling(SIZE, Affine(), HIDDEN), zuko.flows.RealNVP(SIZE, **common)),
        "spline autoregressive": (lambda: Inverted(Autoregressive(SIZE, RationalQuadratic(BINS), HIDDEN)), zuko.flows.NSF(SIZE, bins=BINS, **common)),
        "spline coupling": (lambda: Coupling(SIZE, RationalQuadratic(BINS), HIDDEN), zuko.flows.NSF(SIZE, bins=BINS, passes=2, **common)),
    }  # fmt: skip
    for name, (make, peer) in pairs.items():
        flow = alternating([make() for _ in range(MAPS)])
        ours = ways(lambda flow=flow: FlowDistribution(base, flow), flow)
        for what, one, other in zip(("step", "draws"), ours, ways(lambda peer=peer: peer(), peer), strict=True):
            for run in (one, other):
                run()
            taken = [measure(one, other, swap=bool(at % 2)) for at in range(21)]
            middle = [statistics.median(pair[side] for pair in taken) * 1000 for side in (0, 1)]
            yield {"flow": name, "what": what, "ours_ms": middle[0] / 5, "zuko_ms": middle[1] / 5, "ratio": middle[0] / middle[1]}  # fmt: skip


def ways(distribution, module):
    """Five training steps, and five times 256 draws."""
    optimiser, x = torch.optim.Adam(module.parameters(), 1e-4, fused=True), torch.randn(ROWS, SIZE)

    def step():
        for _ in range(5):
            optimiser.zero_grad()
            (-distribution().log_prob(x).mean()).backward()
            optimiser.step()

    def draws():
        with torch.no_grad():
            for _ in range(5):
                distribution().sample((ROWS,))

    return step, draws
