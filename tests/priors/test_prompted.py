"""Prompted priors on a network that counts its calls."""

import pytest
import torch
from torch import nn

from rbctrl.grids import Uniform
from rbctrl.priors.base import TextPrior
from rbctrl.priors.embedding import Embedding
from rbctrl.priors.guidance import Guidance
from rbctrl.priors.network import NetworkPrior
from rbctrl.priors.prompted import PromptedPrior
from rbctrl.process import ddim
from rbctrl.schedules import VE, VP, DiscreteVP, RectifiedFlow

T = torch.tensor(0.4, dtype=torch.float64)
CAT, DOG = Embedding(torch.ones(2, 3), torch.tensor([0.5])), Embedding(torch.zeros(2, 3), torch.tensor([2.0]))


class Listener(nn.Module):
    """Smooth in all it is told; remembers how many rows each call had."""

    def __init__(self):
        super().__init__()
        self.rows, self.gain = [], nn.Parameter(torch.tensor(0.7))

    def forward(self, x, time, tokens, pooled):
        self.rows.append(len(x))
        told = tokens.square().mean((1, 2)) + 0.3 * pooled[:, 0]
        return torch.tanh(self.gain * x + told[:, None, None, None])


def make(guidance=None, prompts=(CAT, DOG), **kwargs):
    network = Listener()
    settings = {"parameterization": "v", "time_input": "t", "network_schedule": VP(), "value_range": (-1, 1)}
    prior = PromptedPrior(NetworkPrior(network, **(settings | kwargs)), lambda: prompts, guidance)
    prior.load()
    return prior, network.rows


@pytest.fixture
def x_t():
    return torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("guidance", "prompts", "rows"),
    [
        (Guidance(1.0), (CAT, DOG), [3]),
        (Guidance(0.0), (CAT, DOG), [3]),
        (Guidance(7.5), (CAT, CAT), [3]),
        (Guidance(7.5), (CAT, Embedding(CAT.tokens.clone(), CAT.pooled.clone())), [3]),
        (Guidance(7.5), (CAT, Embedding(CAT.tokens, DOG.pooled)), [6]),
        (Guidance(7.5), (CAT, DOG), [6]),
        (Guidance(7.5, branches="separate"), (CAT, DOG), [3, 3]),
    ],
)
def test_two_identical_branches_are_evaluated_once(guidance, prompts, rows, x_t):
    """PSLD's released code runs both at scale 7.5 with an empty prompt in each: the same numbers at twice the cost."""
    prior, seen = make(guidance, prompts)
    est = prior.predict(x_t, T)
    assert seen == rows and prior.evaluations == sum(rows) // 3
    both = [prior.denoiser.predict(x_t, T, *embedding.rows(3)).x0_hat for embedding in prompts]
    torch.testing.assert_close(est.x0_hat, both[1] + guidance.scale * (both[0] - both[1]))


