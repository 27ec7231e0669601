"""Read the first line of an attribute's docstring, and of a `Returns:` section, as plain text.

Google's style lets both begin with a type and a colon. Here types are annotations, and a colon
there is a colon: without this, "What the run is: its name" would become a reference to a type
called "What the run is". An empty comment before the text keeps napoleon from looking for one.
"""

from sphinx.application import Sphinx

COMMENT = ["..", ""]


def escape(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    if what in ("attribute", "data", "property"):
        lines[:0] = COMMENT
    for number, line in enumerate(lines[:-1]):
        if line.strip() == "Returns:":
            text = lines[number + 1]
            indent = text[: len(text) - len(text.lstrip())]
            lines[number + 1 : number + 1] = [(indent + part).rstrip() for part in COMMENT]
            return


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", escape, priority=400)  # napoleon's is 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
