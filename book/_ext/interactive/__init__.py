"""Small interactive figures: a directive that puts one into a page.

A page says::

    ```{interactive} bound-and-gap
    A sentence for those who read without JavaScript.
    ```

Each figure is one script, ``bound-and-gap.js``, which only the pages that show it load, after what
the figures share, ``drawing.js``.
"""

from pathlib import Path

import beside_pages
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
FOLDER = "interactive"
SHARED = "drawing"
FIGURES = sorted(path.stem for path in HERE.glob("*.js") if path.stem != SHARED)
HTML = """\
<div class="interactive" data-figure="{name}"></div>
<noscript><p>{text}</p></noscript>
<link rel="stylesheet" href="{root}{folder}/interactive.css">
<script defer src="{root}{folder}/{shared}.js"></script>
<script defer src="{root}{folder}/{name}.js"></script>"""


class Interactive(SphinxDirective):
    """``{interactive} NAME``"""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in FIGURES:
            raise self.error(f"interactive: expected one of {', '.join(FIGURES)}; found {name!r}")
        if not self.content:
            raise self.error(f"{name}: expected a sentence for those without JavaScript")
        root = beside_pages.root(self.env)
        text = " ".join(self.content)
        html = HTML.format(name=name, root=root, folder=FOLDER, shared=SHARED, text=text)
        return [nodes.raw("", html, format="html")]


def write(app: Sphinx, error: Exception | None) -> None:
    if not error and app.builder.format == "html":
        beside_pages.put(app, FOLDER, [*HERE.glob("*.js"), *HERE.glob("*.css")])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("interactive", Interactive)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
