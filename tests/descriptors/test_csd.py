"""CSD from a checkpoint in each published layout, against OpenAI's vision transformer written out by key."""

import argparse
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from rbctrl.descriptors import CSD
from rbctrl.descriptors.openai_vit import Dimensions, to_transformers
from rbctrl.operators import Parallel, Style

TINY = Dimensions(width=128, layers=2, patch=7, patches=9, inner=160)
CHANNELS = 24


def tensors(dimensions=TINY):
    """The published table, named as there, filled with noise at a small width."""
    generator = torch.Generator().manual_seed(0)
    shapes = {f"backbone.{name}": shape for name, shape in dimensions.layout().items()}
    shapes |= {f"last_layer_{head}": (dimensions.width, CHANNELS) for head in ("style", "content")}
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def by_hand(state, image, gelu=lambda x: x * torch.sigmoid(1.702 * x)):
    """OpenAI's VisionTransformer without its projection: the class token of images [B, 3, 21, 21], standardised."""
    s = {name.removeprefix("backbone."): value for name, value in state.items()}
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    x = ((image + 1) / 2 - mean) / std

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])

    def attention(name, x):
        q, k, v = F.linear(x, s[f"{name}.in_proj_weight"], s[f"{name}.in_proj_bias"]).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (2, 64)).transpose(1, 2) for part in (q, k, v))  # two heads of 64 channels
        mixed = torch.softmax(q @ k.mT / 8, dim=-1) @ v
        return F.linear(mixed.transpose(1, 2).flatten(2), s[f"{name}.out_proj.weight"], s[f"{name}.out_proj.bias"])

    tokens = F.conv2d(x, s["conv1.weight"], stride=7).flatten(2).mT
    tokens = torch.cat([s["class_embedding"].expand(len(x), 1, -1), tokens], dim=1) + s["positional_embedding"]
    tokens = norm("ln_pre", tokens)
    for k in range(2):
        block = f"transformer.resblocks.{k}"
        tokens = tokens + attention(f"{block}.attn", norm(f"{block}.ln_1", tokens))
        inner = F.linear(norm(f"{block}.ln_2", tokens), s[f"{block}.mlp.c_fc.weight"], s[f"{block}.mlp.c_fc.bias"])
        tokens = tokens + F.linear(gelu(inner), s[f"{block}.mlp.c_proj.weight"], s[f"{block}.mlp.c_proj.bias"])
    return norm("ln_post", tokens[:, 0])


def images(n=2, side=21):
    return 2 * torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1)) - 1


def official(path):
    """A training checkpoint: the table under a wrapper's names, with what the loop left beside it."""
    state = {f"module.{name}": value for name, value in tensors().items()}
    more = {"args": argparse.Namespace(lr=0.1), "loss": np.float64(0.5), "iter": 80000, "optimizer": {"state": {}}}
    torch.save({"model_state_dict": state, **more}, path)


def bare(path):
    save_file(tensors(), path)


def of_transformers(path, level="vision_model."):
    state = tensors()
    backbone = {name.removeprefix("backbone."): v for name, v in state.items() if name.startswith("backbone.")}
    renamed = {f"backbone.{level}{name}": value.contiguous() for name, value in to_transformers(backbone).items()}
    renamed[f"backbone.{level}embeddings.position_ids"] = torch.arange(10)[None]
    save_file(renamed | {name: v for name, v in state.items() if name.startswith("last")}, path)


LAYOUTS = {
    "csd.bin": official,
    "bare.safetensors": bare,
    "transformers4.safetensors": of_transformers,
    "transformers5.safetensors": lambda path: of_transformers(path, ""),
}


