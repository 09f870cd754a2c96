"""IP-Adapters on Stable Diffusion priors: diffusers' loader, formulas written out, and nothing left behind."""

import diffusers
import pytest
import text_models
import torch
import transformers
from safetensors.torch import load_file, save_file

from rbctrl.attention import AFA, Concatenate, IPAdapter, NoAttention
from rbctrl.controllers import NoControl
from rbctrl.controllers.base import Run
from rbctrl.grids import Uniform
from rbctrl.noise import NoNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators import Identity
from rbctrl.pictures import save_picture
from rbctrl.priors.adapter import read_adapter
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.image_embeddings import preprocess
from rbctrl.priors.ip_adapter import AdapterFiles
from rbctrl.priors.memory import Memory
from rbctrl.priors.stable_diffusion import stable_diffusion
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("ip")
    text_models.save_sd(root / "sd")
    text_models.save_xl(root / "xl")
    encoder = text_models.clip_vision(layers=3)
    for name, unet in (("sd", text_models.unet()), ("xl", text_models.xl_unet())):
        text_models.save_adapter(root / f"base_{name}", text_models.adapter_tensors(unet), encoder)
        text_models.save_adapter(root / f"plus_{name}", text_models.plus_tensors(unet), encoder)
    for seed, name in enumerate(("style", "content")):
        picture = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        save_picture(root / f"{name}.png", picture)
    return root


def files(root, kind):
    return AdapterFiles(str(root / kind), "adapter.safetensors", "image_encoder")


def make(root, family="sd", attention=None, kind="base", **options):
    settings = {"prompt": "a cat", "negative_prompt": "dog", "ip_adapter": files(root, f"{kind}_{family}")}
    prior = stable_diffusion(str(root / family), family=family, attention=attention, **(settings | options))
    prior.load()
    return prior


@pytest.fixture
def x_t():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def own_encoder(root, place, states=False, blank=False):
    """CLIP's image encoder of transformers, called as the published pipeline does."""
    from PIL import Image

    encoder = transformers.CLIPVisionModelWithProjection.from_pretrained(root / "base_sd" / "image_encoder")
    size = {"shortest_edge": 16}
    processor = transformers.CLIPImageProcessorPil(size=size, crop_size={"height": 16, "width": 16})
    pixels = processor(Image.open(place), return_tensors="pt").pixel_values
    pixels = torch.zeros_like(pixels) if blank else pixels
    with torch.no_grad():
        if not states:
            return encoder(pixels).image_embeds
        seen = []
        encoder.vision_model.encoder.layers[-2].register_forward_hook(
            lambda *given: seen.append(given[2][0] if isinstance(given[2], tuple) else given[2])
        )
        encoder(pixels)
        return seen[0]


