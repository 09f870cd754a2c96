"""The walk-through of CONTRIBUTING, followed literally in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SECTION = TEXT.partition("## Add a controller, step by step")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", SECTION, flags=re.S | re.M)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contributor")
    for name in ("rbctrl", "conf", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CONTRIBUTING.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def call(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def row_test(folder):
    return call(folder, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_readme.py", "-k", "every_controller")


def test_the_steps_add_a_controller(copy):
    files = {}
    for language, body in BLOCKS:
        if language in ("python", "yaml"):
            files[body.splitlines()[0].removeprefix("# ")] = body
    assert sorted(files) == [
        "conf/controller/nudge.yaml",
        "rbctrl/controllers/nudge.py",
        "tests/controllers/test_nudge.py",
    ]
    for path, body in files.items():
        assert not (copy / path).exists()
        (copy / path).write_text(body)
    status, output = row_test(copy)
    assert status == 1 and "nudge" in output  # as step 4 says
    (row,) = (body for language, body in BLOCKS if language == "markdown")
    readme = (copy / "README.md").read_text()
    (copy / "README.md").write_text(readme.replace("| `window` |", f"{row}| `window` |"))
    tests = ("tests/controllers/test_nudge.py", "tests/test_configs.py", "tests/test_readme.py")
    status, output = call(copy, "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", "nudge or every_controller")
    assert status == 0 and "passed" in output, output
    (commands,) = (body for language, body in BLOCKS if not language)
    for line in commands.splitlines():
        words = [*line.split(), *([] if " check " in line else ["sampler.n_steps=4"])]
        status, output = call(copy, *words)
        assert status == 0, output
