"""The commands and the Python of the README are real."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rbctrl.commands.help import VERBS
from rbctrl.commands.run import compose
from rbctrl.config import options

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()


def commands():
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, flags=re.S | re.M)
    for block in (body for language, body in blocks if not language):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s+\|\s+", line):
                if part.startswith("rbctrl"):
                    yield part


@pytest.mark.parametrize("command", list(commands()))
def test_command_composes(command, monkeypatch):
    words = shlex.split(command, comments=True)[1:]
    if words and words[0] in VERBS:
        assert words[0] != "list" or options(words[1])
        words = [w for w in words[1:] if "=" in w and "my_lab" not in w]
    words = [w for w in words if w != "-m"]
    single = []
    for override in OverridesParser.create().parse_overrides(words):
        values = list(override.sweep_string_iterator()) if override.is_sweep_override() else None
        single.append(f"{override.get_key_element()}={values[0]}" if values else override.input_line)
    assert compose(single).study


def test_there_are_commands_to_test():
    assert len(list(commands())) >= 8


def test_python_names_exist():
    import rbctrl

    for name in ("load", "restore"):
        assert f"rbctrl.{name}(" in TEXT and callable(getattr(rbctrl, name))
    assert "rbctrl.costs.Cost" in TEXT and rbctrl.costs.Cost


def test_every_controller_has_its_row():
    for option in options("controller"):
        assert option == "custom" or f"`{option}`" in TEXT, option