def loaded_for_good(root, family, kind):
    """The U-Net with the adapter, as diffusers' pipelines have it."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(root / family / "unet", low_cpu_mem_usage=False)
    flat = load_file(root / f"{kind}_{family}" / "adapter.safetensors")
    parts = {"image_proj": {}, "ip_adapter": {}}
    for name, value in flat.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    return unet


@pytest.mark.parametrize("family", ["sd", "xl"])
@pytest.mark.parametrize("kind", ["base", "plus"])
def test_an_estimate_is_that_of_the_published_pipeline(kind, family, root, x_t):
    """Zeros beside the negative prompt: an embedding of them, or for Plus what the encoder says of an image of them."""
    style, content = root / "style.png", root / "content.png"
    prior = make(root, family, IPAdapter(str(style), str(content), scale=0.6), kind, guidance=Guidance(5.0))
    unet, plus = loaded_for_good(root, family, kind), kind == "plus"
    for processor in unet.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            processor.scale = [0.6]
    wanted = torch.stack([own_encoder(root, place, plus)[0] for place in (content, style)])
    nothing = own_encoder(root, style, True, blank=True) if plus else torch.zeros_like(wanted[:1])
    outputs = []
    for embedding, images in ((prior.prompt, wanted), (prior.negative, nothing.expand_as(wanted))):
        added = {"image_embeds": [images.expand(2, *images.shape)]}
        if family == "xl":
            added["text_embeds"] = embedding.pooled.expand(2, -1)
            added["time_ids"] = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)
        with torch.no_grad():
            text = embedding.tokens.expand(2, -1, -1)
            outputs.append(unet(x_t, torch.tensor(499), text, added_cond_kwargs=added).sample)
    eps = outputs[1] + 5.0 * (outputs[0] - outputs[1])
    with torch.no_grad():
        est = prior.predict(x_t, torch.tensor(0.5, dtype=torch.float64))
    torch.testing.assert_close(est.eps_hat, eps, rtol=1e-4, atol=1e-4)
    bare = make(root, family, guidance=Guidance(5.0))
    assert not torch.allclose(bare.predict(x_t, torch.tensor(0.5, dtype=torch.float64)).eps_hat, eps, atol=1e-2)


def test_images_are_seen_as_clip_sees_them(root):
    prior = make(root, attention=Concatenate(str(root / "style.png")))
    expected = own_encoder(root, root / "style.png")
    torch.testing.assert_close(prior.prompt.images, expected, rtol=0, atol=1e-5)
    assert not prior.negative.images.any() and preprocess(torch.zeros(3, 20, 40), 16).shape == (3, 16, 16)


def snapshot(network):
    processors = {name: id(processor) for name, processor in network.attn_processors.items()}
    values = {name: (id(value), value.clone()) for name, value in network.named_parameters()}
    return processors, values, network.encoder_hid_proj, network.config.encoder_hid_dim_type


def same(one, other):
    assert one[0] == other[0] and list(one[1]) == list(other[1]) and one[2] is other[2] and one[3] == other[3]
    return all(
        before[0] == after[0] and torch.equal(before[1], after[1])
        for before, after in zip(one[1].values(), other[1].values())
    )


METHODS = {"ip_adapter": IPAdapter, "concat": Concatenate, "afa": AFA}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_on_the_network_after_a_scope_and_after_an_exception(method, root, x_t):
    prior = make(root, attention=METHODS[method](str(root / "style.png")))
    network = prior.denoiser.network.model
    bare = diffusers.UNet2DConditionModel.from_pretrained(root / "sd" / "unet", low_cpu_mem_usage=False)
    before = snapshot(network)
    assert list(before[1]) == [name for name, _ in bare.named_parameters()] and before[2:] == (None, None)
    t = torch.tensor(0.5, dtype=torch.float64)
    with prior.scope():
        inside = prior.predict(x_t, t).eps_hat
        assert snapshot(network)[0] != before[0] and network.encoder_hid_proj is not None
    assert same(before, snapshot(network))
    with pytest.raises(KeyError), prior.scope():
        raise KeyError
    assert same(before, snapshot(network)) and torch.equal(prior.predict(x_t, t).eps_hat, inside)
    assert same(before, snapshot(network))


def run_of(prior):
    rng = ImageRNG(0, (("image", 0),))
    process = ddim(prior, (4, 8, 8), 2, Uniform(), eta=1.0)
    obs = observe(Identity(), NoNoise(), torch.zeros(1, 3, 16, 16), rng)
    return Run(process, Objective(lambda *_: 0.0, obs, prior.codec, process.evaluations), rng)


def test_with_strength_zero_every_method_is_the_base_to_the_last_bit(root):
    """No adapter is even read: there is none at this place."""
    place, elsewhere = str(root / "style.png"), AdapterFiles("/no/adapter", "a.safetensors", "e")
    base = sample(run_of(make(root)), NoControl())
    for attention in (NoAttention(), IPAdapter(place, scale=0.0), AFA(place, strength=0.0)):
        off = sample(run_of(make(root, attention=attention, ip_adapter=elsewhere)), NoControl())
        assert torch.equal(off.x, base.x) and torch.equal(off.x0_hat, base.x0_hat)
    on = [sample(run_of(make(root, attention=method(place))), NoControl()).x0_hat for method in METHODS.values()]
    found = [base.x0_hat, *on]
    assert all((one - other).abs().max() > 1e-3 for k, one in enumerate(found) for other in found[:k])


def test_a_row_does_not_see_the_others(root, x_t):
    prior = make(root, "xl", AFA(str(root / "style.png")), guidance=Guidance(5.0, 0.7))
    t = torch.tensor(0.5, dtype=torch.float64)
    whole = prior.predict(x_t, t).x0_hat
    torch.testing.assert_close(whole[1:], prior.predict(x_t[1:], t).x0_hat, rtol=1e-4, atol=1e-4)


def test_it_goes_with_half_precision_slices_and_checkpoints(root, x_t):
    """Slices need processors that diffusers' loader could not make again: it runs before they are there."""
    t = torch.tensor(0.5, dtype=torch.float64)
    attention = IPAdapter(str(root / "style.png"))
    exact = make(root, attention=attention).predict(x_t, t).eps_hat
    sliced = make(root, attention=attention, memory=Memory(attention_slicing="max"))
    torch.testing.assert_close(sliced.predict(x_t, t).eps_hat, exact, rtol=1e-4, atol=1e-5)
    half = make(root, attention=attention, memory=Memory(precision="bfloat16"))
    assert {p.dtype for p in half.denoiser.network.parameters()} == {torch.bfloat16}
    gap = (half.predict(x_t, t).eps_hat - exact).norm() / exact.norm()
    assert 1e-5 < gap < 0.05
    with pytest.raises(RuntimeError, match=r"with prior.scope\(\)"), torch.enable_grad():
        half.predict(x_t.clone().requires_grad_(), t)


