"""Attention feature aggregation against a literal computation, on tiny random networks of diffusers."""

import math
import types

import pytest
import text_models
import torch

from rbctrl.attention import AFA, Concatenate, NoAttention, installed
from rbctrl.attention.base import lacking
from rbctrl.attention.branches import branches, shares
from rbctrl.priors.image_embeddings import required

TAIL = {"pooled": 4, "null": 4, "style": 4}
COMPOSED = {"pooled": 4, "null": 4, "content": 4, "style": 4}
STYLE, BOTH = {"style": "style.png"}, {"style": "style.png", "content": "content.png"}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def cascade():
    return text_models.cascade_unet()


def call(network, images, n=2):
    """Stage C on 3 x 3 latents with five tokens of text."""
    text, pooled = draw(n, 5, text_models.WIDTH, seed=1), draw(n, 1, text_models.WIDTH, seed=2)
    with torch.no_grad():
        return network(draw(n, 16, 3, 3), torch.full((n,), 0.6), pooled, text, images).sample


def embeddings(n=2):
    """Null, content and style, [n, 1, D] each."""
    content, style = (draw(n, 1, text_models.IMAGE_WIDTH, seed=seed) for seed in (3, 4))
    return torch.zeros_like(style), content, style


def literal(network, images, combine):
    """Each block runs its own unchanged attention several times, as the released code does."""
    from diffusers.models.unets.unet_stable_cascade import SDCascadeAttnBlock

    def forward(self, x, kv):
        kv, norm = self.kv_mapper(kv), self.norm(x)
        own = norm.flatten(2).transpose(1, 2)

        def attend(*parts):
            return self.attention(norm, encoder_hidden_states=torch.cat([own, *parts], dim=1))

        return x + combine(attend, kv)

    blocks = [block for block in network.modules() if isinstance(block, SDCascadeAttnBlock)]
    for block in blocks:
        block.forward = types.MethodType(forward, block)
    try:
        return call(network, images)
    finally:
        for block in blocks:
            del block.forward


def repeated_mean(tokens):
    return tokens.mean(dim=1, keepdim=True).repeat(1, tokens.shape[1], 1)


def stylize(attend, kv):
    text, pooled, style = kv[:, :-8], kv[:, -8:-4], repeated_mean(kv[:, -4:])
    return (attend(text, pooled) + attend(text, pooled, style) + attend(text, style)) / 3


def compose(attend, kv):
    text, pooled, content, style = kv[:, :-12], kv[:, -12:-8], kv[:, -8:-4], repeated_mean(kv[:, -4:])
    base = attend(text, pooled) + attend(text, pooled, content)
    return (base + attend(text, pooled, content, style) + attend(text, pooled, style)) / 4


def stylize_paper(attend, kv):
    prompt, style = kv[:, :-4], kv[:, -4:]
    return (attend(prompt) + attend(style) + attend(prompt, style)) / 3


def compose_paper(attend, kv):
    prompt, content, style = kv[:, :-8], kv[:, -8:-4], kv[:, -4:]
    return (attend(prompt) + attend(style) + attend(content) + attend(style, content)) / 4


CASES = {
    "stylize": (AFA(**STYLE), stylize),
    "compose": (AFA(**BOTH), compose),
    "stylize_paper": (AFA(**STYLE, rule="paper"), stylize_paper),
    "compose_paper": (AFA(**BOTH, rule="paper"), compose_paper),
}


@pytest.mark.parametrize("name", CASES)
def test_on_stable_cascade_it_is_the_literal_computation(name, cascade):
    attention, combine = CASES[name]
    null, content, style = embeddings()
    images = [content, style] if attention.content else [style]
    written = literal(cascade, torch.cat(images, dim=1), combine)
    with attention.scope(cascade, COMPOSED if attention.content else TAIL):
        ours = call(cascade, torch.cat([null, *images], dim=1))
    torch.testing.assert_close(ours, written, rtol=0, atol=1e-5)
    other = stylize_paper if combine is stylize else compose if attention.content else stylize
    if combine is not other:
        assert (literal(cascade, torch.cat(images, dim=1), other) - ours).abs().max() > 1e-3


def test_text_only_and_concatenation_are_the_network_itself(cascade):
    null, content, style = embeddings()
    for attention, images in ((NoAttention(), null), (Concatenate(**BOTH), torch.cat([content, style], dim=1))):
        with attention.scope(cascade, COMPOSED):
            assert torch.equal(call(cascade, images), call(cascade, images))
        assert len(attention.images) == images.shape[1] and attention.processors(cascade, COMPOSED) == {}


