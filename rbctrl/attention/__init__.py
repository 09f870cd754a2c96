"""Attention methods: what a text-to-image network attends to besides its text; an axis beside the control."""

from rbctrl.attention.afa import AFA
from rbctrl.attention.base import Attention, NoAttention
from rbctrl.attention.branches import Branch
from rbctrl.attention.concatenate import Concatenate
from rbctrl.attention.ip_adapter import IPAdapter
from rbctrl.attention.scope import installed
from rbctrl.attention.sites import Site, find_sites, select

__all__ = [
    "AFA",
    "Attention",
    "Branch",
    "Concatenate",
    "IPAdapter",
    "NoAttention",
    "Site",
    "find_sites",
    "installed",
    "select",
]
