"""RB-Modulation on Stable Cascade, its released loop written out; attention and control are two independent axes."""

from dataclasses import dataclass, replace

import pytest
import text_models
import torch
from safetensors.torch import save_file

from rbctrl.attention import AFA, Concatenate, NoAttention
from rbctrl.controllers import NoControl, RBModulation, Window
from rbctrl.controllers.base import Controller, Run
from rbctrl.costs import Cosine as CosineCost
from rbctrl.data.base import Item
from rbctrl.grids import Uniform
from rbctrl.noise import NoNoise
from rbctrl.observation import Objective, observe
from rbctrl.operators.base import Operator
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.memory import Memory
from rbctrl.priors.stable_cascade import stable_cascade
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.schedules import Cosine

SHAPE, STEPS = (16, 3, 3), 4


class Style(Operator):
    """A unit vector of an image: means and mean products of its channels, as a Gram matrix has them."""

    def forward(self, image):
        flat = image.flatten(2)
        features = torch.cat([flat.mean(2), (flat @ flat.mT / flat.shape[2]).flatten(1)], dim=1)
        return features / features.norm(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = text_models.save_cascade(tmp_path_factory.mktemp("cascade"))
    for seed, name in enumerate(("style", "content")):
        embedding = torch.randn(text_models.IMAGE_WIDTH, generator=torch.Generator().manual_seed(seed))
        save_file({name: embedding}, root / f"{name}.safetensors")
    return root


def make(folder, attention=None, **options):
    settings = {"prompt": "a cat", "guidance": Guidance(4.0, 0.7), "schedule": Cosine(shift=2.0, alpha_bar_max=0.9999)}
    preview = str(folder / "previewer.safetensors")
    prior = stable_cascade(str(folder / "c"), preview=preview, attention=attention, **(settings | options))
    prior.load()
    return prior


def afa(folder, **options):
    return AFA(str(folder / "style.safetensors"), **options)


def make_run(prior, n=2, eta=1.0):
    rng = ImageRNG(0, tuple((f"image{k}", 0) for k in range(n)), torch.float64)
    obs = observe(Style(), NoNoise(), rng.uniform("reference", (3, 24, 24)) * 2 - 1, rng)
    process = ddim(prior, SHAPE, STEPS, Uniform(), eta=eta)
    return Run(process, Objective(CosineCost(), obs, prior.codec, process.evaluations), rng)


def released_loop(run, prior, one, eta, lr, tau, weight):
    """Specification 2.3 for the row `one`: what the released code does, but for the deviations, which are per image."""
    process, cost = run.process, Style()
    own, network = run.take(torch.tensor([one])), prior.denoiser.network.model
    rng, target = own.rng, own.obs.y
    x = process.sigma[0] * rng.normal("init", SHAPE)
    log_snr = prior.schedule.log_snr(process.times)
    r = Cosine(alpha_bar_max=0.9999).time(log_snr).float()
    texts, pooled, images = (
        torch.stack([getattr(prompt, name) for prompt in (prior.prompt, prior.negative)])
        for name in ("tokens", "pooled", "images")
    )
    for i in range(STEPS):
        a, b, a_next, b_next = process.alpha[i], process.sigma[i], process.alpha[i + 1], process.sigma[i + 1]
        with torch.no_grad():
            both = network(torch.cat([x, x]).float(), r[i].expand(2), pooled[:, None], texts, images).sample
        eps_c, eps_u = both.double().chunk(2)
        g = eps_u + 4.0 * (eps_c - eps_u)
        eps = 0.7 * g * eps_c.std() / g.std() + 0.3 * g
        x0_hat = (x - b * eps) / a
        z = x0_hat.clone().requires_grad_()
        if i < tau:
            optimizer = torch.optim.Adam([z], lr=lr * (1 - i / STEPS))
            for _ in range(3):
                features = cost(prior.codec.decode(z))
                loss = (1 - torch.nn.functional.cosine_similarity(features, target)).abs().mean()
                loss = loss + weight * torch.nn.functional.mse_loss(z, x0_hat)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        z = z.detach()
        s = eta * b_next / b * (1 - (a / a_next) ** 2) ** 0.5
        x = a_next * z + (b_next**2 - s**2) ** 0.5 * eps + s * rng.normal(f"step/{i}", SHAPE)
    return z, x


@pytest.mark.parametrize(("eta", "tau", "weight"), [(1.0, STEPS, 0.0), (0.0, 2, 1.0)])
def test_the_controlled_update_is_that_of_the_released_code(eta, tau, weight, folder):
    """DDPM without proximal term, its defaults; DDIM with one and a window, its demo."""
    prior = make(folder, afa(folder))
    run = make_run(prior, eta=eta)
    controller = RBModulation(3, 0.1, weight)
    if tau < STEPS:
        controller = Window(controller, end=tau / STEPS)
    ours = sample(run, controller)
    with prior.scope():
        for row in range(2):
            z, x = released_loop(run, prior, row, eta, 0.1, tau, weight)
            torch.testing.assert_close(ours.x0_hat[row : row + 1], z, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(ours.x[row : row + 1], x, rtol=1e-6, atol=1e-6)
        other, _ = released_loop(run, prior, 0, eta, 0.11, tau, weight)
    assert (ours.x0_hat[:1] - other).abs().max() > 1e-3


def test_the_papers_rule_is_its_algorithm_in_the_units_of_the_released_code(folder):
    """Squared distance of unit vectors is twice 1 - cos, and its lambda multiplies a sum where ours does a mean."""
    prior, eta, weight = make(folder), 1e6, 1e-9  # this network's gradients are tiny
    run = make_run(prior)
    x_t = run.process.init(run.rng)
    count = x_t[0].numel()
    step, _ = RBModulation(3, 2 * eta, weight * count / 2, rule="paper")(run, x_t, 2, {})
    z = x0_hat = run.process.estimate(x_t, 2).x0_hat.detach()
    for _ in range(3):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            distance = (Style()(prior.codec.decode(z)) - run.obs.y).square().sum()
            (gradient,) = torch.autograd.grad(distance + weight * (z - x0_hat).square().sum(), z)
        z = z - eta * gradient
    torch.testing.assert_close(step.est.x0_hat, z.detach(), rtol=0, atol=1e-6)
    assert (z - x0_hat).abs().max() > 1e-3


def outcomes(folder):
    """Every attention under every control."""
    style, content = (str(folder / f"{name}.safetensors") for name in ("style", "content"))
    attentions = {
        "none": NoAttention(),
        "concat": Concatenate(style),
        "afa": AFA(style),
        "compose": AFA(style, content),
        "paper": AFA(style, rule="paper"),
    }
    controllers = {"none": NoControl(), "rbm": RBModulation()}
    return {
        (a, c): sample(make_run(make(folder, attention), 1), controller).x0_hat
        for a, attention in attentions.items()
        for c, controller in controllers.items()
    }


def test_attention_and_control_are_two_axes(folder):
    found = list(outcomes(folder).values())
    pairs = [(one, other) for k, one in enumerate(found) for other in found[:k]]
    assert all((one - other).abs().max() > 1e-4 for one, other in pairs)


def test_with_strength_zero_it_is_the_base_to_the_last_bit(folder):
    base = sample(make_run(make(folder)), NoControl())
    off = sample(make_run(make(folder, afa(folder, strength=0.0))), NoControl())
    assert torch.equal(base.x, off.x) and torch.equal(base.x0_hat, off.x0_hat)
    on = sample(make_run(make(folder, afa(folder))), NoControl())
    assert not torch.allclose(base.x0_hat, on.x0_hat, atol=1e-2)


def test_a_row_does_not_see_the_others(folder):
    prior = make(folder, afa(folder))
    whole = sample(make_run(prior), RBModulation()).x0_hat
    run = make_run(prior)
    for row in range(2):
        alone = sample(run.take(torch.tensor([row])), RBModulation()).x0_hat
        torch.testing.assert_close(whole[row : row + 1], alone, rtol=1e-4, atol=1e-3)  # x0_hat is up to 100 eps_hat


@dataclass(frozen=True)
class Failing(Controller):
    def __call__(self, run, x_t, i, state):
        run.process.estimate(x_t, i)
        if i == 1:
            raise KeyError("in the middle of a run")
        return RBModulation()(run, x_t, i, state)


@pytest.mark.parametrize("controller", [RBModulation(), Failing()])
def test_the_network_is_as_before_after_a_run_and_after_an_exception(controller, folder):
    prior = make(folder, afa(folder))
    network = prior.denoiser.network.model

    def snapshot():
        modules = {name: getattr(module, "processor", None) for name, module in network.named_modules()}
        return modules, {name: (id(value), value.clone()) for name, value in network.named_parameters()}

    before, seen = snapshot(), []
    try:
        sample(make_run(prior), controller, lambda *_: seen.append(snapshot()[0]))
    except KeyError:
        assert isinstance(controller, Failing)
    after = snapshot()
    assert before[0] == after[0] != seen[0]
    assert all(
        one[0] == two[0] and torch.equal(one[1], two[1]) for one, two in zip(before[1].values(), after[1].values())
    )


def gradient(prior, x_t, scope):
    t = torch.tensor(0.5, dtype=torch.float64)
    with torch.enable_grad(), scope:
        x = x_t.clone().requires_grad_()
        return torch.autograd.grad(prior.codec.decode(prior.predict(x, t).x0_hat).sum(), x)[0]


def test_gradients_run_through_the_method_also_where_blocks_are_recomputed(folder):
    """A block that is recomputed outside the scope would run without the method, so that is refused."""
    x_t = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    plain, checkpointed = (make(folder, afa(folder), memory=Memory(checkpoint=c)) for c in (False, True))
    exact = gradient(plain, x_t, plain.scope())
    torch.testing.assert_close(gradient(checkpointed, x_t, checkpointed.scope()), exact, rtol=1e-4, atol=1e-6)
    other = make(folder)
    assert not torch.allclose(gradient(other, x_t, other.scope()), exact, rtol=1e-2)
    with pytest.raises(RuntimeError, match=r"with prior.scope\(\)"):
        gradient(checkpointed, x_t, torch.enable_grad())


def test_an_attention_without_a_network_that_takes_it_is_refused():
    from hydra.utils import instantiate

    from rbctrl.commands.run import compose

    with pytest.raises(
        Exception, match="AFA has nothing to act on: .* use prior=cascade, sdxl, sd15 or shapes, or attention=none"
    ):
        instantiate(compose(["attention=afa", "attention.style=style.png"]), _convert_="all")
    cfg = compose(
        ["prior=cascade", "attention=afa", "attention.style=style.png", "data.size=128", "controller=rb_modulation"]
    )
    experiment = instantiate(cfg, _convert_="all")
    assert experiment.prior.attention == AFA("style.png", where=("*",)) and experiment.prior.schedule.shift == 2.0
    item = Item("image", torch.zeros(3, 128, 128))
    with pytest.raises(
        ValueError, match=r"see previews \[3, 24, 24\] of images \[3, 128, 128\], which Downsample does not"
    ):
        experiment.solver.check_item(item, 0)
    for solver in (replace(experiment.solver, controller=NoControl()), replace(experiment.solver, operator=Style())):
        solver.check_item(item, 0)
