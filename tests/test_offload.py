"""Parts of a model take turns on a GPU: the plan by counting, the turns by recording what is moved."""

import logging
from functools import partial

import diffusers
import pytest
import text_models
import torch
from torch import nn

from rbctrl.attention import AFA
from rbctrl.controllers import RBModulation
from rbctrl.costs import Cosine as CosineCost
from rbctrl.data.base import Batch
from rbctrl.grids import Uniform
from rbctrl.noise import NoNoise
from rbctrl.offload import Budget, Part, Plan, Residency, place, size
from rbctrl.operators.base import Operator
from rbctrl.pictures import save_picture
from rbctrl.priors.memory import Memory
from rbctrl.priors.stable_cascade import stable_cascade
from rbctrl.priors.stable_diffusion import stable_diffusion
from rbctrl.process import ddim
from rbctrl.solver import Solver

GIB = 2**30
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


class Style(Operator):
    """A small network as a descriptor."""

    def __init__(self):
        super().__init__()
        self.network = text_models.seeded(lambda: nn.Conv2d(3, 6, 3))

    def forward(self, image):
        return self.network(image).mean((2, 3))


class Recorder:
    """Moves nothing, and knows what would be on the GPU."""

    def __init__(self):
        self.there, self.moves, self.small, self.peak = {}, [], 0, 0

    def __call__(self, module, device, alone):
        if alone:
            self.small += 1
            return
        self.moves.append((type(module).__name__, device.type))
        for value in (*module.parameters(), *module.buffers()):
            value.data = value.data.clone()  # what moving does to a parameter, but for the place
        if device.type == "cpu":
            self.there.pop(id(module), None)
        else:
            self.there[id(module)] = module
        self.peak = max(self.peak, sum(map(size, self.there.values())))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = text_models.save_cascade(tmp_path_factory.mktemp("cascade"))
    save_picture(root / "style.png", torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return root


def cascade(folder, gpu, attention=None):
    memory = Memory(gpu=gpu, reserve=0.0)
    preview, decoder = str(folder / "previewer.safetensors"), str(folder / "b")
    prior = stable_cascade(str(folder / "c"), preview=preview, decoder=decoder, memory=memory, attention=attention)
    prior.load()
    return prior


def tight(prior):
    """A budget of the largest phase and a fifth more."""
    phases = Plan(prior.parts(), Budget(1e3, 0.0)).phases
    return Budget(1.2 * max(sum(part.gib for part in parts) for parts in phases.values()), 0.0)


BATCH = Batch((("image", 0),), torch.linspace(-1, 1, 3 * 128 * 128).view(1, 3, 128, 128), None)


def solver(prior):
    sampler = partial(ddim, n_steps=2, grid=Uniform(), eta=0.0)
    return Solver(prior, Style(), NoNoise(), CosineCost(), sampler, RBModulation(), CPU, torch.float32)


def test_phases_of_a_run_take_turns_and_change_nothing(folder):
    """Two batches: stage C with previewer and descriptor, then B, then A, and the descriptor scores the result."""
    plain = solver(cascade(folder, None))
    plain.load()
    expected = plain.solve(BATCH, 0).image
    prior = cascade(folder, 1.0)
    prior.budget = tight(prior)
    run, recorder = solver(prior), Recorder()
    place(prior, (run.operator, run.cost), GPU, recorder)
    assert prior.residency.present == "sampling" and len(recorder.there) == 3
    recorder.moves.clear()
    for _ in range(2):
        assert torch.equal(run.solve(BATCH, 0).image, expected)
    arrived = [name for name, where in recorder.moves if where == "cuda"]
    assert arrived == 2 * ["StageB", "PaellaVQModel", "StageC", "PreviewerNetwork", "Style"]
    parts = (prior.denoiser.network, prior.codec.preview.network, run.operator)
    assert recorder.peak <= max(sum(map(size, parts)), size(prior.codec.stages.prior.network))


def test_parts_that_fit_together_are_moved_once(folder, caplog):
    caplog.set_level(logging.INFO, "rbctrl")
    prior, recorder = cascade(folder, 1.0), Recorder()
    place(prior, (Style(),), GPU, recorder)
    assert prior.residency is None and recorder.moves == [("PromptedPrior", "cuda"), ("Style", "cuda")]
    assert "all 0.0 GiB of weights stay on the GPU" in caplog.text


def test_without_a_gpu_nothing_is_moved(folder, caplog):
    caplog.set_level(logging.INFO, "rbctrl")
    prior, recorder = cascade(folder, 1e-9), Recorder()
    place(prior, (), CPU, recorder)
    assert prior.residency is None and recorder.moves == [("PromptedPrior", "cpu")]
    assert "there is no GPU" in caplog.text


def test_turns_within_an_attention_scope_are_no_change_of_parameters(folder):
    prior = cascade(folder, 1.0, AFA(str(folder / "style.png")))
    prior.budget = tight(prior)
    run, recorder = solver(prior), Recorder()
    place(prior, (run.operator, run.cost), GPU, recorder)
    with prior.scope():
        prior.residency.need("stage B")
        prior.predict(torch.zeros(1, 16, 3, 3), torch.tensor(0.5, dtype=torch.float64))
        assert prior.residency.present == "sampling"


def test_a_second_cell_is_placed_anew(folder):
    prior = cascade(folder, 1.0)
    prior.budget = tight(prior)
    hooks = []
    for _ in range(2):
        place(prior, (Style(),), GPU, Recorder())
        hooks.append(sum(len(module._forward_pre_hooks) for module in prior.modules()))
    assert hooks[0] == hooks[1] > 0
    prior.budget = None
    place(prior, (Style(),), GPU, Recorder())
    assert not any(module._forward_pre_hooks for module in prior.modules())


def test_a_full_autoencoder_behind_a_preview_comes_for_the_rendering_only(tmp_path):
    text_models.save_sd(tmp_path / "sd")
    text_models.tiny_autoencoder().save_pretrained(tmp_path / "tiny")
    options = {"memory": Memory(gpu=1.0, reserve=0.0)}
    prior = stable_diffusion(str(tmp_path / "sd"), preview=str(tmp_path / "tiny"), **options)
    alone = stable_diffusion(str(tmp_path / "sd"), **options)
    for one in (prior, alone):
        one.load()
    named = [(part.name, part.phase) for part in prior.parts()]
    assert named == [("network", "sampling"), ("preview", "sampling"), ("autoencoder", "rendering")]
    assert [(part.name, part.phase) for part in alone.parts()] == [("network", "sampling"), ("autoencoder", "sampling")]
    prior.budget = tight(prior)
    recorder = Recorder()
    place(prior, (), GPU, recorder)
    prior.residency.need("rendering")
    recorder.moves.clear()
    x0 = prior.predict(torch.zeros(1, 4, 8, 8), torch.tensor(0.5)).x0_hat
    prior.codec.decode(x0)
    assert recorder.moves == [("AutoencoderKL", "cpu"), ("UNet", "cuda"), ("AutoencoderTiny", "cuda")]
    prior.codec.render(x0)
    assert [name for name, where in recorder.moves[3:] if where == "cuda"] == ["AutoencoderKL"]
    assert list(map(type, recorder.there.values())) == [diffusers.AutoencoderKL]


@pytest.fixture(scope="module")
def published():
    """Networks of the published sizes without memory; the specification counts 3.589 and 1.563 billion parameters."""
    network = nn.Module.to(text_models.published_cascade(), torch.bfloat16)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(3.589e9, rel=2e-3)

    def sized(millions, dtype):
        return nn.ParameterList([torch.empty(int(millions * 1e6), dtype=dtype, device="meta")])

    return (
        Part("network", "sampling", network),
        Part("previewer", "sampling", sized(3.98, torch.float32)),
        Part("CSD", "sampling", sized(304.75, torch.float32)),
        Part("stage B", "stage B", sized(1563, torch.bfloat16)),
        Part("stage A", "stage A", sized(18.4, torch.float32)),
    )


def test_stable_cascade_fits_24_gib_at_once_and_12_in_turns(published):
    large, small = Plan(published, Budget(24.0, 6.0)), Plan(published, Budget(12.0, 4.0))
    assert large.at_once and not small.at_once and large.excess() is None and small.excess() is None
    assert "network 6.7 + previewer 0.0 + CSD 1.1" in large.describe()
    assert small.describe().endswith(
        "network 6.7 + previewer 0.0 + CSD 1.1; then stage B: stage B 2.9; then stage A: stage A 0.1"
    )
    assert small.peak() == pytest.approx(7.8, abs=0.1) and large.peak() == pytest.approx(10.8, abs=0.1)
    assert "a phase has 7.8 GiB of weights, and 4 of 8 GiB" in Plan(published, Budget(8.0, 4.0)).excess()


def test_a_plan_counts_and_says_what_it_chose():
    one, two = (nn.Linear(1024, n, bias=False) for n in (1024, 2048))
    parts = (Part("one", "sampling", one), Part("two", "rendering", two))
    assert size(one) == 4 * 2**20 and parts[1].gib == 8 * 2**20 / GIB
    assert Plan(parts, Budget(0.2, 0.1)).at_once and not Plan(parts, Budget(0.11, 0.1)).at_once
    told = Plan(parts, Budget(0.11, 0.1)).describe()
    assert told.startswith("weights take turns on the GPU (of 0.11 GiB, 0.1 are for activations")
    assert told.endswith("sampling: one 0.0; then rendering: two 0.0")
    assert "it may not fit" in Plan(parts, Budget(0.105, 0.1)).excess()
    shared = nn.ModuleList([one, one])
    assert size(shared) == size(one)


def test_budgets_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match=r"memory.reserve is less than memory.gpu=8.0 GiB, got 9.0"):
        Memory(gpu=8.0, reserve=9.0)
    with pytest.raises(ValueError, match=r"memory.compile and memory.gpu exclude each other"):
        Memory(gpu=8.0, compile=True)


def test_a_residency_that_ended_moves_nothing():
    linear, moves = nn.Linear(2, 2), []
    residency = Residency({"a": [nn.Linear(1, 1)], "b": [linear]}, GPU, lambda *given: moves.append(given))
    linear(torch.zeros(1, 2))
    assert len(moves) == 3
    residency.end()
    residency.present = "a"
    linear(torch.zeros(1, 2))
    assert len(moves) == 3
