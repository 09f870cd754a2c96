"""A wheel, installed into an environment of its own, works in any folder.

The new environment sees the libraries of the present one through a .pth file, so nothing is downloaded but the build
backend; an editable install of this package is not visible through it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def call(*words: str | Path, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder, ROOT, cwd=folder)
    (file,) = folder.glob("rbctrl-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel) -> Path:
    """The bin folder of an environment in which only the wheel is installed."""
    home = wheel.parent / "env"
    call(sys.executable, "-m", "venv", home, cwd=wheel.parent)
    binaries = home / ("Scripts" if os.name == "nt" else "bin")
    call(binaries / "python", "-m", "pip", "install", "--no-deps", "-q", wheel, cwd=wheel.parent)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(call(binaries / "python", "-c", where, cwd=wheel.parent).strip())
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return binaries


def test_wheel_holds_package_and_conf_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"rbctrl/conf/{file.relative_to(ROOT / 'conf').as_posix()}" for file in (ROOT / "conf").rglob("*.yaml")}
    folders = ("rbctrl", "hydra_plugins")  # Hydra finds its plugins in a namespace package of that name
    package = {file.relative_to(ROOT).as_posix() for name in folders for file in (ROOT / name).rglob("*.py")}
    weights = {file.relative_to(ROOT).as_posix() for file in (ROOT / "rbctrl").rglob("*.safetensors")}
    assert conf | package | weights <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == set(folders)


def test_installed_command_finds_its_groups(installed, tmp_path):
    assert "sr4" in call(installed / "rbctrl", "list", cwd=tmp_path)
    assert "usage: rbctrl" in call(installed / "rbctrl", "--help", cwd=tmp_path)
    where = call(installed / "python", "-c", "import rbctrl.cli as c; print(c.CONF_DIR)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_installed_command_composes_and_runs_in_another_folder(installed, tmp_path):
    assert "seed: 3" in call(installed / "rbctrl", "show", "seed=3", cwd=tmp_path)
    call(installed / "rbctrl", "sampler.n_steps=2", cwd=tmp_path)
    (rows,) = tmp_path.glob("outputs/default/*/rows.csv")
    assert "psnr" in rows.read_text().splitlines()[0]


def test_part_of_one_s_own_is_found_in_the_current_folder(installed, tmp_path):
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "costs.py").write_text(
        "from rbctrl.costs import Cost\n"
        "class Squares(Cost):\n"
        "    def forward(self, image, obs):\n"
        "        return (obs.y - obs.operator(image)).square().flatten(1).sum(1)\n"
    )
    words = ["cost=custom", "cost._target_=my_lab.costs.Squares", "sampler.n_steps=2"]
    call(installed / "rbctrl", *words, cwd=tmp_path)
    assert list(tmp_path.glob("outputs/default/*/rows.csv"))
