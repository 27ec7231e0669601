"""The last lines of a chapter: which records it reads from, and when the rest was computed.

A chapter's code says which records it reads: ``results.find("figure-2")``, ``reproduce`` of a
figure, or a run that is ``stored``. What it does not read it computes when the book is built.
"""

import re
from datetime import UTC, datetime

from docutils import nodes
from sphinx.application import Sphinx

from aevb import experiments, results

READS = {
    r'results\.find\(\s*"(?P<figure>[\w-]+)"': "",
    r'reproduce\(\s*"(?P<figure>[\w-]+)"': "",
    r"experiments\.stored\(": "figure-2",
    r"full_vb_study\.stored\b": "appendix-f",
}
"""How code reads records, and of which figure where it does not name one."""


def figures(code: str) -> list[str]:
    """The figures whose records a chapter's code reads."""
    found = set()
    for pattern, usual in READS.items():
        for match in re.finditer(pattern, code):
            found.add(match.groupdict().get("figure", usual))
    return sorted({_home(name) for name in found})


def _home(figure: str) -> str:
    """The folder of a figure's records: Figures 4 and 5 look into models of Figure 2."""
    return experiments.grid(figure)[0].figure if figure in experiments.FIGURES else figure


def sentence(names: list[str]) -> str:
    """Where a chapter reads from: the records of these figures, of which it may use but some."""
    said = [_of(name) for name in names]
    rest = f"computed when this page was built, {datetime.now(UTC):%Y-%m-%d}."
    if not said:
        return f"This page rests on no stored run: its numbers were {rest}"
    return f"This page reads from the records in {'; in '.join(said)}. Everything else was {rest}"


def _of(figure: str) -> str:
    records = results.find(figure)

    def each(values: set[str]) -> str:
        return ", ".join(sorted(values))

    dates = sorted(record.provenance["date"] for record in records)
    devices = {record.provenance["device"].replace("cpu", "processors") for record in records}
    seeds = {str(r.configuration["seed"]) for r in records if "seed" in r.configuration}
    return (
        f"book/results/{figure} ({len(records)} runs"
        + (f", seeds {each(seeds)}" if len(seeds) > 1 else "")
        + f", on {each(devices)}, {' to '.join(dict.fromkeys([dates[0], dates[-1]]))})"
    )


def add_sentence(app: Sphinx, document: nodes.document) -> None:
    if not app.env.doc2path(app.env.docname).endswith(".ipynb"):
        return
    cells = document.findall(lambda node: isinstance(node, nodes.literal_block))
    code = "\n".join(cell.astext() for cell in cells)
    last = next(iter(document.findall(nodes.section)), document)
    last += nodes.paragraph("", sentence(figures(code)), classes=["page-records"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", add_sentence)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
