"""pyproject.toml, constraints.txt and the sources agree; no file is built here."""

from __future__ import annotations

import ast
import os
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
EXTRA = {
    canonicalize_name(Requirement(text).name) for group in PROJECT["optional-dependencies"].values() for text in group
}
NAMES = {"skimage": "scikit-image", "sklearn": "scikit-learn", "PIL": "pillow", "hydra": "hydra-core", "yaml": "pyyaml"}


@cache
def distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def imported(node: ast.AST) -> set[str]:
    """Distribution names of the third-party imports below a node."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in child.names}
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            found.add(child.module.partition(".")[0])
    modules = {name for name in found if name not in sys.stdlib_module_names and name != "rbctrl"}
    return {canonicalize_name(NAMES.get(name, (distributions().get(name) or [name])[0])) for name in modules}


def sources() -> list[Path]:
    return sorted((ROOT / "rbctrl").rglob("*.py"))


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def test_every_import_is_a_declared_dependency():
    used = set().union(*(imported(ast.parse(file.read_text())) for file in sources()))
    assert {"torch", "numpy"} <= used
    assert used <= CORE | EXTRA


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_import_of_an_extra_is_inside_a_function(file):
    tree = ast.parse(file.read_text())
    outside = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not set().union(*map(imported, outside)) & (EXTRA - CORE)


def test_every_core_dependency_is_used():
    used = set().union(*(imported(ast.parse(file.read_text())) for file in sources()))
    photographs = {"scikit-learn", "matplotlib"}  # carry photographs that are found by path
    assert CORE - used - photographs == set()


def test_constraints_pin_every_dependency_within_its_bound():
    pins = {canonicalize_name(line.name): line for line in constraints()}
    extras = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"], *extras["diffusers"], *extras["test"]]
    needed = [line for line in needed if not line.startswith("rbctrl[")]
    for requirement in map(Requirement, needed):
        (pin,) = pins[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), requirement


def test_constraints_name_no_build_of_one_machine():
    assert not [str(line) for line in constraints() if "+" in str(line.specifier) or line.url]


def test_ci_runs_what_the_makefile_calls_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "test-all", "lint", "format", "bench", "clean", "help"} <= set(targets)
