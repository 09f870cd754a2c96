"""What a result was computed with."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = {"torch": "torch", "numpy": "numpy", "hydra": "hydra-core", "rbctrl": "rbctrl"}


def versions() -> dict[str, str]:
    """Versions of Python and the packages that decide, hardware, threads and, in a checkout, the git commit."""
    found = {name: _version(package) for name, package in _PACKAGES.items()}
    found |= {"python": platform.python_version(), "platform": platform.platform()}
    found["hardware"] = _hardware()
    found["threads"] = str(torch.get_num_threads())
    commit = _commit(Path(__file__).resolve().parents[1])
    return found if commit is None else found | {"commit": commit}


@cache
def _hardware() -> str:
    """The GPU, or the processor and the number of its cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def _commit(checkout: Path) -> str | None:
    """The commit, with -dirty if files were changed; None in a wheel, which may lie in somebody else's repository.

    Asked once per process, whose code is what it read when it began.
    """
    if not (checkout / ".git").exists():
        return None
    git = ["git", "--no-optional-locks", "-C", str(checkout)]  # a run that is killed here leaves no lock behind
    command = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
