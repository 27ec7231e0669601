"""Mend, in each page's HTML, what Sphinx writes against the rules that screen readers rely on.

A signature of several lines is no definition list, the entries of a list of references are items
of it, and an anchor that several exercises of a page share is none.
"""

import re

from sphinx.application import Sphinx

SIGNATURE = re.compile(r'(<span class="sig-paren">[(\[]</span>\s*)<dl>(.*?)</dl>', re.DOTALL)


def mended(body: str) -> str:
    """The same page by the rules."""
    body = SIGNATURE.sub(_lines, body)
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    return re.sub(r' id="(exercise|solution)-content"', "", body)


def _lines(parameters: re.Match[str]) -> str:
    lines = re.sub(r"(?<=<)(/?)dd(?=>)", r"\1span", parameters[2])
    return f'{parameters[1]}<span class="sig-lines">{lines}</span>'


def mend(
    app: Sphinx, name: str, template: str, context: dict[str, object], doctree: object
) -> None:
    if isinstance(context.get("body"), str):
        context["body"] = mended(str(context["body"]))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
