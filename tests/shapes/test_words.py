"""Prompts of the world: what they say, and what is refused."""

import pytest
import torch

from rbctrl.shapes.words import BOS, LENGTH, PAD, VOCABULARY, describe, forget, parse, scene_tokens, to_tokens
from rbctrl.shapes.world import CONTENT, FACTORS, draw_scenes


def test_prompts_are_read_in_any_order_and_with_small_words():
    said = {"count": 1, "shape": 4, "position": 1, "texture": 2, "background": 2}
    assert parse("two stars topleft hatch stripes") == said
    assert parse("Hatch, on stripes: two STARS at the top left.") == said
    assert parse("a circle in the centre") == {"count": 0, "shape": 0, "position": 0}
    assert parse("") == {}


@pytest.mark.parametrize(("prompt", "word"), [("two cats", "'cats'"), ("a star and a heart", "two things")])
def test_unknown_and_contradicting_words_are_refused(prompt, word):
    with pytest.raises(ValueError, match=word):
        parse(prompt)


def test_descriptions_are_read_back():
    scenes = draw_scenes(50, torch.Generator().manual_seed(0))
    prompts = [describe(scenes.take(torch.tensor([k]))) for k in range(50)]
    assert torch.equal(to_tokens([parse(prompt) for prompt in prompts]), scene_tokens(scenes))
    content = parse(describe(scenes.take(torch.tensor([0])), CONTENT))
    assert tuple(content) == CONTENT


def test_each_word_has_a_token_of_its_own():
    tokens = [
        to_tokens([{name: k}])[0, 1 + j].item() for j, name in enumerate(FACTORS) for k in range(len(FACTORS[name]))
    ]
    assert sorted([PAD, BOS, *tokens]) == list(range(VOCABULARY))


def test_forgetting_keeps_the_start_and_the_shares():
    tokens = scene_tokens(draw_scenes(4000, torch.Generator().manual_seed(0), named=1.0))
    left = forget(tokens, torch.Generator().manual_seed(1), style=0.3, content=0.1, everything=0.0)
    gone = (left == PAD).float().mean(0)
    assert gone[0] == 0 and left.shape == (4000, LENGTH)
    assert (gone[1:4] - 0.1).abs().max() < 0.02
    assert (gone[4:] - (0.3 + 0.7 * 0.15)).abs().max() < 0.03
    assert (forget(tokens, torch.Generator(), 0.0, 0.0, 1.0)[:, 1:] == PAD).all()
    assert torch.equal(forget(tokens, torch.Generator(), 0.0, 0.0, 0.0), tokens)
