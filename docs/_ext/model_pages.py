"""A page for every registered model, made from its file when the documentation is built."""

import inspect
import os
import sys
from pathlib import Path

from probgen.program import model_classes

INDEX = """Models
======

One file in ``probgen/models`` is one model and one of these pages; ``probgen models`` prints the
same list.

.. list-table::
   :header-rows: 1

   * - name
     - density
     - methods
     - in a line
{rows}

.. toctree::
   :hidden:

{entries}
"""

ROW = """   * - :doc:`{name} <{name}>`
     - {density}
     - {methods}
     - {summary}"""

PAGE = """{name}
{underline}

{process}

.. list-table::
   :stub-columns: 1

   * - density
     - {density}
   * - methods
     - {methods}
   * - embedding
     - {embedding}

.. code-block:: python

   fit = pg.fit("{name}", table{options})

.. autoclass:: {module}.{cls}
   :show-inheritance:

Its file
--------

.. literalinclude:: {source}
   :language: python
"""


def write_pages(app):
    """Write ``models/index.rst`` and ``models/<name>.rst``, but only what changed."""
    folder = Path(app.srcdir) / "models"
    folder.mkdir(exist_ok=True)
    known = model_classes()
    pages = {f"{name}.rst": page(name, cls, folder) for name, cls in known.items()}
    pages["index.rst"] = index(known)
    for stale in set(folder.glob("*.rst")) - {folder / name for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def index(known):
    rows = [
        ROW.format(
            name=name,
            density=cls.traits.density.replace("_", " "),
            methods=", ".join(cls.traits.methods),
            summary=cls.traits.summary,
        )
        for name, cls in known.items()
    ]
    return INDEX.format(rows="\n".join(rows), entries="\n".join(f"   {name}" for name in known))


def page(name, cls, folder):
    module = sys.modules[cls.__module__]
    options = list(inspect.signature(cls.__init__).parameters.values())[2:]
    return PAGE.format(
        name=name,
        underline="=" * len(name),
        process=inspect.getdoc(module),
        density=cls.traits.density.replace("_", " "),
        methods=", ".join(cls.traits.methods),
        embedding=cls.traits.embedding,
        options="".join(f", {p.name}={p.default!r}" for p in options),
        module=cls.__module__,
        cls=cls.__name__,
        source=source_of(module, folder),
    )


def source_of(module, folder):
    """The file's path as seen from the page; other packages' models lie anywhere."""
    return Path(os.path.relpath(module.__file__, folder)).as_posix()


def setup(app):
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