@pytest.mark.parametrize("schedule", [None, VE(), RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("parameterization", ["eps", "v", "flow", "x0"])
def test_guidance_of_an_output_is_guidance_of_both_estimates(parameterization, schedule, x_t):
    prior, _ = make(Guidance(4.0), parameterization=parameterization, schedule=schedule)
    est = prior.predict(x_t, T)
    cat, dog = (prior.denoiser.predict(x_t, T, *embedding.rows(3)) for embedding in (CAT, DOG))
    for name in ("x0_hat", "eps_hat"):
        wanted, unwanted = getattr(cat, name), getattr(dog, name)
        torch.testing.assert_close(getattr(est, name), unwanted + 4.0 * (wanted - unwanted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_pure_noise_is_no_special_case(rescale, x_t):
    """At alpha = 0 a network of v gives x0_hat = -v, and eps_hat is x_t: guided, too."""
    prior, _ = make(Guidance(4.0, rescale), network_schedule=DiscreteVP.zero_snr(DiscreteVP.linear()))
    end = torch.tensor(1.0, dtype=torch.float64)
    est = prior.predict(x_t, end)
    cat, dog = (prior.denoiser.output(x_t, end, *embedding.rows(3)) for embedding in (CAT, DOG))
    v = dog + 4.0 * (cat - dog)
    factor = cat.flatten(1).std(1) / v.flatten(1).std(1)
    v = v * (rescale * factor + 1 - rescale).view(3, 1, 1, 1)
    torch.testing.assert_close(est.x0_hat, -v)
    torch.testing.assert_close(est.eps_hat, x_t)


def test_rescaling_acts_on_the_output_and_on_each_image(x_t):
    prior, _ = make(Guidance(4.0, 1.0))
    whole = prior.predict(x_t, T).x0_hat
    alone = torch.cat([prior.predict(x_t[k : k + 1], T).x0_hat for k in range(3)])
    torch.testing.assert_close(whole, alone)
    assert not torch.allclose(whole, make(Guidance(4.0))[0].predict(x_t, T).x0_hat, rtol=1e-2)


def test_a_prompt_can_be_tuned(x_t):
    prior, seen = make(Guidance(7.5))
    assert isinstance(prior, TextPrior) and torch.equal(prior.prompt_embedding(), CAT.tokens)
    with torch.enable_grad():
        prompt = prior.prompt_embedding().repeat(3, 1, 1).requires_grad_()
        est = prior.predict_prompted(x_t, T, prompt)
        (gradient,) = torch.autograd.grad(est.x0_hat[1].sum(), prompt)
    unguided = prior.denoiser.predict(x_t, T, *CAT.rows(3))
    assert torch.equal(est.x0_hat, unguided.x0_hat) and seen == [3, 3]
    assert gradient[1].abs().min() > 0 and not gradient[[0, 2]].any()


@pytest.mark.parametrize(("guidance", "count"), [(Guidance(1.0), 1), (Guidance(7.5), 2)])
def test_both_branches_are_counted(guidance, count, x_t):
    prior, _ = make(guidance)
    process = ddim(prior, (1, 4, 4), 4, Uniform())
    with torch.enable_grad():
        x = x_t.clone().requires_grad_()
        torch.autograd.grad(process.estimate(x, 1).x0_hat.sum(), x)
        prompt = prior.prompt_embedding().repeat(3, 1, 1).requires_grad_()
        torch.autograd.grad(process.estimate_prompted(x_t, 1, prompt).x0_hat.sum(), prompt)
    assert (process.evaluations.nfe, process.evaluations.vjp) == (count + 1, count + 1)


def says(words):
    """Prompts of rows; the negative prompt is that of DOG."""
    said = [{"cat": CAT, "dog": DOG}[word] for word in words]
    return tuple(
        Embedding(torch.stack([e.tokens for e in each]), torch.stack([e.pooled for e in each]))
        for each in (said, [DOG] * len(said))
    )


def test_what_a_row_costs_does_not_depend_on_its_batch(x_t, monkeypatch):
    """A prompt that is the negative one, too, alone and beside another: both branches, and the same numbers."""
    network = Listener()
    settings = {"parameterization": "v", "time_input": "t", "network_schedule": VP(), "value_range": (-1, 1)}
    rows = PromptedPrior(
        NetworkPrior(network, **settings), lambda: (DOG, DOG), Guidance(7.5), embed_rows=lambda words, _: says(words)
    )
    rows.load()

    def run(words, images):
        process = ddim(rows.bind(words, {}), (1, 4, 4), 4, Uniform())
        return process.estimate(images, 1).x0_hat, process.evaluations.nfe

    together, spent = run(("dog", "cat", "dog"), x_t)
    for k, word in enumerate(("dog", "cat", "dog")):
        alone, nfe = run((word,), x_t[k : k + 1])
        torch.testing.assert_close(alone, together[k : k + 1])
        assert nfe == spent == 2
    assert not torch.allclose(run(("cat",), x_t[:1])[0], together[:1], rtol=1e-2)
    assert rows.evaluations == 1  # one prompt for all is another matter
    monkeypatch.setattr(Embedding, "same", lambda mine, theirs: torch.equal(mine.tokens, theirs.tokens))
    assert [run(words, x_t[:2])[1] for words in (("dog", "cat"), ("dog", "dog"))] == [2, 1]  # what looks at the batch


def test_prompts_are_embedded_before_the_network_is_read():
    order = []
    denoiser = NetworkPrior(
        lambda: order.append("network") or Listener(),
        parameterization="v",
        time_input="t",
        network_schedule=VP(),
        value_range=(-1, 1),
    )
    prior = PromptedPrior(denoiser, lambda: order.append("text") or (CAT, DOG))
    with pytest.raises(RuntimeError, match="load"):
        prior.predict(torch.zeros(1, 1, 4, 4), T)
    prior.load()
    prior.load()
    assert order == ["text", "network"]


def test_prompts_move_with_the_prior():
    prior, _ = make()
    moved = prior.to("meta")
    assert moved.prompt_embedding().device.type == "meta" and moved.prompt.pooled.device.type == "meta"
