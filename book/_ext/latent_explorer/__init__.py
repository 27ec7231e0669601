"""The latent explorer: a directive that puts a trained model into a page, to be moved about in.

A page says where and which models::

    ```{latent-explorer} mnist-aevb-nz2-seed0 frey-face-aevb-nz2-seed0
    ```

Each model is a record of Figure 2 with weights. They are written, in half precision as they are
stored, into scripts of their own beside the pages, which fetch one when the reader comes to it.
Scripts and not data, so that a page opened as a file can fetch them, too.
"""

import base64
import functools
import json
from pathlib import Path

import beside_pages
import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from aevb import data, experiments, results

HERE = Path(__file__).parent
FOLDER = "latent_explorer"
ASSETS = ("network.js", "drawing.js", "explorer.js", "explorer.css")
SCATTERED = 2_000
SPREAD = 4.0
"""Codes are scattered up to this distance from zero."""
LABELS = {"mnist": "Digits", "frey-face": "Faces"}
SIZES = {"mnist": (28, 28), "frey-face": (28, 20)}
HTML = """\
<div class="latent-explorer" data-root="{root}{folder}/" data-models='{models}'>
  <img src="{root}_static/explorer.png" alt="The explorer: a plane with a point on it, and the \
image that the point stands for.">
  <noscript><p>The explorer needs JavaScript; the picture shows what it looks like.</p></noscript>
</div>
<link rel="stylesheet" href="{root}{folder}/explorer.css">
{scripts}"""


class LatentExplorer(SphinxDirective):
    """``{latent-explorer} RECORD...``"""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        models = []
        for name in self.arguments[0].split():
            path = results.folder() / "figure-2" / f"{name}.json"
            self.env.note_dependency(str(path))
            models.append(describe(results.load(path)))
        root = beside_pages.root(self.env)
        scripts = "\n".join(
            f'<script defer src="{root}{FOLDER}/{asset}"></script>'
            for asset in ASSETS
            if asset.endswith(".js")
        )
        names = json.dumps(models).replace("'", "&#39;")
        html = HTML.format(root=root, folder=FOLDER, models=names, scripts=scripts)
        beside_pages.remember(self.env, FOLDER, [model["name"] for model in models])
        return [nodes.raw("", html, format="html")]


def describe(record: results.Record) -> dict[str, object]:
    """What a page says of a model before it is fetched."""
    settings = record.configuration
    return {
        "name": record.name,
        "dataset": settings["dataset"],
        "label": f"{LABELS[settings['dataset']]}, {settings['latent_dim']}-D",
        "latent": settings["latent_dim"],
        "size": SIZES[settings["dataset"]],
        "samples": f"{record.curves['samples'][-1]:,.0f}",
        "seed": settings["seed"],
    }


def half(tensor: torch.Tensor) -> str:
    return base64.b64encode(tensor.half().contiguous().numpy().tobytes()).decode()


def model_scripts(record: results.Record) -> dict[str, str]:
    """The scripts of a model: its generative, its recognition network, and where images lie."""
    weights = results.load_weights(record)
    parts = {}
    for part in ("generative_model", "recognition_model"):
        own = {k.removeprefix(f"{part}."): v for k, v in weights.items() if k.startswith(part)}
        parts[part] = {name: half(value) for name, value in own.items()}
    parts["images"] = scatter(record)
    return {
        part: f"latentExplorer.receive({json.dumps(record.name)}, {json.dumps(part)}, "
        f"{json.dumps(content)});\n"
        for part, content in parts.items()
    }


load = functools.cache(data.load)  # several models are of one data set


@torch.no_grad()
def scatter(record: results.Record) -> dict[str, object]:
    """Where the recognition model puts images, and some of them; empty without the data."""
    try:
        dataset = load(record.configuration["dataset"])
    except data.DataError:
        return {"codes": "", "classes": "", "pixels": "", "spread": SPREAD}
    x, labels = dataset.test[:SCATTERED], dataset.test_labels
    codes = experiments.trained_model(record).recognition_model(x).mean
    bytes_ = (codes.clamp(-SPREAD, SPREAD) / SPREAD * 127).round().to(torch.int8)
    if labels is None:
        classes, some = torch.zeros(len(x), dtype=torch.uint8), list(range(0, 50, 5))
    else:
        classes = labels[:SCATTERED].to(torch.uint8)
        some = [int((classes == digit).nonzero()[3]) for digit in range(10)]
    pixels = (x[some] * 255).round().to(torch.uint8)
    encoded = {"codes": bytes_, "classes": classes, "pixels": pixels}
    texts = {k: base64.b64encode(v.numpy().tobytes()).decode() for k, v in encoded.items()}
    return {**texts, "spread": SPREAD}


def write(app: Sphinx, error: Exception | None) -> None:
    names = beside_pages.shown(app, FOLDER)
    if error or app.builder.format != "html" or not names:
        return
    folder = beside_pages.put(app, FOLDER, [HERE / asset for asset in ASSETS])
    for name in names:
        record = results.load(results.folder() / "figure-2" / f"{name}.json")
        for part, script in model_scripts(record).items():
            (folder / f"{name}.{part}.js").write_text(script)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("latent-explorer", LatentExplorer)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
