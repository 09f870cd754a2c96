"""InstantStyle's subtraction: words for the content of a reference, taken out of its image embedding."""

import pytest
import text_models
import torch
import transformers

from rbctrl.attention import IPAdapter
from rbctrl.pictures import save_picture
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.ip_adapter import AdapterFiles
from rbctrl.priors.stable_diffusion import stable_diffusion

T = torch.tensor(0.5, dtype=torch.float64)
WORDS = "a rabbit"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """XL, whose image encoder has the width of its second text encoder, and SD, with the text half of its own CLIP."""
    root = tmp_path_factory.mktemp("words")
    text_models.save_xl(root / "xl")
    text_models.save_sd(root / "sd")
    unets = {"xl": (text_models.xl_unet(), text_models.WIDTH), "sd": (text_models.unet(), text_models.IMAGE_WIDTH)}
    for name, (unet, width) in unets.items():
        tensors = text_models.adapter_tensors(unet, image_width=width)
        text_models.save_adapter(root / f"ip_{name}", tensors, text_models.clip_vision(3, width))
    text_models.save_adapter(root / "plus", text_models.plus_tensors(text_models.xl_unet()), text_models.clip_vision(3))
    for kind in ("half", "whole"):
        text_models.save_tower(root / kind, kind == "whole")
    for seed, name in enumerate(("style", "content")):
        picture = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        save_picture(root / f"{name}.png", picture)
    return root


def make(root, family, adapter=None, tower=None, style="style.png", content=None, **words):
    files = AdapterFiles(str(root / (adapter or f"ip_{family}")), "adapter.safetensors", "image_encoder", tower)
    place, subject = (None if name is None else str(root / name) for name in (style, content))
    attention = IPAdapter("item" if style == "item" else place, subject, **words)
    options = {"prompt": "a cat", "guidance": Guidance(5.0), "attention": attention, "ip_adapter": files}
    prior = stable_diffusion(str(root / family), family=family, **options)
    prior.load()
    return prior


def written(folder, kind, tokenizer):
    """The projected embedding of the words by the model itself, [P]."""
    ids = transformers.CLIPTokenizer.from_pretrained(tokenizer)(
        WORDS, padding="max_length", max_length=text_models.LENGTH, return_tensors="pt"
    ).input_ids
    model = kind.from_pretrained(folder)
    with torch.no_grad():
        if kind is transformers.CLIPTextModelWithProjection:
            return model(ids).text_embeds[0]
        return model.text_projection(model.text_model(ids).pooler_output)[0]


def embedding_of(root, family):
    """Of the style image, by an adapter without words."""
    return make(root, family).prompt.images


def test_on_xl_it_is_the_pooled_vector_of_the_second_text_encoder(root):
    """e - k E(words), not normalised; the prompts and what stands beside the negative one stay as they are."""
    words = written(
        root / "xl" / "text_encoder_2", transformers.CLIPTextModelWithProjection, root / "xl" / "tokenizer_2"
    )
    plain, less = make(root, "xl"), make(root, "xl", neg_content_prompt=WORDS, neg_content_scale=0.8)
    torch.testing.assert_close(less.prompt.images, plain.prompt.images - 0.8 * words, rtol=0, atol=1e-6)
    assert torch.equal(less.prompt.tokens, plain.prompt.tokens) and not less.negative.images.any()
    x_t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = plain.predict(x_t, T).eps_hat
    assert (less.predict(x_t, T).eps_hat - expected).abs().max() > 1e-3
    plain.prompt.images = plain.prompt.images - 0.8 * words
    torch.testing.assert_close(less.predict(x_t, T).eps_hat, plain.predict(x_t, T).eps_hat, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["half", "whole"])
def test_another_adapter_takes_the_text_half_of_its_own_clip(kind, root):
    model = {"half": transformers.CLIPTextModelWithProjection, "whole": transformers.CLIPModel}[kind]
    words = written(root / kind, model, root / kind)
    less = make(root, "sd", tower=str(root / kind), neg_content_prompt=WORDS)
    torch.testing.assert_close(less.prompt.images, embedding_of(root, "sd") - 0.5 * words, rtol=0, atol=1e-6)


def test_it_is_the_style_image_that_loses_the_words_and_not_the_content_image(root):
    both = {"content": "content.png", "tower": str(root / "half")}
    less, plain = make(root, "sd", **both, neg_content_prompt=WORDS), make(root, "sd", **both)
    words = written(root / "half", transformers.CLIPTextModelWithProjection, root / "half")
    expected = plain.prompt.images - torch.stack([torch.zeros_like(words), 0.5 * words])
    torch.testing.assert_close(less.prompt.images, expected, rtol=0, atol=1e-6)


def test_the_references_of_items_lose_them_too(root):
    pictures = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(3)) * 2 - 1
    words = written(root / "half", transformers.CLIPTextModelWithProjection, root / "half")
    found = [
        make(root, "sd", style="item", tower=str(root / "half"), **options).bind(("a cat", "dog"), {"style": pictures})
        for options in ({}, {"neg_content_prompt": WORDS})
    ]
    torch.testing.assert_close(found[1].prompt.images, found[0].prompt.images - 0.5 * words, rtol=0, atol=1e-6)
    assert not torch.equal(found[0].prompt.images[0], found[0].prompt.images[1])


def test_a_scale_of_zero_and_no_words_are_the_adapter_alone_and_read_no_text_tower(root):
    plain = embedding_of(root, "sd")
    for options in ({"neg_content_prompt": WORDS, "neg_content_scale": 0.0}, {"neg_content_prompt": ""}):
        assert torch.equal(make(root, "sd", **options).prompt.images, plain)


def test_the_text_tower_and_the_words_identify_the_rows(root):
    half, whole = (make(root, "sd", tower=str(root / kind), neg_content_prompt=WORDS) for kind in ("half", "whole"))
    assert len({half.fingerprint(), whole.fingerprint(), make(root, "sd").fingerprint()}) == 3
    assert str(root / "half") in [file.place for file in half.files()]
    assert str(root / "half") not in [file.place for file in make(root, "sd", tower=str(root / "half")).files()]


def test_what_cannot_be_subtracted_is_refused(root):
    with pytest.raises(ValueError, match="which this model does not have: say with prior.ip_adapter.text_encoder"):
        make(root, "sd", neg_content_prompt=WORDS)
    with pytest.raises(ValueError, match=r"embedded in 16 numbers and the images in 20: name the text half"):
        make(root, "xl", "ip_sd", neg_content_prompt=WORDS)
    with pytest.raises(ValueError, match=r"Plus reads states.*take a base adapter"):
        make(root, "xl", "plus", neg_content_prompt=WORDS)
    with pytest.raises(ValueError, match=r"attention.neg_content_scale must not be negative, got -1"):
        IPAdapter("style.png", neg_content_scale=-1)
    with pytest.raises(FileNotFoundError, match="prior.ip_adapter.text_encoder"):
        make(root, "sd", tower="/no/clip", neg_content_prompt=WORDS)