TWO = ("one.png", "two.png")


def two_styles(cascade, weights, images, n=2, **options):
    """A block on the images of the styles that have a weight, beside the slot of a text-only run."""
    attention = AFA(style=TWO, style_weights=weights, **options)
    tail = dict.fromkeys(("pooled", *attention.images), 4)
    with attention.scope(cascade, tail):
        return call(cascade, torch.cat([torch.zeros_like(images[0]), *images], dim=1), n)


@pytest.mark.parametrize("composed", [False, True])
def test_between_two_styles_it_is_the_mean_of_the_branches_of_both_written_out(composed, cascade):
    _, content, one = embeddings()
    two, options = draw(2, 1, text_models.IMAGE_WIDTH, seed=7), {"content": "content.png"} if composed else {}
    images = [content, one, two] if composed else [one, two]

    def written(a):
        def combine(attend, kv):
            styles = [(1 - a, repeated_mean(kv[:, -8:-4])), (a, repeated_mean(kv[:, -4:]))]
            if composed:
                text, pooled, content = kv[:, :-16], kv[:, -16:-12], kv[:, -12:-8]
                out = attend(text, pooled) + attend(text, pooled, content)
                mixed = [(part, (text, pooled, content, tokens)) for part, tokens in styles]
                mixed += [(part, (text, pooled, tokens)) for part, tokens in styles]
            else:
                text, pooled = kv[:, :-12], kv[:, -12:-8]
                out = attend(text, pooled)
                mixed = [(part, (text, pooled, tokens)) for part, tokens in styles]
                mixed += [(part, (text, tokens)) for part, tokens in styles]
            return (out + sum(part * attend(*tokens) for part, tokens in mixed)) / (4 if composed else 3)

        return literal(cascade, torch.cat(images, dim=1), combine)

    for a in (0.3, 0.5):
        ours = two_styles(cascade, (1 - a, a), images, **options)
        torch.testing.assert_close(ours, written(a), rtol=0, atol=1e-5)
        assert (ours - written(1 - a)).abs().max() > 1e-4 or a == 0.5
    torch.testing.assert_close(two_styles(cascade, None, images, **options), written(0.5), rtol=0, atol=1e-5)


def test_at_both_ends_it_is_the_run_on_one_of_the_styles_exactly(cascade):
    null, two, one = embeddings()
    for weights, style, place in (((1, 0), one, TWO[0]), ((0, 1), two, TWO[1]), ((0.0, 5.0), two, TWO[1])):
        assert [*AFA(style=TWO, style_weights=weights).images.values()] == [None, place]
        with AFA(style=place).scope(cascade, TAIL):
            alone = call(cascade, torch.cat([null, style], dim=1))
        assert torch.equal(two_styles(cascade, weights, [style]), alone)
    assert (two_styles(cascade, (0.99, 0.01), [one, two]) - two_styles(cascade, (1, 0), [one])).abs().max() > 1e-5


def test_between_two_styles_a_row_does_not_see_the_others(cascade):
    _, two, one = embeddings()
    both = two_styles(cascade, (0.7, 0.3), [one, two])
    alone = two_styles(cascade, (0.7, 0.3), [one[:1], two[:1]], 1)
    torch.testing.assert_close(both[:1], alone, rtol=0, atol=1e-5)
    swapped = two_styles(cascade, (0.3, 0.7), [two, one])
    torch.testing.assert_close(both, swapped, rtol=0, atol=1e-6)
    assert (both - two_styles(cascade, (0.7, 0.3), [two, one])).abs().max() > 1e-4


def test_the_same_style_twice_is_that_style(cascade):
    null, _, style = embeddings()
    with AFA(**STYLE).scope(cascade, TAIL):
        once = call(cascade, torch.cat([null, style], dim=1))
    torch.testing.assert_close(two_styles(cascade, (0.4, 0.6), [style, style]), once, rtol=0, atol=1e-6)


