"""Prompts and reference images of each row, on priors of published models: a row is what it would be alone."""

from functools import partial

import pytest
import text_models
import torch
from worlds import tiny_prior

from rbctrl.attention import AFA, Concatenate, IPAdapter, NoAttention
from rbctrl.controllers import NoControl
from rbctrl.costs import ResidualNorm
from rbctrl.data import Item, Memory
from rbctrl.grids import Uniform
from rbctrl.noise import NoNoise
from rbctrl.offload import Budget, place
from rbctrl.operators import Identity
from rbctrl.pictures import save_picture
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.ip_adapter import AdapterFiles
from rbctrl.priors.stable_cascade import stable_cascade
from rbctrl.priors.stable_diffusion import stable_diffusion
from rbctrl.priors.text import save_embeddings
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.solver import Solver

PROMPTS, T = ("a cat", "dog"), torch.tensor(0.5, dtype=torch.float64)


def pictures(seed=0):
    drawn = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return ((drawn + 1) * 127.5).round() / 127.5 - 1  # 8 bits, as files have them


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = text_models.save_cascade(tmp_path_factory.mktemp("rows"))
    text_models.save_xl(root / "xl")
    encoder, unet = text_models.clip_vision(layers=3), text_models.xl_unet()
    text_models.save_adapter(root / "base", text_models.adapter_tensors(unet), encoder)
    text_models.save_adapter(root / "plus", text_models.plus_tensors(unet), encoder)
    for k, picture in enumerate(pictures()):
        save_picture(root / f"{k}.png", picture)
    save_picture(root / "content.png", pictures(5)[0])
    return root


def cascade(root, attention, **options):
    preview = str(root / "previewer.safetensors")
    return stable_cascade(str(root / "c"), preview=preview, attention=attention, guidance=Guidance(4.0), **options)


def xl(root, attention, adapter="base", **options):
    files = AdapterFiles(str(root / adapter), "adapter.safetensors", "image_encoder")
    options = {"negative_prompt": None, "guidance": Guidance(5.0)} | options
    return stable_diffusion(str(root / "xl"), family="xl", attention=attention, ip_adapter=files, **options)


def xl_plus(root, attention, **options):
    return xl(root, attention, "plus", **options)


CASES = {
    "cascade": (cascade, AFA),
    "xl": (xl, IPAdapter),
    "plus": (xl_plus, IPAdapter),
    "concat": (xl, Concatenate),
}


@pytest.mark.parametrize("case", CASES)
def test_a_row_is_what_it_would_be_alone(case, root):
    """Its own prompt and style, beside a content image that all have."""
    make, method = CASES[case]
    content = str(root / "content.png")
    shape = (16, 3, 3) if case == "cascade" else (4, 8, 8)
    x_t = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    prior = make(root, method("item", content))
    prior.load()
    bound = prior.bind(PROMPTS, {"style": pictures()})
    assert type(bound) is type(prior)
    both = bound.predict(x_t, T).eps_hat
    for k, prompt in enumerate(PROMPTS):
        alone = make(root, method(str(root / f"{k}.png"), content), prompt=prompt)
        alone.load()
        torch.testing.assert_close(both[k : k + 1], alone.predict(x_t[k : k + 1], T).eps_hat, rtol=1e-4, atol=1e-4)
        assert (both[k : k + 1] - alone.predict(x_t[1 - k : 2 - k], T).eps_hat).abs().max() > 1e-3


