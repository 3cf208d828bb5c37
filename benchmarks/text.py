"""Text: tiny-shakespeare character by character, and the time of a step beside a loop of torch written by hand.

``CASES=shakespeare,step`` chooses; ``MODELS=transformer`` among the models, ``STEPS`` the steps of a fit. Needs the folder of data sets (``PROBGEN_DATA``).
The configuration is nanoGPT's for a CPU: 4 layers, 4 heads, width 128, 64 characters of context, 12 windows a step, 2000 steps, no dropout; the first
90 % of the text teach, the rest is scored.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import probgen as pg
from probgen.data import Table
from probgen.families.step_windows import Windowing

CONTEXT, WINDOWS, WIDTH = 64, 12, 128
SVI: dict[str, Any] = {"batch_size": WINDOWS, "clip": 64.0, "seed": 0, "progress": False}
MODELS: dict[str, dict[str, Any]] = {
    "transformer": {"model": "transformer", "layers": 4, "width": WIDTH},
    "transformer_rotary": {
        "model": "transformer",
        "layers": 4,
        "width": WIDTH,
        "learning_rate": 3e-3,
        "positions": "rotary",
    },
    "lstm": {"model": "recurrent", "cell": "lstm", "width": 256, "learning_rate": 3e-3},
    "gru": {"model": "recurrent", "cell": "gru", "width": 256, "learning_rate": 3e-3},
}
Line = dict[str, Any]


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", "step,shakespeare").split(","):
        yield from {"step": step, "shakespeare": shakespeare}[name]()


def chosen(default: str) -> list[str]:
    return os.environ.get("MODELS", default).split(",")


def text() -> str:
    folder = Path(os.environ.get("PROBGEN_DATA", "../shared/data"))
    return (folder / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")


def shakespeare() -> Iterator[Line]:
    """Cross-entropy of the last tenth, with windows that do not overlap and windows that do, and what is drawn."""
    whole = text()
    cut = int(0.9 * len(whole))
    schema = Table.from_text(whole).schema
    train, valid = (Table.from_text(part, schema=schema) for part in (whole[:cut], whole[cut:]))
    for what in chosen("transformer,lstm"):
        options = {"max_steps": int(os.environ.get("STEPS", "2000")), "context": CONTEXT, **MODELS[what], **SVI}
        began = time.process_time()
        fit = pg.fit(options.pop("model"), train, **options)
        seconds, scored = time.process_time() - began, {}
        for stride in (CONTEXT, CONTEXT // 2, CONTEXT // 4):
            fit.program.__dict__["windowing"] = Windowing(CONTEXT, stride)
            began = time.process_time()
            scored[stride] = pg.text_score(fit, valid)
            scoring = time.process_time() - began
        drawn = pg.continue_text(fit, "\n", 200, top_p=0.95, seed=1)[0]
        yield {
            "case": "shakespeare", "model": what, "parameters": sum(p.numel() for p in fit.program.parameters()),
            **{f"nats_stride_{stride}": score.nats_per_token for stride, score in scored.items()},
            "bits_per_character": scored[CONTEXT].bits_per_character, "cpu_seconds": seconds, "scoring_stride_16": scoring,
            "steps": options["max_steps"], "draw": drawn,
        }  # fmt: skip


# -------------------------------------------------------------------------------------------------- a loop by hand
class HandBlock(nn.Module):
    """A layer as in nanoGPT."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.one, self.two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.wide, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.read(self.one(x)).split(x.shape[2], 2)
        q, k, v = (part.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in parts)
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.write(found.transpose(1, 2).contiguous().view(x.shape))
        return x + self.narrow(functional.gelu(self.wide(self.two(x))))


class HandTransformer(nn.Module):
    """Four of them over characters."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(levels, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(HandBlock(WIDTH, 4) for _ in range(4)), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        found = self.token(x) + self.position(torch.arange(x.shape[1]))
        for block in self.blocks:
            found = block(found)
        return functional.linear(self.norm(found), self.token.weight)


class HandLSTM(nn.Module):
    """One layer over characters."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.token, self.cell = nn.Embedding(levels, 256), nn.LSTM(256, 256, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.cell(self.token(x))[0], self.token.weight)


def by_hand(net: nn.Module, codes: Tensor) -> Callable[[int], float]:
    """Seconds a step of Adam on random windows, clipped, with a learning rate that changes, its loss read out."""
    optimiser = torch.optim.Adam(net.parameters(), fused=True)

    def run(steps: int) -> float:
        began = time.process_time()
        for number in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 1e-3 / (1 + number)
            at = torch.randint(len(codes) - CONTEXT - 1, (WINDOWS,)).tolist()
            x = torch.stack([codes[i : i + CONTEXT] for i in at])
            y = torch.stack([codes[i + 1 : i + CONTEXT + 1] for i in at])
            logits = net(x)
            loss = functional.cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            float(loss.detach())
        return (time.process_time() - began) / steps

    return run


def by_library(train: Table, options: dict[str, Any], steps: int) -> float:
    """Seconds a step of a fit."""
    at: list[float] = []
    options = {**options, **SVI, "max_steps": steps + 3, "callback": lambda *_: at.append(time.process_time())}
    pg.fit(options.pop("model"), train, context=CONTEXT, **options)
    return (at[-1] - at[2]) / (len(at) - 3)


def step() -> Iterator[Line]:
    """Pairs of runs of the hand-written loop and of a fit, one after another."""
    train = Table.from_text(text()[:200_000])
    codes = torch.tensor(train.values[:, 0]).long()
    levels = len(train.schema[0].levels)
    for what in chosen("transformer,lstm"):
        hand = by_hand(HandTransformer(levels) if what == "transformer" else HandLSTM(levels), codes)
        hand(5)
        pairs = [(hand(20), by_library(train, MODELS[what], 20)) for _ in range(int(os.environ.get("PAIRS", "9")))]
        ratios = np.array([ours / theirs for theirs, ours in pairs])
        theirs, ours = np.median(pairs, 0)
        yield {
            "case": "step", "model": what, "by_hand_ms": 1e3 * float(theirs), "ours_ms": 1e3 * float(ours),
            "ratio": float(np.median(ratios)), "quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(), "pairs": len(pairs),
        }  # fmt: skip
