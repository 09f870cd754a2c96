"""Any text arrives as it is: through the words of the command line, a sweep, the records of a cell and constructors."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rbctrl.commands.run import compose
from rbctrl.literal import literal, quoted, to_instantiate
from rbctrl.results import ResultStore

TEXTS = [
    "a cat, sitting",
    "",
    " ",
    'it\'s "quoted" `so`',
    "'",
    "\\",
    "\\'",
    "\\\\'\\",
    "a=b, {c: d}, [e], (f), key=value",
    "50 % off; a:b|c&d # no comment * ? ~!",
    "$HOME ${HOME} ${ \\${x} \\\\${x}\\ ${oc.env:PATH} ${a}'\\",
    "????",
    "??? ",
    "null",
    "true",
    "1e-3",
    "glob(*)",
    "--help",
    "猫と犬 — émoji 🐈‍⬛\u200b",
    "two\nlines\tand a tab",
    "\u2028 \x85 \x7f",
]


def composed(words):
    return OmegaConf.to_container(compose(words), resolve=True)["texts"]


def test_quoted_words_are_the_texts_that_were_typed_also_in_a_sweep_which_writes_them_anew():
    wanted = {f"t{k}": text for k, text in enumerate(TEXTS)}
    words = [f"+texts.{name}={quoted(text)}" for name, text in wanted.items()]
    assert composed(words) == wanted
    parsed = OverridesParser.create().parse_overrides(words)
    assert composed([f"{word.get_key_element()}={word.get_value_element_as_str()}" for word in parsed]) == wanted


@pytest.mark.parametrize("text", TEXTS)
def test_constructors_and_records_have_the_text(text, tmp_path):
    built = instantiate(to_instantiate({"part": {"_target_": "builtins.dict", "text": [text]}}), _convert_="all")
    assert built == {"part": {"text": [text]}}
    ResultStore(tmp_path).save_config({"choices": {}, "config": {"prompt": text}}, {})
    loaded = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"), resolve=True)
    assert loaded["config"]["prompt"] == text


def test_the_mark_of_a_missing_value_is_no_text():
    with pytest.raises(ValueError, match="stands for a missing value"):
        quoted("???")


def test_what_is_no_text_stays():
    node = {"a": [1, 2.5, None, True, ("x",)], "b": {}}
    assert literal(node) == {"a": [1, 2.5, None, True, ["x"]], "b": {}}
    with pytest.raises(Exception, match="HOME"):  # without it, text is an interpolation
        instantiate(OmegaConf.create({"_target_": "builtins.dict", "text": "${HOME}"}))
