"""docs/extending.md: its package, written as it stands there and installed, is used by the commands below it."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from rbctrl.cli import main
from rbctrl.config import conf_dirs, options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT.partition("## A package")[2], flags=re.S | re.M)
FILES = {body.splitlines()[0].removeprefix("# "): body.partition("\n")[2] for language, body in BLOCKS if language}
COMMANDS = [line for language, body in BLOCKS if not language for line in body.splitlines()]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """What `pip install` leaves: the package, and beside it its metadata."""
    site = tmp_path / "site"
    for name, body in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(body)
    entry_points = tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"]["rbctrl.conf"]
    declare(site, entry_points)
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    conf_dirs.cache_clear()
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "mycosts"]:
        del sys.modules[name]
    monkeypatch.undo()
    conf_dirs.cache_clear()


def declare(site, entry_points):
    metadata = site / "mycosts-0.1.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mycosts\nVersion: 0.1\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[rbctrl.conf]", *lines]))


def test_the_commands_take_its_parts(installed, capsys):
    assert len(COMMANDS) == 4 and "table.tex" in COMMANDS[-1]
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        words += ["sampler.n_steps=2", "data.size=16", "data.n=1"] if "data=leaves" in words else []
        assert main(words) == 0, (command, capsys.readouterr().err)
    out = capsys.readouterr().out
    assert "operator mycosts.parts.Fog: passed" in out and "0 cannot work" in out
    assert re.search(r"\| nudge +\|.*\|\n", out) and "level" in out
    assert r"\bottomrule" in Path("table.tex").read_text()


def test_its_options_are_listed_and_suggested(installed, capsys):
    assert "nudge" in options("controller") and "dps" in options("controller")
    assert main(["list", "cost", "controller"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^cost=bright_fit +The measurement, and a pull to one level$", out, re.MULTILINE)
    assert re.search(r"^controller=nudge +One gradient step on x0_hat$", out, re.MULTILINE)
    assert main(["show", "operator=fogg"]) == 1
    assert "did you mean fog" in capsys.readouterr().err
    assert main(["tune", "controller=nudge", "operator=fog", "--trials", "0"]) == 1
    assert "search space" not in capsys.readouterr().err


def test_without_it_nothing_of_it_is_there():
    conf_dirs.cache_clear()
    assert len(conf_dirs()) == 1 and "nudge" not in options("controller")


@pytest.mark.parametrize("value", ["mycosts", "mycosts.options", "nowhere.conf"])
def test_an_entry_point_that_leads_nowhere_is_refused(installed, value, capsys):
    declare(installed, {"mycosts": value})
    conf_dirs.cache_clear()
    assert main(["list"]) == 1
    assert f"the entry point mycosts = '{value}' of rbctrl.conf names no folder" in capsys.readouterr().err


def test_an_option_of_the_same_name_is_refused(installed, capsys):
    (installed / "mycosts" / "conf" / "controller" / "dps.yaml").write_text("_target_: mycosts.parts.Nudge\n")
    conf_dirs.cache_clear()
    assert main(["list"]) == 1
    assert "dps.yaml has the name of an option in" in capsys.readouterr().err
