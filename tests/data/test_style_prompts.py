"""The list of prompts of the stylization protocol, and the pairs that are made of it."""

import pytest
import torch
from PIL import Image

from rbctrl.data import StylePrompts
from rbctrl.data.style_prompts import read_styles

LIST = """{A cat, A dog, A house, A boat} in watercolor painting style.

{A cup of tea, A "rose", A man, An owl} in the style of 3d rendering, on white
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "prompts.txt").write_text(LIST)
    return tmp_path / "prompts.txt"


@pytest.fixture
def references(tmp_path):
    folder = tmp_path / "references"
    folder.mkdir()
    for name, colour in (("001.png", "red"), ("3_tea.jpg", "blue")):
        Image.new("RGB", (40, 20), colour).save(folder / name)
    return folder


def test_lines_are_subjects_and_words_of_a_style(path):
    first, second = read_styles(path)
    assert (first.number, second.number) == (1, 3) and first.subjects == ("A cat", "A dog", "A house", "A boat")
    assert first.words == "in watercolor painting style"
    assert second.words == "in the style of 3d rendering, on white"
    assert second.prompt(1, True) == 'A "rose" in the style of 3d rendering, on white'
    assert second.prompt(1, False) == 'A "rose"'


def test_items_are_pairs_of_a_reference_and_a_prompt(path, references):
    data = StylePrompts(path, references, size=16)
    items = list(data.items())
    assert len(data) == len(items) == 6
    assert [item.name for item in items[:4]] == ["001/1 A dog", "001/2 A house", "001/3 A boat", "003/1 A rose"]
    assert items[0].prompt == "A dog in watercolor painting style" and items[0].image.shape == (3, 16, 16)
    assert torch.equal(items[0].references["style"], items[0].image)
    assert items[0].image[0].mean() > 0.9 > -0.9 > items[0].image[2].mean() and items[3].image[2].mean() > 0.9
    plain = StylePrompts(path, references, described=False, subjects=[0], n_styles=1, size=16)
    assert [item.prompt for item in plain.items()] == ["A cat"]
    assert [batch.prompts for batch in plain.batches(4, 1)] == [("A cat",)]


def test_without_references_items_are_what_references_are_made_of(path):
    (item, _) = StylePrompts(path, subjects=[0], size=16).items()
    assert item.prompt == "A cat in watercolor painting style" and not item.references and not item.image.any()


def test_results_of_a_run_are_references(path, tmp_path):
    """images/001/0 A cat/image_0.png, as a run of the protocol's first step leaves them."""
    for number, colour in (("001", "green"), ("003", "blue")):
        folder = tmp_path / "images" / number / "0 A cat"
        folder.mkdir(parents=True)
        Image.new("RGB", (16, 16), colour).save(folder / "image_0.png")
        Image.new("RGB", (16, 16), "white").save(folder / "truth.png")
    first = next(iter(StylePrompts(path, tmp_path / "images", size=16).items()))
    assert first.image[0].max() < -0.9


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (
            "A cat in watercolor style.\n",
            r"line 1 is 'A cat in watercolor style.'; a line is '{a, b, c, d} in <style>.'",
        ),
        ("{A cat, A dog} in oil.\n", r"line 1 has 2 subjects, and data.subjects are \[1, 2, 3\], from 0"),
        ("\n\n", "holds no styles"),
    ],
)
def test_lists_of_another_form_are_refused(text, word, tmp_path):
    (tmp_path / "prompts.txt").write_text(text)
    with pytest.raises(ValueError, match=word):
        StylePrompts(tmp_path / "prompts.txt")


def test_what_is_missing_is_named(path, references):
    with pytest.raises(FileNotFoundError, match=r"no prompts at /no/list.txt: .*google/RB-Modulation"):
        StylePrompts("/no/list.txt")
    with pytest.raises(FileNotFoundError, match="no folder of references at /no/pictures"):
        StylePrompts(path, "/no/pictures")
    (references / "3_tea.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no reference of 1 styles, the first is 003 \(in the style of 3d"):
        StylePrompts(path, references)
