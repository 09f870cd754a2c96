"""CLIP's image embedding from folders in either layout, against transformers' own."""

import pytest
import text_models
import torch
import transformers

from rbctrl.descriptors import CLIP
from rbctrl.descriptors.csd import CLIP_MEAN, CLIP_STD
from rbctrl.operators import Parallel, Style


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 28, "patch_size": 14, "projection_dim": 10}
    text = {**sizes, "vocab_size": 20, "max_position_embeddings": 8, "projection_dim": 10}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=10)
    whole = text_models.seeded(lambda: transformers.CLIPModel(config)).eval()
    whole.save_pretrained(root / "whole")
    half = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**vision))
    half.load_state_dict({k: v for k, v in whole.state_dict().items() if k.startswith("vis")})
    half.save_pretrained(root / "half" / "image_encoder")
    return root, half.eval()


def images(side=28):
    return 2 * torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize(("folder", "part"), [("whole", ""), ("half", "image_encoder")])
def test_it_is_the_projected_image_embedding(folder, part, models):
    root, half = models
    descriptor = CLIP(str(root / folder), part, size=28)
    descriptor.load()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    with torch.no_grad():
        expected = half(((images() + 1) / 2 - mean) / std).image_embeds
        wrong = half((images() - mean) / std).image_embeds
    torch.testing.assert_close(descriptor(images()), expected, rtol=0, atol=1e-6)
    assert (expected - wrong).abs().max() > 1e-2  # images taken to be on [0, 1]
    assert len(descriptor.fingerprint()) == 16 and not any(w.requires_grad for w in descriptor.parameters())
    assert not any("text" in name for name in descriptor.state_dict())
    x = images(40).requires_grad_()
    assert torch.autograd.grad(descriptor(x).sum(), x)[0].abs().sum() > 0


def test_two_of_one_model_are_one_network_and_one_evaluation(models):
    style, content = (CLIP(str(models[0] / "whole"), size=28) for _ in range(2))
    operator = Parallel({"style": Style(style), "content": Style(content)})
    operator.load()
    calls = []
    handle = style.network.register_forward_hook(lambda *_: calls.append(1))
    try:
        both = operator(images())
    finally:
        handle.remove()
    assert style.network is content.network and len(calls) == 1
    assert torch.equal(both[:, :10], both[:, 10:])


def test_another_size_and_a_missing_folder_are_refused(models, tmp_path):
    with pytest.raises(ValueError, match=r"sees images of 28 px, not 224: operator.descriptor.size=28"):
        CLIP(str(models[0] / "whole")).load()
    missing = CLIP(str(tmp_path / "none"))
    assert not missing.files()[0].present()
    with pytest.raises(FileNotFoundError, match=r"openai/clip-vit-large-patch14.*operator.descriptor.model=\.\.\."):
        missing.load()
