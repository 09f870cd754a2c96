"""Values of another kind than their argument are refused by name before a constructor sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf

from rbctrl.commands.groups import groups
from rbctrl.commands.run import compose
from rbctrl.kinds import check_kinds
from rbctrl.literal import to_instantiate

AFA = {"_target_": "rbctrl.attention.AFA", "style": "a.png"}


@dataclass
class Made:
    number: float
    count: int = 1
    flag: bool = False
    text: str | None = None
    names: Sequence[str] = ()
    weights: Mapping[str, float] | None = None
    part: object = None


def node(**values):
    return {"lab": {"_target_": f"{__name__}.Made", "number": 1, **values}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"number": "abc"}, "lab.number has to be a number, got 'abc'"),
        ({"number": float("nan")}, "lab.number has to be a number, got nan"),
        ({"number": None}, "lab.number has to be a number, got None"),
        ({"number": True}, "lab.number has to be a number, got True"),
        ({"count": 2.5}, "lab.count has to be a whole number, got 2.5"),
        ({"count": [1, 2]}, r"lab.count has to be a whole number, got \[1, 2\]"),
        ({"flag": "maybe"}, "lab.flag has to be true or false, got 'maybe'"),
        ({"text": {"a": 1}}, "lab.text has to be text or null, got"),
        ({"names": "a"}, "lab.names has to be a list of text, got 'a'"),
        ({"weights": {"a": "x"}}, r"lab.weights has to be a table \{name: number\} or null, got"),
        ({"weights": [1]}, "lab.weights has to be a table"),
        ({"part": [node(count="x")["lab"]]}, "lab.part.0.count has to be a whole number"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_key(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        to_instantiate(node(**values))


def test_values_of_the_kinds_of_their_arguments_pass():
    check_kinds(node(number=float("inf"), count=10**30, flag=True, text=2026, names=["a"], weights={"a": 1}, part="x"))
    check_kinds(node(text=None, weights=None, number="???"))  # a missing value is Hydra's to name
    check_kinds({"lab": {"_target_": "no.such.Class", "number": "abc"}, "other": {"_target_": "???"}})


def test_a_wrong_value_within_an_attention_is_said_of_the_attention():
    with pytest.raises(ValueError, match=r"attention\.strength has to be a number, got 'abc'"):
        check_kinds({"attention": AFA | {"strength": "abc"}, "prior": {"attention": AFA | {"strength": "abc"}}})


@pytest.mark.parametrize("group", ["controller", "sampler", "noise", "cost", "metrics", "running_cost"])
def test_every_option_passes_as_it_is(group):
    for option in groups()[group]:
        check_kinds({group: _plain(compose([f"{group}={option}"])[group])}, "")


def _plain(cfg):
    return OmegaConf.to_container(cfg, resolve=True)
