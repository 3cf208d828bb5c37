"""The pages of the course, in English and in Spanish, made from its topics: ``python examples/course.py --pages docs``."""

from collections.abc import Sequence
from typing import Any

LANGUAGES = {
    "en": {
        "file": "course.md",
        "title": "Course map",
        "intro": """\
Every topic of an introductory course in generative models: what it is in a sentence, the file of its model, an example of a few lines, and the figure that the example draws. ([En español](curso.md).)

All examples are short functions in `examples/course_topics/`, written with the public functions alone, and all of them run in the tests. From a copy of the repository:

```sh
python examples/course.py                                  # all topics, in minutes, without a download
python examples/course.py gaussian_mixture --out figures   # one of them
```

In a function, numbers beside the data, such as `steps`, are what to play with; every example returns its figure and some numbers. They begin with

```python
import numpy as np
from matplotlib import pyplot

import probgen as pg
from probgen import plots
```""",
        "head": ("Topic", "In a sentence", "Model", "Example"),
        "source": "Source",
        "file_of": "Model file",
        "files_of": "Model files",
        "code_in": "Example in",
        "further": "Further models",
        "further_text": "An introductory course has no hour for these; they are in the library, and have [pages of their own](models/index.rst):",
    },
    "es": {
        "file": "curso.md",
        "title": "Mapa del curso",
        "intro": """\
Cada tema de un curso introductorio de modelos generativos: qué es, en una frase; el archivo de su modelo; un ejemplo de pocas líneas, y la figura que el ejemplo dibuja. ([In English](course.md).)

Todos los ejemplos son funciones breves de `examples/course_topics/`, escritas solo con las funciones públicas, y todos se ejecutan en las pruebas. Desde una copia del repositorio:

```sh
python examples/course.py                                  # todos los temas, en minutos y sin descargas
python examples/course.py gaussian_mixture --out figuras   # uno de ellos
```

Los argumentos de cada función, como `steps` (pasos de entrenamiento), están para experimentar con ellos; cada ejemplo devuelve su figura y algunos números. Todos comienzan con

```python
import numpy as np
from matplotlib import pyplot

import probgen as pg
from probgen import plots
```

El código y las figuras están en inglés, como la biblioteca.""",
        "head": ("Tema", "En una frase", "Modelo", "Ejemplo"),
        "source": "Referencia",
        "file_of": "Archivo del modelo",
        "files_of": "Archivos de los modelos",
        "code_in": "Ejemplo en",
        "further": "Otros modelos",
        "further_text": "Un curso introductorio no les dedica tiempo; están en la biblioteca y tienen [sus propias páginas](models/index.rst):",
    },
}
"""Words of the pages, by language."""


def page(parts: Sequence[Any], further: Sequence[str], language: str) -> str:
    """The whole page as Markdown."""
    words = LANGUAGES[language]
    lines = [f"# {words['title']}", words["intro"]]
    for part in parts:
        lines.append(f"## {said(part, language)}")
        lines.append(table(part, language))
        lines += [section(topic, language) for topic in part.topics]
    lines += [f"## {words['further']}", words["further_text"], ", ".join(map(model_page, further)) + "."]
    return "\n\n".join(lines) + "\n"


def said(named: Any, language: str) -> str:
    """The title of a part or a topic."""
    return named.title if language == "en" else named.titulo


def sentence(topic: Any, language: str) -> str:
    return topic.sentence if language == "en" else topic.frase


def model_page(name: str) -> str:
    return f"[`{name}`](models/{name}.rst)"


def model_file(name: str) -> str:
    return f"[`{name}.py`](../probgen/models/{name}.py)"


def table(part: Any, language: str) -> str:
    """A line a topic."""
    lines = ["| " + " | ".join(LANGUAGES[language]["head"]) + " |", "|---|---|---|---|"]
    for topic in part.topics:
        models = ", ".join(map(model_page, topic.models))
        cells = (f"[{said(topic, language)}](#{anchor(topic, language)})", sentence(topic, language), models)
        lines.append("| " + " | ".join([*cells, f"`python examples/course.py {topic.name}`"]) + " |")
    return "\n".join(lines)


def anchor(topic: Any, language: str) -> str:
    """Of a topic's section."""
    return ("topic-" if language == "en" else "tema-") + topic.name.replace("_", "-")


def section(topic: Any, language: str) -> str:
    """Files, code and figure of a topic."""
    words = LANGUAGES[language]
    files = words["file_of"] if len(topic.models) == 1 else words["files_of"]
    told = [
        f"{files}: {', '.join(map(model_file, topic.models))}.",
        f"{words['code_in']} [`{topic.file}`](../examples/course_topics/{topic.file}).",
        f"{words['source']}: {topic.source}.",
    ]
    return "\n\n".join(
        [
            f"({anchor(topic, language)})=\n### {said(topic, language)}",
            sentence(topic, language),
            " ".join(told),
            f"```python\n{topic.code()}\n```",
            f"![{said(topic, language)}](figures/course/{topic.name}.png)",
        ]
    )
