"""IP-Adapter as a scope: scales by blocks, as diffusers' own mixin sets them; concatenation on its tokens."""

import pytest
import text_models
import torch
from diffusers.loaders import IPAdapterMixin

from rbctrl.attention import AFA, Concatenate, IPAdapter, NoAttention, find_sites, installed, select

TAIL = {"style": 4}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network():
    """XL's layout in miniature: cross-attention in the middle, so that the names of its blocks are those of XL."""
    types = {
        "block_out_channels": (8, 8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 1, 2),
    }
    return text_models.ip_adapter(text_models.unet(**types))


def call(network, seed=3):
    images = draw(2, 1, text_models.IMAGE_WIDTH, seed=seed)
    text = draw(2, 5, text_models.WIDTH, seed=1)
    with torch.no_grad():
        return network(draw(2, 4, 8, 8), torch.tensor(300), text, added_cond_kwargs={"image_embeds": [images]}).sample


class Shim(IPAdapterMixin):
    """What diffusers' mixin needs of a pipeline."""

    unet_name = "unet"

    def __init__(self, unet):
        self.unet = unet


FORMS = {
    "all": (0.6, ("*",), 0.6),
    "style": (1.0, ("up_blocks.0.attentions.1.*",), {"up": {"block_0": [0.0, 1.0, 0.0]}}),
    "style and layout": (
        0.7,
        ("up_blocks.0.attentions.1.*", "down_blocks.2.attentions.1.*"),
        {"down": {"block_2": [0.0, 0.7]}, "up": {"block_0": [0.0, 0.7, 0.0]}},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_blocks_by_name_are_those_of_diffusers_dictionary(form, network):
    scale, where, dictionary = FORMS[form]
    with IPAdapter("style.png", scale=scale, where=where).scope(network, TAIL):
        ours = call(network)
    Shim(network).set_ip_adapter_scale(dictionary)
    theirs = call(network)
    Shim(network).set_ip_adapter_scale(1.0)
    assert torch.equal(ours, theirs) and not torch.allclose(ours, call(network), atol=1e-4)


def test_scales_are_back_after_the_scope_and_after_an_exception(network):
    scales = [site.module.processor.scale for site in find_sites(network)]
    for error in (None, KeyError):
        try:
            with IPAdapter("style.png", scale=0.3, where="mid_block.*").scope(network, TAIL):
                assert {tuple(site.module.processor.scale) for site in find_sites(network)} == {(0.3,), (0.0,)}
                if error:
                    raise error
        except KeyError:
            assert error
        assert [site.module.processor.scale for site in find_sites(network)] == scales


def test_scale_zero_is_text_only():
    assert IPAdapter("style.png", scale=0.0).images == NoAttention().images
    assert not IPAdapter("style.png", scale=0.0).active


class OneSoftmax:
    """Text and image keys side by side, written out."""

    def __init__(self, adapter):
        self.adapter = adapter

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        text, (image,) = encoder_hidden_states
        key = torch.cat([attn.to_k(text), self.adapter.to_k_ip[0](image.flatten(1, 2))], dim=1)
        value = torch.cat([attn.to_v(text), self.adapter.to_v_ip[0](image.flatten(1, 2))], dim=1)
        query, key, value = (part.unflatten(-1, (attn.heads, -1)) for part in (attn.to_q(hidden_states), key, value))
        weights = (torch.einsum("bihd,bjhd->bhij", query, key) * query.shape[-1] ** -0.5).softmax(-1)
        return attn.to_out[0](torch.einsum("bhij,bjhd->bihd", weights, value).flatten(2))


def test_concatenation_on_its_tokens_is_one_softmax_over_text_and_images(network):
    with Concatenate("style.png").scope(network, TAIL):
        ours = call(network)
    written = {site: OneSoftmax(site.module.processor) for site in find_sites(network)}
    with installed(network, written):
        torch.testing.assert_close(ours, call(network), rtol=0, atol=1e-5)
    assert (ours - call(network)).abs().max() > 1e-3  # the adapter's own, which adds two
    with AFA("style.png", weights={"text_style": 1.0}, average_style=False).scope(network, TAIL):
        torch.testing.assert_close(ours, call(network), rtol=0, atol=1e-5)


def test_what_means_nothing_is_refused(network):
    with pytest.raises(ValueError, match="scale must not be negative, got -1"):
        IPAdapter("style.png", scale=-1)
    with pytest.raises(ValueError, match="fits none of the"), IPAdapter("s.png", where="no*").scope(network, TAIL):
        pass
    bare = text_models.unet()
    with pytest.raises(ValueError, match="needs a network with an IP-Adapter"), IPAdapter("s.png").scope(bare, TAIL):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("form", [IPAdapter, Concatenate])
def test_several_styles_are_refused_where_one_is_meant(form):
    with pytest.raises(ValueError, match="attention.style is one picture here.*attention=afa"):
        form(style=["a.png", "b.png"])


def test_names_are_those_of_xl_and_of_15():
    """Networks of the published sizes, without memory: how many blocks there are, and where the style block lies."""
    import diffusers

    xl = {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
    }
    with torch.device("meta"):
        networks = diffusers.UNet2DConditionModel(**xl), diffusers.UNet2DConditionModel(cross_attention_dim=768)
    sites = [find_sites(network) for network in networks]
    assert [len(network.attn_processors) for network in networks] == [140, 32]
    assert [len(found) for found in sites] == [70, 16]
    style = select(sites[0], ("up_blocks.0.attentions.1.*",))
    assert len(style) == 10 and all(site.name.endswith("attn2") for site in style)
