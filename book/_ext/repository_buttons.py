"""Buttons to the repository, Binder and Colab, where the setting ``repository_address`` is given.

The theme makes them, on the pages that are notebooks. Without an address, which is the default,
there are none, and the pages name no other host.
"""

import re

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

BINDER = "https://mybinder.org"
COLAB = "https://colab.research.google.com"


def add_buttons(app: Sphinx, config: Config) -> None:
    address = config.repository_address.rstrip("/")
    if not address:
        return
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ConfigError(
            "repository_address: expected https://github.com/OWNER/NAME (Colab opens no other) "
            f"or nothing, found {address}"
        )
    launchers = {"binderhub_url": BINDER, "colab_url": COLAB, "notebook_interface": "jupyterlab"}
    config.html_theme_options.update(
        repository_url=address,
        repository_branch="main",
        use_repository_button=True,
        launch_buttons=launchers,
    )


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("repository_address", "", "html", [str])
    app.connect("config-inited", add_buttons, priority=400)  # before the theme reads them
    return {"parallel_read_safe": True, "parallel_write_safe": True}
