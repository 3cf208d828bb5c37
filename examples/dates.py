# %% [markdown]
# # One sequence given another: dates
#
# "may 7, 2011" is read, "2011-05-07" is said. A table whose rows have both texts is all that is needed; the answer is what is unknown in a row.
#
#     python examples/dates.py --steps 1500

# %%
import argparse
import os

import numpy as np

import probgen as pg

FAST = bool(os.environ.get("PROBGEN_FAST"))
asked = argparse.ArgumentParser()
asked.add_argument("--steps", type=int, default=20 if FAST else 1500)
asked.add_argument("--rows", type=int, default=300 if FAST else 6000)
given = asked.parse_args()

MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]


# %% Days from 1900 to 2099, in three ways of writing them.
def dates(rows, seed):
    rng = np.random.default_rng(seed)
    found = []
    for year, month, day in zip(
        rng.integers(1900, 2100, rows), rng.integers(1, 13, rows), rng.integers(1, 29, rows), strict=True
    ):
        name = MONTHS[month - 1]
        ways = [f"{name} {day}, {year}", f"{day} {name[:3]} {year}", f"{month}/{day}/{year}"]
        found.append((ways[rng.integers(3)], f"{year}-{month:02d}-{day:02d}"))
    return found


def table_of(pairs, **more):
    written, short = zip(*pairs, strict=True)
    return pg.Table.from_parts({"written": pg.Texts(written, **more), "short": pg.Texts(short)})


table = table_of(dates(given.rows, 0), length=18)
print(table.schema)

# %% A transformer that reads one and says the other.
fit = pg.fit(
    "conditional_transformer", table, inputs="written", width=64, layers=2, batch_size=64, learning_rate=2e-3, max_steps=given.steps, seed=0, progress=False,
)  # fmt: skip

# %% Days that it has not seen.
new = dates(200, 1)
said = fit.most_probable({"written": pg.Texts([written for written, _ in new])}).texts("short")
right = np.mean([one == other for one, (_, other) in zip(said, new, strict=True)])
for one, (written, short) in zip(said[:6], new, strict=False):
    print(f"{written:<20} {one}   {'' if one == short else 'is ' + short}")
print(f"right: {right:.1%} of {len(new)}")
