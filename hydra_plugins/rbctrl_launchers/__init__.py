"""Launchers of rbctrl, where Hydra looks for plugins."""
