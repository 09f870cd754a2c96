"""Options of installed packages, where Hydra looks for plugins."""
