"""Hydra finds the options that installed packages bring for rbctrl (`rbctrl.config.conf_dirs`)."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from rbctrl.config import conf_dirs


class InstalledOptions(SearchPathPlugin):
    """Their folders come after all others, so no option of rbctrl is hidden by one of them."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends the folders."""
        for folder in conf_dirs()[1:]:
            search_path.append("rbctrl.conf", folder.as_uri())