def test_a_strength_goes_from_the_text_only_run_to_the_method(cascade):
    """0 is the text-only run to the last bit; towards 0 it is approached, which it is from the other side as well."""
    null, _, style = embeddings()
    images, base = torch.cat([null, style], dim=1), call(cascade, null)

    def at(strength):
        attention = AFA(**STYLE, strength=strength)
        with attention.scope(cascade, TAIL if strength else {"pooled": 4, "null": 4}):
            return call(cascade, images if strength else null)

    assert AFA(**STYLE, strength=0.0).images == NoAttention().images and torch.equal(at(0.0), base)
    torch.testing.assert_close(at(1e-7), base, rtol=0, atol=1e-5)
    distances = [float((at(strength) - base).norm()) for strength in (0.3, 0.6, 1.0)]
    assert 1e-3 < distances[0] < distances[1] < distances[2]


def test_with_the_text_branch_alone_the_images_are_not_seen(cascade):
    null, _, style = embeddings()
    images = torch.cat([null, style], dim=1)
    only = literal(cascade, style, lambda attend, kv: attend(kv[:, :-4]))
    with AFA(**STYLE, weights={"text": 2.0}).scope(cascade, TAIL):
        assert torch.equal(call(cascade, images), call(cascade, 9 * images))
        torch.testing.assert_close(call(cascade, images), only, rtol=0, atol=1e-6)
    with AFA(**STYLE, weights={"text": 2.0, "style": 1e-3}).scope(cascade, TAIL):
        assert not torch.equal(call(cascade, images), call(cascade, 9 * images))


def test_a_row_does_not_see_the_others(cascade):
    null, _, style = embeddings()
    images = torch.cat([null, style], dim=1)
    with AFA(**STYLE).scope(cascade, TAIL):
        torch.testing.assert_close(call(cascade, images)[:1], call(cascade, images[:1], 1), rtol=0, atol=1e-5)
        assert (call(cascade, images)[:1] - call(cascade, images[1:], 1)).abs().max() > 1e-3


def test_blocks_that_are_not_chosen_attend_to_the_text(cascade):
    null, _, style = embeddings()
    images = torch.cat([null, style], dim=1)
    outputs = []
    for where in (("*",), ("up_blocks.*",), "down_blocks.0.*"):
        attention = AFA(**STYLE, where=where)
        with attention.scope(cascade, TAIL):
            outputs.append(call(cascade, images))
    assert all((one - other).abs().max() > 1e-4 for one, other in zip(outputs, outputs[1:]))
    with pytest.raises(ValueError, match=r"attention.where='mid.*fits none of the 4 blocks.*down_blocks.0.2.attention"):
        AFA(**STYLE, where=("mid*",)).processors(cascade, TAIL)


@pytest.fixture(scope="module")
def adapted():
    return text_models.ip_adapter(text_models.unet())


def unet_call(network, embeddings, text=None, n=2):
    text = draw(n, 5, text_models.WIDTH, seed=1) if text is None else text
    added = None if embeddings is None else {"image_embeds": [embeddings]}
    with torch.no_grad():
        return network(draw(n, 4, 8, 8), torch.tensor(300), text, added_cond_kwargs=added).sample


class Literal:
    """Cross-attention of a U-Net with an IP-Adapter, by an explicit softmax over each subset."""

    def __init__(self, adapter, combine):
        self.adapter, self.combine = adapter, combine

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        text, (image,) = encoder_hidden_states
        image, projections = image.flatten(1, 2), self.adapter
        keys = {"text": attn.to_k(text)}, {"text": attn.to_v(text)}
        for part, project in zip(keys, (projections.to_k_ip[0], projections.to_v_ip[0])):
            for kind, tokens in zip(("content", "style"), image.chunk(2, dim=1)):
                part[kind] = project(repeated_mean(tokens) if kind == "style" else tokens)

        def attend(*kinds):
            query = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1))
            key, value = (torch.cat([p[k] for k in kinds], dim=1).unflatten(-1, (attn.heads, -1)) for p in keys)
            weights = (torch.einsum("bihd,bjhd->bhij", query, key) * query.shape[-1] ** -0.5).softmax(-1)
            return attn.to_out[0](torch.einsum("bhij,bjhd->bihd", weights, value).flatten(2))

        return self.combine(attend)


