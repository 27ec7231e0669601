"""Small interactive figures: a directive that puts one into a page.

A page says::

    ```{interactive} bound-and-gap
    A sentence for those who read without JavaScript.
    ```

Each figure is one script, ``bound-and-gap.js``, which only the pages that show it load. They do not
go under ``_static``, because Jupyter Book adds every script there to every page.
"""

import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
FOLDER = "interactive"
HTML = """\
<div class="interactive" data-figure="{name}"></div>
<noscript><p>{text}</p></noscript>
<link rel="stylesheet" href="{root}{folder}/interactive.css">
<script defer src="{root}{folder}/{name}.js"></script>"""


class Interactive(SphinxDirective):
    """``{interactive} NAME``"""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if not (HERE / f"{name}.js").exists():
            known = ", ".join(sorted(path.stem for path in HERE.glob("*.js")))
            raise self.error(f"interactive: expected one of {known}; found {name!r}")
        if not self.content:
            raise self.error(f"{name}: expected a sentence for those without JavaScript")
        root = "../" * self.env.docname.count("/")
        text = " ".join(self.content)
        html = HTML.format(name=name, root=root, folder=FOLDER, text=text)
        return [nodes.raw("", html, format="html")]


def write(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(exist_ok=True)
    for path in (*HERE.glob("*.js"), *HERE.glob("*.css")):
        shutil.copyfile(path, folder / path.name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("interactive", Interactive)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
