"""Items of the shapes world are a function of their number, and prompts contradict references."""

import pytest
import torch

from rbctrl.data.shapes import Compositions, Descriptions, References
from rbctrl.shapes.words import parse
from rbctrl.shapes.world import BLOB, CONTENT


@pytest.mark.parametrize("kind", [References, Compositions, Descriptions])
def test_more_items_change_none_of_the_first(kind):
    few, more = list(kind(2, 32).items()), list(kind(4, 32).items())
    assert all(torch.equal(a.image, b.image) and a.prompt == b.prompt for a, b in zip(few, more))
    assert len({item.name for item in more}) == 4
    assert not torch.equal(few[0].image, next(iter(kind(1, 32, seed=1).items())).image)


def test_prompts_contradict_every_content_factor_of_their_reference():
    data = References(60, 32, described=True)
    for k, item in enumerate(data.items()):
        reference, wanted = data._scenes(data.generator(k))
        said = parse(item.prompt)
        for name in CONTENT:
            assert said[name] == int(getattr(wanted, name)[0]) != int(getattr(reference, name)[0])
        assert said["shape"] != BLOB and "palette" not in said
        assert said["texture"] == int(reference.texture[0])
    assert "texture" not in parse(next(iter(References(1, 32).items())).prompt)


def test_compositions_show_a_subject_and_ask_for_it_elsewhere():
    item = next(iter(Compositions(1, 32).items()))
    assert set(item.references) == {"content", "style"} and torch.equal(item.image, item.references["style"])
    assert parse(item.prompt)["shape"] == BLOB


def test_there_are_two_splits():
    with pytest.raises(ValueError, match=r"data\.split"):
        Descriptions(split="unseen")


def test_there_are_two_brushes():
    with pytest.raises(ValueError, match="brush is 'clean' or 'strokes', got 'pen'"):
        References(brush="pen")
