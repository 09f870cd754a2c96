"""Each prompt is encoded once as long as the prior lives, and encoders stay where the memory allows it."""

import gc
import weakref

import pytest
import text_models
import torch

from rbctrl.attention import AFA
from rbctrl.config import build
from rbctrl.offload import size
from rbctrl.pretrained import Folder
from rbctrl.priors.embedding import Embedding
from rbctrl.priors.remembered import Remembered
from rbctrl.priors.stable_cascade import stable_cascade
from rbctrl.priors.stable_diffusion import stable_diffusion

BATCHES = (("a cat", "dog"), ("dog", "bird"), ("a cat", "bird"), ("fish", "fish"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = text_models.save_cascade(tmp_path_factory.mktemp("remembered"))
    text_models.save_xl(root / "xl")
    return root


@pytest.fixture
def seen(monkeypatch):
    """What the models do: parts that are read, and prompts that text encoders are given."""
    record, read = {"read": [], "rows": 0, "parts": []}, Folder.part

    def count(module, given):
        record["rows"] += len(given[0])

    def part(self, kind, name, dtype):
        found = read(self, kind, name, dtype)
        record["read"].append(name)
        record["parts"].append(weakref.ref(found))
        if name.startswith("text_encoder"):
            found.register_forward_pre_hook(count)
        return found

    monkeypatch.setattr(Folder, "part", part)
    return record


def xl(root):
    return stable_diffusion(str(root / "xl"), family="xl", negative_prompt="ugly")


def bound(prior):
    prior.load()
    return [prior.bind(prompts, {}) for prompts in BATCHES]


def test_the_encoder_sees_each_prompt_once(root, seen):
    """The prior's own, the negative one and four of items, by two encoders; read for the own ones, and then kept."""
    found = bound(xl(root))
    assert seen["rows"] == 2 * 6
    assert seen["read"].count("text_encoder") == seen["read"].count("text_encoder_2") == 2
    assert torch.equal(found[0].prompt.tokens[1], found[1].prompt.tokens[0])
    assert not torch.equal(found[0].prompt.tokens[0], found[0].prompt.tokens[1])
    fresh = bound(xl(root))[2]
    assert torch.equal(found[2].prompt.tokens, fresh.prompt.tokens)
    assert torch.equal(found[2].prompt.pooled, fresh.prompt.pooled)


def test_on_a_budget_encoders_are_let_go(root, seen):
    """prior/memory=24GB: each batch with a new prompt reads them again, and none is left when it is bound."""
    prior = build("prior", "sdxl", ["prior/memory=24GB", f"prior.model={root / 'xl'}", "prior.negative_prompt=ugly"])
    assert prior.budget.gpu == 24.0
    bound(prior)
    assert seen["rows"] == 2 * 6 and seen["read"].count("text_encoder") == 4  # own; then three batches with new ones
    gc.collect()
    left = [name for name, part in zip(seen["read"], seen["parts"]) if part() is not None]
    assert "unet" in left and not any(name.startswith("text_encoder") for name in left)
    assert all(part.name != "text_encoder" for part in prior.parts())


def test_stable_cascade_remembers_prompts_and_keeps_both_encoders(root, seen):
    picture = torch.zeros(2, 3, 24, 20)
    prior = stable_cascade(str(root / "c"), preview=str(root / "previewer.safetensors"), attention=AFA("item"))
    prior.load()
    for prompts in BATCHES:
        prior.bind(prompts, {"style": picture})
    assert seen["rows"] == 5 and seen["read"] == ["prior", "text_encoder", "image_encoder"]


def test_what_was_not_asked_for_longest_is_forgotten_first():
    asked = []

    def encode(source, prompts, dtype):
        asked.extend(prompts)
        return [Embedding(torch.full((1, 4), float(len(prompt)))) for prompt in prompts]

    words = Remembered(encode, torch.float32, room=2 * size(Embedding(torch.zeros(1, 4))))
    words(None, ["a", "bb"])
    words(None, ["a", "ccc", "a"])
    assert asked == ["a", "bb", "ccc"]
    assert [float(found.tokens[0, 0]) for found in words(None, ["ccc", "a"])] == [3.0, 1.0]
    assert asked == ["a", "bb", "ccc"]
    assert [float(found.tokens[0, 0]) for found in words(None, ["bb", "dddd", "a"])] == [2.0, 4.0, 1.0]
    assert asked == ["a", "bb", "ccc", "bb", "dddd"]


def test_what_a_caller_does_to_an_embedding_is_its_own_affair():
    words = Remembered(lambda source, prompts, dtype: [Embedding(torch.ones(1, 4))], torch.float32)
    words(None, ["a"])[0].to(torch.float64)
    assert words(None, ["a"])[0].tokens.dtype == torch.float32