def test_on_the_tokens_of_an_ip_adapter_it_is_the_literal_computation(adapted):
    """There are no pooled tokens, so of the released branches two are the same."""
    images = draw(2, 2, text_models.IMAGE_WIDTH, seed=3)
    attention, tail = AFA(**BOTH), {"content": 4, "style": 4}
    with attention.scope(adapted, tail):
        ours = unet_call(adapted, images)
    sites = attention.processors(adapted, tail)
    assert len(sites) == 4 and all(site.name.endswith("attn2") for site in sites)

    def mean(attend):
        return (
            attend("text") + attend("text", "content") + attend("text", "content", "style") + attend("text", "style")
        ) / 4

    def written(combine):
        with installed(adapted, {site: Literal(site.module.processor, combine) for site in sites}):
            return unet_call(adapted, images)

    torch.testing.assert_close(ours, written(mean), rtol=0, atol=1e-5)
    assert (ours - written(lambda attend: attend("text", "content", "style"))).abs().max() > 1e-3
    assert (ours - unet_call(adapted, images)).abs().max() > 1e-3  # the adapter's own attention


def test_with_the_text_branch_alone_an_adapted_network_is_the_one_without_adapter(adapted):
    bare = text_models.unet().eval()
    with AFA(**STYLE, weights={"text": 1}).scope(adapted, {"style": 4}):
        ours = unet_call(adapted, draw(2, 1, text_models.IMAGE_WIDTH, seed=3))
    assert torch.equal(ours, unet_call(bare, None))


def test_image_tokens_may_follow_the_text_in_one_sequence():
    """Of a network that was trained so: without an adapter, the last tokens are those of the images."""
    network, tokens = text_models.unet().eval(), draw(2, 9, text_models.WIDTH, seed=1)
    with AFA(**STYLE, weights={"text": 1}).scope(network, {"style": 4}):
        only = unet_call(network, None, tokens)
    torch.testing.assert_close(only, unet_call(network, None, tokens[:, :5]))
    with AFA(**STYLE, weights={"text_style": 1}, average_style=False).scope(network, {"style": 4}):
        inside = unet_call(network, None, tokens)
    torch.testing.assert_close(inside, unet_call(network, None, tokens))


def test_branches_are_those_of_code_and_paper():
    assert [branch.kinds for branch in branches("released", False)] == [
        ("text", "pooled"),
        ("text", "pooled", "style"),
        ("text", "style"),
    ]
    assert [branch.kinds for branch in branches("paper", True)][1:] == [("content",), ("content", "style"), ("style",)]
    shared = shares(branches("released", False, {"text": 1, "style": 3}), 0.5)
    assert shared == {("text", "pooled", "null"): 0.5, ("text", "pooled"): 0.125, ("text", "style"): 0.375}


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"strength": 1.5}, r"strength lies in \[0, 1\], got 1.5"),
        ({"rule": "code"}, "'released' or 'paper', got 'code'"),
        ({"weights": {"txt": 1}}, "weights are of text, text_style, style; got txt"),
        ({"weights": {"text": -1}}, "must not be negative, got -1"),
        ({"weights": {"text": 0}}, "are all 0"),
        ({"style_weights": [0.5, 0.5]}, r"style_weights are of the 1 images of attention.style.*got \[0.5, 0.5\]"),
        ({"style": ["a.png", "b.png"], "style_weights": [1.5, -0.5]}, r"of the 2 images .*got \[1.5, -0.5\]"),
        ({"style": ["a.png", "b.png"], "style_weights": [0, 0]}, "not negative and not all 0"),
        ({"style": ["a.png", "b.png"], "style_weights": [math.inf, 1]}, r"finite, .* got \[inf, 1.0\]"),
        ({"style_weights": ["x"]}, r"style_weights is a list of numbers, got \['x'\]"),
        ({"style_weights": 0.5}, "style_weights is a list of numbers, got 0.5"),
        ({"style": []}, r"attention.style is a picture, or a list of some, got \[\]"),
        ({"style": ["a.png", None]}, r"a list of some, got \['a.png', None\]"),
        ({"style": None}, "a list of some, got None"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting, word):
    with pytest.raises(ValueError, match=word):
        AFA(**(STYLE | setting))


def test_tokens_that_are_not_there_are_missed(cascade):
    null, _, style = embeddings()
    with pytest.raises(ValueError, match="has style, and the network's images are"):
        AFA(**STYLE).processors(cascade, {"pooled": 4})
    with pytest.raises(ValueError, match="tokens of a condition"), AFA(**STYLE).scope(cascade, {"style": 40}):
        call(cascade, style)


def test_a_second_style_that_is_missing_is_told_under_the_setting_that_names_it():
    files = required(AFA(style=("a.png", "b.png"), content="c.png").images)
    assert [file.setting for file in files] == ["attention.content", "attention.style", "attention.style"]
    assert lacking({"style": "a.png", "style_2": "item"}, ["style"]).startswith("attention.style=item, but")
