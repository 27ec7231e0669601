"""Put MathJax beside the pages, so that formulas are drawn without a network.

The files come from the installed package ``sphinx-mathjax-offline``, which carries MathJax 3.2.2
unchanged. Only what the pages load is copied: the component that holds every TeX extension (the
smaller ones fetch extensions when a formula needs them, and one that is missing leaves every
formula undrawn), its fonts, and MathJax's license. Each file is checked before it is copied.

They do not go under ``_static``, because Jupyter Book adds every script there to every page.

A formula is a stop of the tab key only where it is wider than its place, so that the arrow keys
move it; so is a figure. MathJax makes every formula one, for its menu: ``_config.yml`` forbids it.
"""

import hashlib
import shutil
from importlib.metadata import files
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

PACKAGE = "sphinx-mathjax-offline"
SCRIPT = "tex-chtml-full.js"
FONTS = "output/chtml/fonts/woff-v2"

# SHA-256 of the script, and of the 23 fonts one after the other in the order of their names.
SCRIPT_SHA256 = "91b005503c5d1f0958bf4d73ada1a3be33596b2c4ab5da22277f1b0d3149b5a4"
FONTS_SHA256 = "142f8a69d97768d841847e71af896961da33ffa0a500fe6b950c7f31c6334a92"

REACH = """addEventListener("load", () => {
  const wide = "article :is(.math, mjx-container, figure)";
  const reach = () => document.querySelectorAll(wide).forEach(node => {
    if (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX === "auto")
      node.tabIndex = 0;
    else node.removeAttribute("tabindex");
  });
  const drawn = window.MathJax?.startup?.promise ?? Promise.resolve();
  drawn.then(reach).then(() => addEventListener("resize", reach));
})"""


def installed() -> Path:
    """Return the folder of the package that holds MathJax."""
    for file in files(PACKAGE) or []:
        if file.name == SCRIPT:
            return Path(str(file.locate())).parent
    raise ExtensionError(f"{PACKAGE} is installed without {SCRIPT}: install it again")


def sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def vendor(folder: Path) -> None:
    """Copy MathJax into ``folder`` where it is not there yet."""
    source = installed()
    fonts = sorted((source / FONTS).glob("*.woff"))
    for what, paths, expected in (
        (SCRIPT, [source / SCRIPT], SCRIPT_SHA256),
        (FONTS, fonts, FONTS_SHA256),
    ):
        found = sha256(paths)
        if found != expected:
            raise ExtensionError(f"{PACKAGE}: {what} has SHA-256 {found}, expected {expected}")
    (folder / FONTS).mkdir(parents=True, exist_ok=True)
    copies = [(path, folder / path.relative_to(source)) for path in (source / SCRIPT, *fonts)]
    copies.append((Path(__file__).with_name("LICENSE.mathjax"), folder / "LICENSE"))
    for original, copy in copies:
        if not copy.exists() or copy.stat().st_size != original.stat().st_size:
            shutil.copyfile(original, copy)


def vendor_before_pages(app: Sphinx) -> None:
    # Before: Sphinx adds a checksum to a script's address, if the script is there.
    if app.builder.format == "html":
        vendor(Path(app.outdir) / "mathjax")


def set_path(app: Sphinx, config: object) -> None:
    # Sphinx resolves it from _static, which every page reaches by a relative address.
    app.config.mathjax_path = f"../mathjax/{SCRIPT}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", set_path)
    app.connect("builder-inited", vendor_before_pages)
    app.add_js_file(None, body=REACH)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
