"""Run the notebooks on all cores before the pages are read; one by one they take twice as long.

Each is run once and cached. Whatever fails is run again by itself when its page is read, and then
reported as every failure is.
"""

import logging
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def execute(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    config = env.mystnb_config
    paths = [Path(env.doc2path(name)) for name in docnames]
    notebooks = [str(path) for path in paths if path.suffix == ".ipynb"]
    if config.execution_mode != "cache" or len(notebooks) < 2:
        return
    cache = get_cache(config.execution_cache_path)
    for notebook in notebooks:
        cache.add_nb_to_project(notebook)
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.INFO)  # the executor says what it is at
    executor = load_executor("local-parallel", cache, logger)
    executor.run_and_cache(filter_uris=notebooks, timeout=config.execution_timeout)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-before-read-docs", execute)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
