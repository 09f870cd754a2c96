"""prior=shapes: words and reference images of each row, AFA on them, and rows that do not depend on the batch."""

import pytest
import torch
from safetensors.torch import save_file

from rbctrl.attention import AFA, Concatenate, NoAttention
from rbctrl.controllers import NoControl, RBModulation
from rbctrl.costs import Cosine
from rbctrl.data.base import Item
from rbctrl.data.shapes import Compositions, References
from rbctrl.data.sources import Memory
from rbctrl.descriptors.shapes import Shapes
from rbctrl.grids import Uniform
from rbctrl.noise import NoNoise
from rbctrl.operators import Style
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.photographs import photo
from rbctrl.priors.shapes import shapes
from rbctrl.process import ddim
from rbctrl.shapes.networks import ShapesDenoiser, ShapesDescriptor
from rbctrl.solver import Solver


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    torch.random.default_generator.manual_seed(0)
    paths, g = {}, torch.Generator().manual_seed(1)
    for name, network in (
        ("weights", ShapesDenoiser((32, 32), 1, 16)),
        ("descriptor_weights", ShapesDescriptor(8, 64)),
    ):
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=g)
        state = {key: w.contiguous() for key, w in network.state_dict().items()}
        save_file(state, folder / f"{name}.safetensors", {key: repr(value) for key, value in network.config.items()})
        paths[name] = str(folder / f"{name}.safetensors")
    return paths


def solver(weights, attention=None, controller=None, scale=3.0):
    prior = shapes(**weights, attention=attention, guidance=Guidance(scale))
    operator = Style(Shapes(weights=weights["descriptor_weights"]))

    def sampler(prior, shape):
        return ddim(prior, shape=shape, grid=Uniform(), n_steps=3)

    made = Solver(
        prior, operator, NoNoise(), Cosine(), sampler, controller or NoControl(), torch.device("cpu"), torch.float32
    )
    made.check()
    made.load()
    return made


def run(made, data, batch_size=8):
    return torch.cat([made.solve(batch, 0).image for batch in data.batches(batch_size, 1)])


@pytest.mark.parametrize("attention", [NoAttention(), Concatenate("item"), AFA("item")])
@pytest.mark.parametrize("controller", [NoControl(), RBModulation()])
def test_a_row_does_not_depend_on_the_batch(weights, attention, controller):
    made, data = solver(weights, attention, controller), References(3, 32)
    together, alone = run(made, data), run(made, data, batch_size=1)
    assert (together - alone).abs().max() < 1e-4
    assert (together[0] - together[1]).abs().max() > 0.05


def test_prompt_and_reference_of_each_item_count(weights):
    first, second = References(2, 32).items()
    base, swapped = (
        Memory([Item("a", first.image, prompt=p.prompt, references=r.references)])
        for p, r in ((first, first), (second, first))
    )
    other = Memory([Item("a", first.image, prompt=first.prompt, references=second.references)])
    plain, concat = solver(weights), solver(weights, Concatenate("item"))
    assert (run(plain, base) - run(plain, swapped)).abs().max() > 1e-3
    assert torch.equal(run(plain, base), run(plain, other))
    assert (run(concat, base) - run(concat, other)).abs().max() > 1e-3


def test_at_strength_zero_afa_is_the_base_exactly(weights):
    data = References(2, 32)
    base = run(solver(weights), data)
    assert torch.equal(run(solver(weights, AFA("item", strength=0.0)), data), base)
    assert (run(solver(weights, AFA("item")), data) - base).abs().max() > 1e-3


def test_processors_and_parameters_are_restored_after_a_run_and_an_exception(weights, monkeypatch):
    made, data = solver(weights, AFA("item"), RBModulation()), References(1, 32)
    network = made.prior.denoiser.network
    before = {name: type(p) for name, p in network.model.attn_processors.items()}
    values = [p.clone() for p in network.parameters()]
    run(made, data)
    assert {name: type(p) for name, p in network.model.attn_processors.items()} == before
    monkeypatch.setattr(made.operator.descriptor, "encode", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(made, data)
    assert {name: type(p) for name, p in network.model.attn_processors.items()} == before
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), values))


def test_content_and_style_of_each_item_are_attended_to(weights):
    made = solver(weights, AFA("item", content="item"))
    assert run(made, Compositions(2, 32)).isfinite().all()
    with pytest.raises(ValueError, match="no content image"):
        run(made, References(1, 32))


def test_what_cannot_work_is_refused_in_a_sentence(weights, tmp_path):
    with pytest.raises(ValueError, match="'cat'"):
        shapes(prompt="a cat")
    plain = Memory([Item("a", torch.zeros(3, 32, 32))])
    with pytest.raises(ValueError, match="whose items bring one"):
        run(solver(weights, AFA("item")), plain)
    with pytest.raises(FileNotFoundError, match="no picture"):
        solver(weights, AFA(str(tmp_path / "none.png")))
    prior = photo()
    with pytest.raises(ValueError, match="prior=shapes"):
        prior.bind(("two stars",), {})


def test_a_style_picture_of_all_images_is_that_of_each_item(weights, tmp_path):
    from rbctrl.pictures import save_picture

    item = next(iter(References(1, 64).items()))
    pixels = ((item.image + 1) * 127.5).round() / 127.5 - 1
    save_picture(tmp_path / "style.png", pixels)
    one = Memory([Item("a", pixels, prompt=item.prompt, references={"style": pixels})])
    of_item, of_file = (run(solver(weights, AFA(place)), one) for place in ("item", str(tmp_path / "style.png")))
    assert (of_item - of_file).abs().max() < 1e-4


def test_weights_that_a_cell_depends_on_are_part_of_its_key(weights):
    def key(attention, **other):
        return shapes(**(weights | other), attention=attention).fingerprint()

    shipped = {"descriptor_weights": None}
    assert key(AFA("item")) != key(AFA("item"), **shipped)
    assert (
        key(NoAttention()) == key(NoAttention(), **shipped) != key(NoAttention(), weights=weights["descriptor_weights"])
    )
