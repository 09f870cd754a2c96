"""torch.compile of a prior's network: asked for by name, made once, and the same function."""

import shutil

import pytest
import torch
from torch import nn

from rbctrl.cli import main
from rbctrl.codecs.first_stage import FirstStageLayout
from rbctrl.commands.errors import explain
from rbctrl.networks import ConvUNet
from rbctrl.priors import NetworkPrior, photo, photo_latent
from rbctrl.priors.compiled import compiled, uncompiled
from rbctrl.priors.ddpm import ddpm
from rbctrl.priors.deepinv import deepinv_denoiser
from rbctrl.priors.ldm import ldm
from rbctrl.priors.memory import Memory
from rbctrl.priors.own import class_conditional, edm
from rbctrl.priors.shapes import shapes
from rbctrl.priors.unet_layout import UNetLayout
from rbctrl.schedules import VE, VP, DiscreteVP

CONVENTIONS = {
    "parameterization": "x0",
    "time_input": "sigma",
    "network_schedule": VE(),
    "value_range": (-1.0, 1.0),
}
TABLE = DiscreteVP.linear()
LAYOUT = UNetLayout(32, (1, 2), 1, (1,), head_channels=8)
FIRST_STAGE = FirstStageLayout(8, (1, 2), 1, 3, 4)
PRIORS = {
    "NetworkPrior": lambda **o: NetworkPrior(nn.Linear(1, 1), **CONVENTIONS, **o),
    "photo": photo,
    "photo_latent": photo_latent,
    "shapes": lambda **o: shapes(**o).denoiser,
    "ddpm": lambda **o: ddpm("folder", TABLE, **o),
    "ldm": lambda **o: ldm("model.ckpt", LAYOUT, FIRST_STAGE, TABLE, **o),
    "deepinv": lambda **o: deepinv_denoiser(lambda: nn.Linear(1, 1), 0.2, **o),
    "edm": lambda **o: edm(nn.Identity, "net.safetensors", preconditioning="included", **o),
    "class_conditional": lambda **o: class_conditional(
        nn.Identity, "net.safetensors", label=None, classes=None, **CONVENTIONS, **o
    ),
}
LEVEL = torch.tensor(0.5, dtype=torch.float64)


@pytest.fixture
def made(monkeypatch):
    """The networks that were compiled, in place of compiling them."""
    networks = []
    monkeypatch.setattr(nn.Module, "compile", lambda network, **_: networks.append(network))
    return networks


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_with_a_network_takes_the_option_and_leaves_it_off(name, made):
    assert PRIORS[name](compile=True).is_compiled and not PRIORS[name]().is_compiled


def test_the_network_is_compiled_when_it_is_there_and_once(made):
    network = nn.Linear(1, 1)
    NetworkPrior(network, **CONVENTIONS, compile=True).load()
    assert made == [network]
    late = NetworkPrior(lambda: nn.Linear(1, 1), **CONVENTIONS, compile=True)
    assert len(made) == 1
    late.load()
    late.load()
    assert made == [network, late.network]


def test_a_sweep_compiles_once(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    words = "data=leaves data.n=1 data.size=16 sampler.n_steps=2 metrics=restoration controller=none".split()
    assert main(["-m", *words, "prior.compile=true", "seed=0,1"]) == 0
    assert len(made) == 1
    assert main(["-m", *words, "seed=0"]) == 0  # rows of another cell
    assert len(made) == 1 and len(list((tmp_path / "outputs" / "default").glob("*-0/rows.csv"))) == 2


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at it
def test_a_traced_network_is_the_same_function_of_images_with_the_same_gradient(monkeypatch):
    """Backend eager: what dynamo makes of the network, run by torch's own operators."""
    compile_ = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda network, **o: compile_(network, backend="eager", **o))
    plain, traced = pair()
    for x in (image(1), image(2)):
        assert torch.equal(*(prior.predict(x, LEVEL).x0_hat for prior in (plain, traced)))
        assert torch.equal(*(slope(prior, x) for prior in (plain, traced)))
    assert traced.network._compiled_call_impl is not None and plain.network._compiled_call_impl is None
    assert list(traced.state_dict()) == list(plain.state_dict())


@pytest.mark.slow  # compiles for half a minute
@pytest.mark.filterwarnings("ignore")  # torch's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_rows_do_not_depend_on_the_shapes_seen_before():
    plain, fast = pair()
    alone = fast.predict(image(2), LEVEL).x0_hat
    torch.testing.assert_close(alone, plain.predict(image(2), LEVEL).x0_hat, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slope(fast, image(2)), slope(plain, image(2)), rtol=1e-3, atol=1e-4)
    torch.compiler.reset()
    fast.predict(image(1), LEVEL)
    assert torch.equal(fast.predict(image(2), LEVEL).x0_hat, alone)


def pair():
    """A prior with a small network, and the same one compiled."""
    generator = torch.Generator().manual_seed(0)
    net = ConvUNet((8,), blocks=1, embedding=16)
    for weight in net.parameters():
        weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    twin = ConvUNet((8,), blocks=1, embedding=16)
    twin.load_state_dict(net.state_dict())
    return (NetworkPrior(n, **CONVENTIONS, schedule=VP(), compile=on) for n, on in ((net, False), (twin, True)))


def image(n):
    return torch.linspace(-1, 1, n * 3 * 64).view(n, 3, 8, 8)


def slope(prior, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(prior.predict(x, LEVEL).x0_hat.square().sum(), x)[0]


def test_a_missing_compiler_is_named_in_a_sentence():
    from torch._inductor.exc import InvalidCxxCompiler

    assert "found no C++ compiler: install g++, name one in CXX" in explain(InvalidCxxCompiler())
    assert explain(RuntimeError("another")) is None


def test_compiled_returns_the_module_itself(made):
    network = nn.Linear(1, 1)
    assert compiled(network) is network and made == [network]


def test_what_is_neither_true_nor_false_is_refused():
    with pytest.raises(ValueError, match="compile .*got 'maybe'"):
        photo(compile="maybe")
    with pytest.raises(ValueError, match="memory.compile is true or false, got 'maybe'"):
        Memory(compile="maybe")


def test_a_plan_times_the_network_without_compiling_it(monkeypatch, tmp_path, capsys):
    """The compiler would be asked at the first call; here it fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nn.Module, "compile", _refusing)
    words = "prior=photo data=photos data.names=[china] data.size=32 operator=sr4 sampler.n_steps=2".split()
    assert main(["plan", *words, "prior.compile=true"]) == 0
    assert "(estimated)" in capsys.readouterr().out
    prior = photo(compile=True)
    prior.load()
    with pytest.raises(RuntimeError, match="was compiled"):
        prior.network(torch.zeros(1, 3, 8, 8), torch.ones(1))
    with uncompiled(prior):
        assert prior.network(torch.zeros(1, 3, 8, 8), torch.ones(1)).shape == (1, 3, 8, 8)
    with pytest.raises(RuntimeError, match="was compiled"):
        prior.network(torch.zeros(1, 3, 8, 8), torch.ones(1))


def _refusing(module, **_):
    """As torch keeps a compiled call."""

    def call(*_):
        raise RuntimeError("was compiled")

    module._compiled_call_impl = call
