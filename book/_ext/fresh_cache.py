"""Forget executed notebooks and parsed pages when something they show has changed.

jupyter-cache knows a notebook by its code cells alone, and Sphinx a page by its own text. Neither
sees that the package, an extension here, a stored record or the data changed, and the built page
would keep the old numbers without a word. So a digest of all of these is kept beside the cache;
where it differs from the last build's, both are dropped, with the pages of the package's source,
and every page is made anew.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

# Relative to the repository: what a page can show or be changed by.
CONTENT = ("aevb/**/*.py", "aevb/**/*.csv", "book/_ext/**/*.py", "book/results/**/*.*")
PINS = ("constraints.txt", "_config.yml")
# In AEVB_RESULTS, where pages find their records if it is set.
RECORDS = ("**/*.*",)
# Which data files are there, not what is in them: their checksums are verified when they are read.
DATA = "**/*.*"

STAMP = "inputs.sha256"


def inputs(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each thing that the pages depend on, in order."""
    folders = {root: (*CONTENT, *PINS)}
    if os.environ.get("AEVB_RESULTS"):
        folders[Path(os.environ["AEVB_RESULTS"])] = RECORDS
    for folder, patterns in folders.items():
        for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(folder).as_posix(), path.read_bytes()
    data = Path(os.environ.get("AEVB_DATA") or root / "data")
    for path in sorted(data.glob(DATA)):
        yield path.relative_to(data).as_posix(), str(path.stat().st_size).encode()


def digest(root: Path) -> str:
    whole = hashlib.sha256()
    for name, content in inputs(root):
        whole.update(f"{name}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()


def drop_when_changed(app: Sphinx, config: object) -> None:
    root = Path(app.srcdir).parent
    build = Path(app.doctreedir).parent
    now = digest(root)
    stamp = build / STAMP
    if stamp.exists() and stamp.read_text() == now:
        return
    if stamp.exists():
        logging.getLogger(__name__).info(
            "the package, an extension, a record or the data changed: all anew"
        )
    shutil.rmtree(build / ".jupyter_cache", ignore_errors=True)
    for path in Path(app.doctreedir).glob("*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # Of a module that was saved during the last build Sphinx believes to show the newest text.
    shutil.rmtree(Path(app.outdir) / "_modules", ignore_errors=True)
    # Written before the build: both are gone already, whatever becomes of it.
    stamp.write_text(now)


def setup(app: Sphinx) -> dict[str, bool]:
    # Before Sphinx loads what it remembers of the last build.
    app.connect("config-inited", drop_when_changed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
