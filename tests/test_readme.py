"""What the README and the documents that it leads to say can be typed: commands, options, files, links, Python."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rbctrl.commands.groups import groups
from rbctrl.commands.help import VERBS
from rbctrl.commands.run import compose
from rbctrl.config import options

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text()
GUIDES = [README, *sorted((ROOT / "docs").glob("*.md"))]
REPORTS = [*sorted((ROOT / "experiments").glob("*/README.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]
OWN = ("my_lab", "mycosts", "nudge", "fog", "bright", "level")  # parts of a reader's; test_extending.py runs them
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.S | re.M)
OPTION = re.compile(r"(?<![\w.@/])([a-z_]+(?:/[a-z_]+)?)=([a-z]\w*)(?![\w.(])")


def blocks(text, language):
    return [body for found, body in BLOCK.findall(text) if found == language]


def lines(path):
    """What stands in blocks of commands and, in backticks, in the text."""
    text = path.read_text()
    for block in blocks(text, ""):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def commands(path):
    found = [part for line in lines(path) for part in re.split(r"\s+\|\s+", line) if part.startswith("rbctrl ")]
    return [command for command in found if "..." not in command]


def composed(command):
    """The words that Hydra is given, each with the first of its values."""
    words = shlex.split(command, comments=True)[1:]
    if words and words[0] in VERBS:
        assert words[0] != "list" or all(options(group) for group in words[1:])
        words = [word for word in words[1:] if "=" in word]
    words = [word for word in words if not word.startswith("-") and not any(name in word for name in OWN)]
    first = []
    for override in OverridesParser.create().parse_overrides(words):
        values = list(override.sweep_string_iterator()) if override.is_sweep_override() else None
        first.append(f"{override.get_key_element()}={values[0]}" if values else override.input_line)
    return tuple(word for word in first if not word.startswith(("hydra", "+hydra")))


@cache
def study_of(words):
    return compose(words).study


COMMANDS = [(path, command) for path in [*GUIDES, *REPORTS] for command in commands(path)]


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=lambda v: v.parent.name if isinstance(v, Path) else v)
def test_command_composes(path, command):
    assert study_of(composed(command))


def test_there_are_commands_to_test():
    assert len(commands(README)) >= 12 and sum(path in GUIDES for path, _ in COMMANDS) >= 30
    assert all(commands(path) for path in GUIDES)


def test_a_command_with_a_wrong_word_does_not_compose():
    for command in ("rbctrl controller=dsp", "rbctrl -m controller=dps,proximal operatr=sr4", "rbctrl dps.zeta=1"):
        with pytest.raises(Exception, match="dsp|operatr|dps"):
            study_of(composed(command))


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_options_that_are_named_exist(path):
    known = groups()
    for line in lines(path):
        for group, option in OPTION.findall(line):
            if group in known and option not in ("item", "null") and not any(name in option for name in OWN):
                assert option in known[group], f"{group}={option}"


@pytest.mark.parametrize("path", [*GUIDES, *REPORTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.parent.name)
def test_files_that_are_named_exist(path):
    text = path.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []
    scripts = [
        word
        for line in lines(path)
        for word in line.split()
        if re.match(r"(experiments|benchmarks|tests)/.*\.(py|sh)\b", word)
    ]
    assert [word for word in scripts if not (ROOT / word.rstrip(",.;:)")).exists() and "nudge" not in word] == []


def anchors(path):
    heads = re.findall(r"^#+ (.+)$", BLOCK.sub("", path.read_text()), flags=re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_sections_that_are_linked_exist(path):
    for link in re.findall(r"\]\(([^)\s]+#[^)\s]+)\)", path.read_text()):
        file, _, section = link.partition("#")
        assert section in anchors(path.parent / file), link


def test_python_names_exist():
    import rbctrl

    for name in ("load", "restore"):
        assert f"rbctrl.{name}(" in TEXT and callable(getattr(rbctrl, name))
    assert "rbctrl.costs.Cost" in TEXT and rbctrl.costs.Cost


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_python_compiles(path):
    for block in blocks(path.read_text(), "python"):
        compile(block, str(path), "exec")


def test_every_controller_has_its_row():
    for option in options("controller"):
        assert option == "custom" or f"`{option}`" in TEXT, option


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= 200