def test_a_row_lies_between_its_own_two_styles(root):
    """Of each item, or of one and a file; at both ends it is the run on one of them."""
    x_t, drawn = torch.randn(2, 16, 3, 3, generator=torch.Generator().manual_seed(0)), pictures()
    references = {"style": drawn, "style_2": drawn.flip(0)}

    def at(*weights, style=("item", "item"), given=references):
        prior = cascade(root, AFA(style, style_weights=weights))
        prior.load()
        return prior.bind(PROMPTS, given).predict(x_t, T).eps_hat

    between = at(0.7, 0.3)
    files = [str(root / "0.png"), str(root / "1.png")]
    for k, prompt in enumerate(PROMPTS):
        alone = cascade(root, AFA(files if k == 0 else files[::-1], style_weights=(0.7, 0.3)), prompt=prompt)
        alone.load()
        torch.testing.assert_close(between[k : k + 1], alone.predict(x_t[k : k + 1], T).eps_hat, rtol=1e-4, atol=1e-4)
    one = cascade(root, AFA("item"))
    one.load()
    for weights, style in (((1, 0), drawn), ((0, 1), drawn.flip(0))):
        assert torch.equal(at(*weights), one.bind(PROMPTS, {"style": style}).predict(x_t, T).eps_hat)
    mixed = at(0.7, 0.3, style=("item", files[1]), given={"style": drawn})
    torch.testing.assert_close(mixed[:1], between[:1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="the items of this data have no style_2 image"):
        at(0.7, 0.3, given={"style": drawn})


def test_stage_b_renders_each_row_under_its_prompt(root):
    latent = torch.randn(1, 16, 3, 3, generator=torch.Generator().manual_seed(1)).expand(2, -1, -1, -1)
    rows = (("one", 0), ("two", 0))
    prior = cascade(root, AFA("item"), decoder=str(root / "b"))
    prior.load()
    bound = prior.bind(PROMPTS, {"style": pictures()})
    both = bound.codec.render(latent, ImageRNG(0, rows))
    for k, prompt in enumerate(PROMPTS):
        alone = cascade(root, NoAttention(), decoder=str(root / "b"), prompt=prompt)
        alone.load()
        torch.testing.assert_close(
            both[k : k + 1], alone.codec.render(latent[:1], ImageRNG(0, rows[k : k + 1])), rtol=1e-4, atol=1e-4
        )
        assert (both[k : k + 1] - alone.codec.render(latent[:1], ImageRNG(0, rows[1 - k : 2 - k]))).abs().max() > 1e-3


def solver(prior):
    sampler = partial(ddim, n_steps=2, grid=Uniform())
    cost, device = ResidualNorm(), torch.device("cpu")
    return Solver(prior, Identity(), NoNoise(), cost, sampler, NoControl(), device, torch.float32)


def solved(prior, *batches):
    ready = solver(prior)
    ready.load()
    return [ready.solve(batch, 0).image for batch in batches]


def batch(name, prompt):
    (made,) = Memory([Item(name, torch.zeros(3, 128, 128), prompt=prompt)]).batches(1, 1)
    return made


def test_batches_with_and_without_prompts_are_rendered_under_their_own(root):
    """In any order; a batch without prompts is the prior's own prompt again, in stages C and B."""

    def prior():
        return cascade(root, NoAttention(), decoder=str(root / "b"), prompt="own")

    rows = [batch("one", "a cat"), batch("two", None), batch("one", "dog"), batch("two", None)]
    together = solved(prior(), *rows)
    for image, row in zip(together, rows):
        torch.testing.assert_close(image, solved(prior(), row)[0], rtol=0, atol=0)
    assert (together[0] - together[2]).abs().max() > 1e-3  # the prompt matters


def test_stage_b_refuses_rows_that_are_not_those_of_its_prompts(root):
    prior = cascade(root, NoAttention(), decoder=str(root / "b"))
    prior.load()
    bound = prior.bind(PROMPTS, {})
    with pytest.raises(ValueError, match="2 rows have a prompt each, and 1 rows were asked for"):
        bound.codec.render(torch.zeros(1, 16, 3, 3), ImageRNG(0, (("one", 0),)))


def test_items_that_a_prior_cannot_take_are_refused_before_weights_are_read(root):
    image = torch.zeros(3, 128, 128)

    def check(prior, **item):
        solver(prior).check_item(Item("a", image, **item), 0)

    waiting = cascade(root, AFA("item"))
    with pytest.raises(ValueError, match="needs data whose items bring one, and a prompt"):
        check(waiting)
    with pytest.raises(ValueError, match="attention.style=item, but the items of this data have no style image"):
        check(waiting, prompt="a cat")
    with pytest.raises(ValueError, match="NetworkPrior takes none of them"):
        check(tiny_prior(), prompt="a cat")
    check(waiting, prompt="a cat", references={"style": image})
    check(cascade(root, AFA(str(root / "0.png"))))
    assert waiting.denoiser.network is None


def test_text_alone_may_differ_from_row_to_row(root):
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prior = xl(root, NoAttention())
    prior.load()
    both = prior.bind(PROMPTS, {}).predict(x_t, T).eps_hat
    for k, prompt in enumerate(PROMPTS):
        alone = xl(root, NoAttention(), prompt=prompt)
        alone.load()
        torch.testing.assert_close(both[k : k + 1], alone.predict(x_t[k : k + 1], T).eps_hat, rtol=1e-4, atol=1e-4)


def test_what_rows_lack_is_said(root, tmp_path):
    prior = cascade(root, AFA("item"))
    prior.load()
    with pytest.raises(ValueError, match="attention.style=item, but the items of this data have no style image"):
        prior.bind(PROMPTS, {})
    pair = xl(root, NoAttention())
    pair.load()
    save_embeddings(tmp_path / "cat.safetensors", pair.prompt, pair.negative)
    fixed = xl(root, NoAttention(), negative_prompt="", embeddings=str(tmp_path / "cat.safetensors"))
    fixed.load()
    with pytest.raises(ValueError, match="have a prompt each: prior.embeddings=null"):
        fixed.bind(PROMPTS, {})


def test_a_model_is_what_its_prior_says_where_no_prompt_is_embedded_yet(root, tmp_path):
    other = text_models.save_cascade(tmp_path / "other", s=0.01)
    with pytest.raises(ValueError, match="s=0.01; Stable Cascade's is"):
        cascade(other, AFA("item")).load()
    save = text_models.save_xl(tmp_path / "xl") / "scheduler" / "scheduler_config.json"
    save.write_text(save.read_text().replace("0.012", "0.02"))
    files = AdapterFiles(str(root / "base"), "adapter.safetensors", "image_encoder")
    with pytest.raises(ValueError, match="0.02"):
        stable_diffusion(str(tmp_path / "xl"), family="xl", attention=IPAdapter("item"), ip_adapter=files).load()


def test_rows_are_bound_while_parts_take_turns(root):
    prior = cascade(root, AFA("item"), decoder=str(root / "b"))
    prior.load()
    prior.budget = Budget(1.2 * max(part.gib for part in prior.parts()), 0.0)
    place(prior, (), torch.device("cuda:0"), lambda *_: None)
    prior.residency.need("stage B")
    prior.bind(PROMPTS, {"style": pictures()})
    assert prior.residency.present == "sampling"
