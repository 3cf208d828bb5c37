# %% [markdown]
# # An introductory course in generative models, topic by topic
#
# Every topic is a function of `course_topics`, short enough to be read and typed; it fits a model, draws a figure and says some numbers.
#
#     python examples/course.py                                    all topics, in minutes
#     python examples/course.py gaussian_mixture --out figures     one of them
#     python examples/course.py --pages docs                       the pages docs/course.md and docs/curso.md

# %%
import argparse
import time
from pathlib import Path

from course_topics import FURTHER, PARTS, TOPICS
from course_topics.pages import LANGUAGES, page
from matplotlib import pyplot
from PIL import Image


def main() -> None:
    asked = argparse.ArgumentParser(description="Topics of a course: " + ", ".join(TOPICS))
    asked.add_argument("topics", nargs="*", metavar="topic", help="all of them where none is named")
    asked.add_argument("--out", default=".", help="folder of the figures")
    asked.add_argument("--pages", metavar="FOLDER", help="write the pages of the course there, and run nothing")
    given = asked.parse_args()
    if unknown := [name for name in given.topics if name not in TOPICS]:
        asked.error(f"no topic {unknown[0]!r}; there are {', '.join(TOPICS)}.")
    if given.pages:
        for language, names in LANGUAGES.items():
            place = Path(given.pages) / names["file"]
            place.write_text(page(PARTS, FURTHER, language), encoding="utf-8")
            print(place)
        return
    Path(given.out).mkdir(parents=True, exist_ok=True)
    for name in given.topics or TOPICS:
        began = time.perf_counter()
        figure, numbers = TOPICS[name].run()
        place = Path(given.out) / f"{name}.png"
        figure.savefig(place, dpi=100, bbox_inches="tight")
        Image.open(place).convert("RGB").quantize(64).save(place, optimize=True)  # a third of the bytes
        pyplot.close(figure)
        told = ", ".join(f"{what} {number:.3g}" for what, number in numbers.items())
        print(f"{name}: {told} ({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
