"""Mend, in each page's HTML, what Sphinx writes against the rules of reading: by eye or by ear.

A signature of several lines is no definition list, the entries of a list of references are items
of it, and an anchor that several exercises of a page share is none. No line begins with the comma
that follows a formula, nor ends with the bracket before it. A number that a notebook hands to the
text has a minus sign, not a hyphen, and a power of ten in place of an "e".
"""

import re

from sphinx.application import Sphinx

SIGNATURE = re.compile(r'(<span class="sig-paren">[(\[]</span>\s*)<dl>(.*?)</dl>', re.DOTALL)

FORMULA = re.compile(
    r'([(\[“‘]*)(<span class="math notranslate nohighlight">[^<]*</span>)([,.;:!?)\]’”]*)'
)

NUMBER = re.compile(r'(?<=<span class="pasted-text">)[^<]*')
SMALL = re.compile(r"(?<=\d)e-0*(\d+)")


def mended(body: str) -> str:
    """The same page by the rules."""
    body = SIGNATURE.sub(_lines, body)
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    body = re.sub(r' id="(exercise|solution)-content"', "", body)
    body = NUMBER.sub(_typeset, body)
    return FORMULA.sub(_kept, body)


def _lines(parameters: re.Match[str]) -> str:
    lines = re.sub(r"(?<=<)(/?)dd(?=>)", r"\1span", parameters[2])
    return f'{parameters[1]}<span class="sig-lines">{lines}</span>'


def _typeset(number: re.Match[str]) -> str:
    text = re.sub(r"(?<![\w-])-(?=\d)", "−", number[0])
    return SMALL.sub(r" · 10<sup>−\1</sup>", text)


def _kept(formula: re.Match[str]) -> str:
    before, itself, after = formula.groups()
    if not before and not after:
        return itself
    return f'<span class="kept">{before}{itself}{after}</span>'


def mend(
    app: Sphinx, name: str, template: str, context: dict[str, object], doctree: object
) -> None:
    if isinstance(context.get("body"), str):
        context["body"] = mended(str(context["body"]))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