def load(path, head="style", **options):
    descriptor = CSD(str(path), head, **options)
    descriptor.load()
    return descriptor


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("head", ["style", "content"])
def test_every_layout_is_openais_network_and_the_head(name, head, tmp_path):
    LAYOUTS[name](tmp_path / name)
    found = load(tmp_path / name, head)(images())
    state = tensors()
    expected = F.normalize(by_hand(state, images()) @ state[f"last_layer_{head}"], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    other = F.normalize(by_hand(state, images(), F.gelu) @ state[f"last_layer_{head}"], dim=1)
    assert (found - other).abs().max() > 1e-4  # another activation is told apart


@pytest.fixture
def file(tmp_path):
    bare(tmp_path / "csd.safetensors")
    return tmp_path / "csd.safetensors"


def test_both_heads_share_one_network(file):
    style, content = load(file), load(file, "content")
    assert style.network is content.network and style.trunk == content.trunk
    assert style.trunk != load(file, crop="none").trunk and style.trunk == load(file).trunk
    x = images()
    features = style.features(x)
    assert torch.equal(features, content.features(x)) and torch.equal(style.project(features), style(x))
    assert not torch.allclose(style(x), content(x), atol=0.1)


def test_pictures_of_any_size_are_resized_and_the_gradient_reaches_them(file):
    descriptor = load(file)
    assert descriptor.preprocess.size == 21
    x = images(side=30).requires_grad_()
    (gradient,) = torch.autograd.grad(descriptor(x)[:, 0].sum(), x)
    assert gradient.isfinite().all() and (gradient.flatten(1).norm(dim=1) > 0).all()
    assert not any(weight.requires_grad for weight in descriptor.parameters())


def test_half_precision_weights_are_computed_with_in_single(tmp_path):
    save_file({name: value.half() for name, value in tensors().items()}, tmp_path / "half.safetensors")
    assert load(tmp_path / "half.safetensors").network.last_layer_style.dtype == torch.float32


def test_the_published_layout_has_297_tensors_and_a_cut_off_one_does_not_pass_for_it():
    layout = Dimensions().layout()
    assert len(layout) + 2 == 297 and Dimensions().side == 224
    assert layout["positional_embedding"] == (257, 1024) and layout["conv1.weight"] == (1024, 3, 14, 14)
    first = {"conv1.weight": torch.empty(1024, 3, 14, 14, device="meta"), "transformer.resblocks.0.ln_1.bias": None}
    assert Dimensions.of(first).layers == 24 and Dimensions.of(tensors_of_backbone()) == TINY


def test_at_its_published_size_the_network_has_a_place_for_each_tensor_and_no_other():
    dimensions = Dimensions()
    layout = {name: torch.empty(shape, device="meta") for name, shape in dimensions.layout().items()}
    network = dimensions.network()
    shapes = {name.removeprefix("vision_model."): v.shape for name, v in network.state_dict().items()}
    assert {name: value.shape for name, value in to_transformers(layout).items()} == shapes
    count = sum(value.numel() for value in layout.values()) + 2 * 1024 * 768
    assert count == 304_752_640  # the 304.75 million of the published model


def test_in_parallel_both_heads_are_one_evaluation(file, make_rng):
    parts = {head: Style(CSD(str(file), head)) for head in ("style", "content")}
    operator = Parallel(parts)
    operator.load()
    backbone, calls = parts["style"].descriptor.network.backbone, []
    handle = backbone.register_forward_hook(lambda *_: calls.append(1))
    try:
        both = operator.draw(make_rng(2), (3, 21, 21))(images())
    finally:
        handle.remove()
    assert len(calls) == 1 and both.shape == (2, 2 * CHANNELS)
    torch.testing.assert_close(both, torch.cat([part(images()) for part in parts.values()], dim=1))


def tensors_of_backbone():
    return {name.removeprefix("backbone."): value for name, value in tensors().items()}


class Evil:
    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop("last_layer_style"), r"1 missing \(last_layer_style\)"),
        (lambda s: s.pop("backbone.transformer.resblocks.1.ln_2.bias"), r"missing \(backbone.transformer.resblocks.1"),
        (lambda s: s.pop("backbone.conv1.weight"), r"missing \(backbone.conv1.weight"),
        (lambda s: s.update({"backbone.proj": torch.zeros(128, 24)}), r"1 unknown \(backbone.proj\)"),
        (lambda s: s.update({"last_layer_content": torch.zeros(3, 24)}), r"last_layer_content is \[3, 24\], not \[128"),
        (lambda s: s.update({"x": Evil()}), "holds more than tensors"),
    ],
)
def test_a_checkpoint_of_another_layout_is_refused_with_the_first_names(spoil, words, tmp_path):
    state = tensors()
    spoil(state)
    torch.save({"model_state_dict": state}, tmp_path / "bad.bin")
    with pytest.raises(ValueError, match=words) as refusal:
        load(tmp_path / "bad.bin")
    assert "\n" not in str(refusal.value) and "bad.bin" in str(refusal.value)


def test_a_missing_file_says_where_it_is_published_and_where_to_put_it(tmp_path):
    descriptor = CSD(str(tmp_path / "csd.bin"))
    assert descriptor.fingerprint() == "" and not descriptor.files()[0].present()
    with pytest.raises(FileNotFoundError, match=r"csd.bin: it is published .*CSD-ViT-L.*operator.descriptor.path="):
        descriptor.load()
    with pytest.raises(ValueError, match="head is 'style' or 'content', got 'artist'"):
        CSD("csd.bin", "artist")


def test_the_fingerprint_is_of_the_content(file, tmp_path):
    before = CSD(str(file)).fingerprint()
    other = tensors()
    other["last_layer_style"] += 1
    save_file(other, tmp_path / "other.safetensors")
    assert len(before) == 16 and CSD(str(tmp_path / "other.safetensors")).fingerprint() != before
