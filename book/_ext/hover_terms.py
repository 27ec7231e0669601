"""A term of the glossary says what it means when the pointer rests on it.

The links that the role ``term`` makes get the definition as their title, which browsers show and
screen readers read.
"""

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def remember(app: Sphinx, document: nodes.document) -> None:
    """Keep each term's definition in the metadata of the page that has the glossary."""
    found = {
        identifier: item.children[-1].astext().replace("\n", " ")
        for glossary in document.findall(addnodes.glossary)
        for item in glossary.findall(nodes.definition_list_item)
        for term in item.findall(nodes.term)
        for identifier in term["ids"]
    }
    if found:
        app.env.metadata[app.env.docname]["terms"] = found


def explain(app: Sphinx, document: nodes.document, docname: str) -> None:
    for link in document.findall(nodes.reference):
        identifier = link.get("refuri", link.get("refid", "")).rpartition("#")[2]
        for metadata in app.env.metadata.values():
            if identifier in metadata.get("terms", {}):
                link["reftitle"] = metadata["terms"][identifier]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", remember)
    app.connect("doctree-resolved", explain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
