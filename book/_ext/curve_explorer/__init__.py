"""The curves of a figure to hold a pointer over: a directive that puts them into a page.

A page says::

    ```{explore-curves} figure-2
    ```

The curves come from the same records as the printed figure. They are drawn by plotly.js, whose
file is taken from the installed package ``plotly`` and served with the book; a page fetches it
when the reader asks for the curves.
"""

import json
from importlib.metadata import files
from pathlib import Path

import beside_pages
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from aevb import reference, results, tables
from aevb.reference import Key
from aevb.results import Record

HERE = Path(__file__).parent
FOLDER = "curve_explorer"
LIBRARY = "plotly.min.js"
COLORS = {"aevb": "#d62728", "wake-sleep": "#2ca02c", "mcem": "#1f77b4"}
HTML = """\
<div class="curve-explorer" data-figure="{figure}" data-root="{root}{folder}/">
  <p><button type="button">Explore these curves</button></p>
  <noscript><p>This needs JavaScript; the figure above shows the curves, too.</p></noscript>
</div>
<script defer src="{root}{folder}/curves.js"></script>"""


class ExploreCurves(SphinxDirective):
    """``{explore-curves} FIGURE``"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        figure = self.arguments[0]
        if figure not in reference.FIGURES:
            known = ", ".join(reference.FIGURES)
            raise self.error(f"figure: expected one of {known}; found {figure!r}")
        beside_pages.remember(self.env, FOLDER, [figure])
        html = HTML.format(figure=figure, root=beside_pages.root(self.env), folder=FOLDER)
        return [nodes.raw("", html, format="html")]


def panels(figure: str) -> list[dict[str, object]]:
    """Each panel of a figure: its name, and every curve of ours and of the paper's."""
    groups = reference.by_curve(results.find(figure, results.folder()))
    size = "latent_dim" if figure == "figure-2" else "n_train"
    found: dict[tuple[str, int], list[dict[str, object]]] = {}
    for key in dict.fromkeys(Key(*key[:4]) for key in reference.curves(figure)):
        name = tables.DATASETS[key.dataset], getattr(key, size)
        found.setdefault(name, []).extend(curves(figure, key, groups.get(key, [])))
    title = {"latent_dim": "N_z = {:,}", "n_train": "{:,} training images"}[size]
    return [
        {"name": f"{dataset}, {title.format(n)}", "log": figure == "figure-2", "curves": own}
        for (dataset, n), own in found.items()
    ]


def curves(figure: str, key: Key, runs: list[Record]) -> list[dict[str, object]]:
    """The curves of one algorithm in one panel."""
    found: list[dict[str, object]] = []
    for split, name in reference.CURVES[figure].items():
        label = f"{tables.ALGORITHMS[key.algorithm]}, {split}"
        look = {"color": COLORS[key.algorithm], "dash": "dash" if split == "test" else "solid"}
        for run in runs:
            told = f"seed {run.configuration['seed']}, {run.name}"
            own = {"x": run.curves["samples"], "y": [round(v, 3) for v in run.curves[name]]}
            found.append({"label": label, "told": told, "paper": False, **look, **own})
        theirs = reference.curve(figure, **key._asdict(), split=split)
        points = {
            "x": [round(x) for x in theirs.samples],
            "y": [round(v, 2) for v in theirs.values],
        }
        found.append(
            {"label": f"paper: {label}", "told": "the paper", "paper": True, **look, **points}
        )
    return found


def library() -> Path:
    """The plot library's file in the installed package."""
    for file in files("plotly") or []:
        if file.name == LIBRARY:
            return Path(str(file.locate()))
    raise ExtensionError(f"plotly is installed without {LIBRARY}: install it again")


def write(app: Sphinx, error: Exception | None) -> None:
    figures = beside_pages.shown(app, FOLDER)
    if error or app.builder.format != "html" or not figures:
        return
    folder = beside_pages.put(app, FOLDER, [HERE / "curves.js", library()])
    for figure in figures:
        content = json.dumps(panels(figure), separators=(",", ":"))
        script = f"curveExplorer.receive({json.dumps(figure)}, {content});\n"
        (folder / f"{figure}.js").write_text(script)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("explore-curves", ExploreCurves)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
