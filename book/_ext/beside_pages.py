"""What the extensions share that put scripts of their own beside the pages.

They do not go under ``_static``, because Jupyter Book adds every script there to every page. What a
page shows is kept in Sphinx's own metadata of that page, so that it is forgotten when the page is
read again and merged when pages are read side by side.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def root(env: BuildEnvironment) -> str:
    """The way from the page that is being read to the first page's folder."""
    return "../" * env.docname.count("/")


def remember(env: BuildEnvironment, what: str, names: Iterable[str]) -> None:
    """Note what the page that is being read shows."""
    env.metadata[env.docname].setdefault(what, []).extend(names)


def shown(app: Sphinx, what: str) -> list[str]:
    """What all pages show, each once."""
    return sorted({name for page in app.env.metadata.values() for name in page.get(what, [])})


def put(app: Sphinx, folder: str, files: Iterable[Path]) -> Path:
    """Copy files into a folder beside the pages, and return it."""
    target = Path(app.outdir) / folder
    target.mkdir(exist_ok=True)
    for path in files:
        shutil.copyfile(path, target / path.name)
    return target
