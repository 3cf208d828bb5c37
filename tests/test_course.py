"""The course map: every topic runs, the pages are what the topics make them, and no model is forgotten."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot

import probgen as pg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from course_topics import FURTHER, PARTS, TOPICS  # noqa: E402
from course_topics.pages import LANGUAGES, page  # noqa: E402

NAMED = [
    "bayesian_network",
    "naive_bayes",
    "gaussian_mixture",
    "hidden_markov",
    "boltzmann_machine",
    "kernel_density",
    "autoencoder",
    "vae",
    "vq_vae",
    "hierarchical_vae",
    "gan",
    "conditional_gan",
    "image_to_image_gan",
    "cycle_gan",
    "made",
    "recurrent",
    "transformer",
    "masked_transformer",
    "pixel_cnn",
    "energy",
    "score_matching",
    "diffusion",
    "discrete_diffusion",
    "conditional_diffusion",
    "score_sde",
    "coupling_flow",
    "autoregressive_flow",
    "spline_flow",
    "continuous_flow",
    "density",
    "imputation",
    "representation",
    "interpolation",
    "compression",
    "anomalies",
    "conditional_generation",
    "generative_classifier",
    "model_comparison",
]
"""What a course has to have."""


def typed(topic):
    """The function as it is made by what stands on the page, and by nothing else."""
    names = {}
    exec(re.search(r"```python\n(import.*?)```", LANGUAGES["en"]["intro"], re.S)[1], names)
    exec(topic.code(), names)
    return names[topic.name]


@pytest.mark.filterwarnings("ignore")  # fits of three steps have not converged
@pytest.mark.parametrize("name", TOPICS)
def test_what_stands_on_the_page_runs(name):
    figure, numbers = replace(TOPICS[name], function=typed(TOPICS[name])).run(fast=True)
    assert figure.axes
    assert all(axes.has_data() or axes.texts or axes.patches for axes in figure.axes)
    assert numbers
    assert np.isfinite(list(numbers.values())).all(), numbers
    figure.canvas.draw()
    pyplot.close("all")


def test_the_course_has_its_topics():
    assert set(NAMED) <= set(TOPICS)
    assert [topic.name for part in PARTS for topic in part.topics] == list(TOPICS)


def test_every_model_is_in_the_course_or_left_out_on_purpose():
    shown = {model for topic in TOPICS.values() for model in topic.models}
    ours = {path.stem for path in (ROOT / "probgen" / "models").glob("*.py")} - {"__init__"}
    assert ours <= set(pg.available())
    assert not shown & set(FURTHER)
    assert shown | set(FURTHER) == ours


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_what_it_says(name):
    topic = TOPICS[name]
    code = topic.code()
    assert f"def {name}(" in code
    assert len(code[code.index(f"def {name}(") :].splitlines()) <= 30
    assert all((ROOT / "probgen" / "models" / f"{model}.py").exists() for model in topic.models)
    unseen = [model for model in topic.models if f'"{model}"' not in code]
    assert not unseen, "the example does not fit it"
    assert topic.source
    assert (ROOT / "docs" / "figures" / "course" / f"{name}.png").exists()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_is_as_made_and_has_all_topics(language):
    place = ROOT / "docs" / LANGUAGES[language]["file"]
    text = place.read_text(encoding="utf-8")
    assert text == page(PARTS, FURTHER, language), "python examples/course.py --pages docs"
    for topic in TOPICS.values():
        title, sentence = {"en": (topic.title, topic.sentence), "es": (topic.titulo, topic.frase)}[language]
        assert f"### {title}\n\n{sentence}\n" in text
        assert f"`python examples/course.py {topic.name}`" in text
        assert f"(figures/course/{topic.name}.png)" in text


def test_the_languages_differ():
    assert all(topic.sentence != topic.frase for topic in TOPICS.values())
    assert LANGUAGES["en"].keys() == LANGUAGES["es"].keys()