def broken(root, tmp_path, change):
    tensors = load_file(root / "base_sd" / "adapter.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "adapter.safetensors")
    return tmp_path / "adapter.safetensors"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.pop("ip_adapter.3.to_k_ip.weight"), r"1 missing \(3.to_k_ip.weight\)"),
        (lambda t: t.update({"ip_adapter.9.to_k_ip.weight": torch.zeros(1)}), r"1 unknown \(9.to_k_ip.weight\)"),
        (lambda t: t.update({"lora.weight": torch.zeros(1)}), r"1 unknown \(lora.weight\)"),
        (lambda t: t.update({"ip_adapter.1.to_v_ip.weight": torch.zeros(2, 2)}), r"1.to_v_ip.weight is \[2, 2\]"),
        (lambda t: t.pop("image_proj.norm.bias"), "does not fit an IP-Adapter.*norm.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_network_stays_as_it_was(change, word, root, tmp_path):
    network = text_models.unet()
    before = snapshot(network)
    with pytest.raises(ValueError, match=word):
        read_adapter(broken(root, tmp_path, change), network, 4)
    assert same(before, snapshot(network))


def test_other_layouts_and_missing_files_are_named(root, tmp_path):
    place = str(root / "style.png")
    broken(root, tmp_path, lambda t: t.update({"image_proj.proj.3.weight": t.pop("image_proj.proj.weight")}))
    with pytest.raises(ValueError, match="no IP-Adapter of the base or the Plus layout"):
        make(root, attention=IPAdapter(place), ip_adapter=AdapterFiles(str(tmp_path), "adapter.safetensors", "e"))
    with pytest.raises(ValueError, match=r"read from .safetensors, got prior.ip_adapter.weights=adapter.bin"):
        AdapterFiles(str(root), "adapter.bin", "e")
    with pytest.raises(FileNotFoundError, match="has no file no.safetensors: it is published at .*h94/IP-Adapter"):
        make(root, attention=AFA(place), ip_adapter=AdapterFiles(str(root / "base_sd"), "no.safetensors", "e"))
    with pytest.raises(ValueError, match=r"attention=AFA shows this network images.*prior.ip_adapter"):
        make(root, attention=AFA(place), ip_adapter=None)
    save_file({"style": torch.zeros(3)}, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match=r"attention.style=.* is an embedding \[3\], and the network takes \[20\]"):
        make(root, attention=IPAdapter(str(tmp_path / "short.safetensors")))
    with pytest.raises(ValueError, match=r"is an embedding \[3\], and the network takes states \[n, 8\]"):
        make(root, attention=IPAdapter(str(tmp_path / "short.safetensors")), kind="plus")
    prior = stable_diffusion(
        "/no/sd", attention=AFA("/no/style.png"), ip_adapter=AdapterFiles("/no/a", "a.safetensors", "e")
    )
    assert [file.place for file in prior.files()] == ["/no/sd", "/no/a", "/no/style.png"]


def test_weights_and_references_identify_the_rows(root):
    style, content = (IPAdapter(str(root / f"{name}.png")) for name in ("style", "content"))
    prints = [make(root, attention=a).fingerprint() for a in (None, style, content)]
    prints.append(make(root, attention=style, kind="plus").fingerprint())
    assert len(set(prints)) == 4 and make(root, attention=style).fingerprint() == prints[1]


def test_the_private_loader_of_diffusers_is_still_there():
    """rbctrl.priors.adapter reads weights by it: if this fails, pin diffusers to 0.42.1 or write that loader."""
    assert hasattr(diffusers.UNet2DConditionModel, "_load_ip_adapter_weights"), diffusers.__version__
    network = torch.nn.Module()
    with pytest.raises(RuntimeError, match="this diffusers does not have any more: install diffusers 0.42.1"):
        read_adapter("a.safetensors", network, 4)
