"""Stable Cascade's image encoder against a plain computation by the names of its tensors."""

from functools import partial

import pytest
import text_models
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from rbctrl.checkpoints import RequiredFile
from rbctrl.codecs import effnet
from rbctrl.codecs.effnet import EffNet, ImageEncoder, Layout, Stage
from rbctrl.controllers import NoControl
from rbctrl.costs import Cosine
from rbctrl.data.base import Batch
from rbctrl.descriptors import FilterGram
from rbctrl.grids import Uniform
from rbctrl.noise import NoNoise
from rbctrl.operators import Style
from rbctrl.priors.stable_cascade import stable_cascade
from rbctrl.process import ddim
from rbctrl.solver import Solver

TINY = Layout(8, (Stage(True, 1, 1, 8, 1), Stage(True, 2, 2, 8, 2), Stage(True, 2, 2, 8, 1), Stage(False, 2, 2, 8, 2),
                  Stage(False, 2, 1, 8, 1), Stage(False, 2, 2, 16, 2)), 24)  # fmt: skip

# torchvision's table of EfficientNetV2-S: (fused, expansion, stride, from, to, blocks)
TABLE = [
    (True, 1, 1, 24, 24, 2),
    (True, 4, 2, 24, 48, 4),
    (True, 4, 2, 48, 64, 4),
    (False, 4, 2, 64, 128, 6),
    (False, 6, 1, 128, 160, 9),
    (False, 6, 2, 160, 256, 15),
]


def seeded(layout):
    """A network that keeps its signals up, with batch statistics that are not at their start."""
    network = EffNet(layout).eval()
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    text_models.seeded(lambda: [torch.nn.init.kaiming_normal_(layer.weight) for layer in convolutions], 3)
    for layer in convolutions:
        if layer.bias is not None:
            layer.bias.data.fill_(0.1)
    for k, layer in enumerate(layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)):
        layer.running_mean.fill_(0.01 * (k % 7))
        layer.running_var.fill_(0.5 + 0.1 * (k % 5))
    return network


def plain(state, x):
    """Function by function, on a table of tensors under the published names."""

    def normalised(x, name, eps):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        x = (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + eps).sqrt()
        if f"{name}.weight" in state:
            x = x * state[f"{name}.weight"].view(-1, 1, 1) + state[f"{name}.bias"].view(-1, 1, 1)
        return x

    def convolved(x, name, stride=1, groups=1):
        weight = state[f"{name}.0.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=(weight.shape[-1] - 1) // 2, groups=groups)
        return normalised(x, f"{name}.1", 1e-3)

    def swish(x):
        return x * torch.sigmoid(x)

    x = swish(convolved(x, "backbone.0", 2))
    for k, (fused, expand, first_stride, from_, to, n) in enumerate(TABLE, 1):
        for j in range(n):
            name, stride, width = f"backbone.{k}.{j}.block", first_stride if j == 0 else 1, from_ if j == 0 else to
            if fused and expand == 1:
                y = swish(convolved(x, f"{name}.0", stride))
            elif fused:
                y = convolved(swish(convolved(x, f"{name}.0", stride)), f"{name}.1")
            else:
                y = swish(convolved(x, f"{name}.0"))
                y = swish(convolved(y, f"{name}.1", stride, groups=width * expand))
                s = y.mean((2, 3), keepdim=True)
                s = swish(F.conv2d(s, state[f"{name}.2.fc1.weight"], state[f"{name}.2.fc1.bias"]))
                s = torch.sigmoid(F.conv2d(s, state[f"{name}.2.fc2.weight"], state[f"{name}.2.fc2.bias"]))
                y = convolved(y * s, f"{name}.3")
            x = x + y if stride == 1 and width == to else y
    x = swish(convolved(x, "backbone.7"))
    return normalised(F.conv2d(x, state["mapper.0.weight"]), "mapper.1", 1e-5)


def test_it_is_the_plain_computation_in_the_published_layout():
    """Parameters: EfficientNetV2-S has 21 458 488, 1 281 000 of them in its classifier; the file has 81.5 MB."""
    network = seeded(effnet.PUBLISHED)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert sum(p.numel() for p in network.backbone.parameters()) == 21_458_488 - 1_281_000
    state = network.state_dict()
    assert sum(v.numel() * v.element_size() for v in state.values()) / 1e6 == pytest.approx(81.5, abs=0.2)
    assert "backbone.4.0.block.2.fc1.bias" in state and "mapper.1.weight" not in state
    state = network.double().state_dict()
    with torch.no_grad():
        ours, written = network(x), plain(state, x)
        assert ours.shape == (1, 16, 2, 3)
        torch.testing.assert_close(ours, written, rtol=1e-9, atol=1e-9)
        state["backbone.4.0.block.2.fc1.bias"] = state["backbone.4.0.block.2.fc1.bias"] + 1
        assert (plain(state, x) - ours).abs().max() > 1e-3


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(effnet, "PUBLISHED", TINY)
    save_file(seeded(TINY).state_dict(), tmp_path / "effnet_encoder.safetensors")
    return tmp_path / "effnet_encoder.safetensors"


def encoder(place):
    made = ImageEncoder(RequiredFile(str(place), "published", "prior.encoder"))
    made.load()
    return made


def test_images_are_reduced_and_standardised(file):
    image = torch.rand(2, 3, 128, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ours = encoder(file)(image, (3, 6))
    small = F.interpolate((image + 1) / 2, (96, 192), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        written = seeded(TINY)((small - mean) / std)
    assert ours.shape == (2, 16, 3, 6)
    torch.testing.assert_close(ours, written, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        encoder(file.parent)(image, (3, 6))[:1], encoder(file)(image[:1], (3, 6)), rtol=1e-3, atol=1e-3
    )


def test_it_is_the_encode_of_stable_cascade(file, tmp_path):
    root = text_models.save_cascade(tmp_path / "cascade")
    options = {"preview": str(root / "previewer.safetensors"), "encoder": str(file)}
    prior = stable_cascade(str(root / "c"), **options)
    assert str(file) in [required.place for required in prior.files()]
    prior.load()
    image = torch.linspace(-1, 1, 3 * 128 * 128).view(1, 3, 128, 128)
    with torch.enable_grad():
        seen = image.clone().requires_grad_()
        latent = prior.codec.encode(seen)
        (gradient,) = torch.autograd.grad(latent.sum(), seen)
    assert latent.shape == (1, *prior.state_shape((3, 128, 128))) and gradient.abs().max() > 0
    torch.testing.assert_close(latent, encoder(file)(image, (3, 3)))
    assert [part.name for part in prior.parts()] == ["network", "previewer", "encoder"]
    bare = stable_cascade(str(root / "c"), preview=options["preview"])
    bare.load()
    assert prior.fingerprint() != bare.fingerprint()
    with pytest.raises(ValueError, match=r"prior.encoder is null: say where effnet_encoder.safetensors"):
        bare.codec.encode(image)
    with pytest.raises(ValueError, match="multiples of 128 px"):
        prior.codec.encode(image[..., :100])


def test_references_may_be_measured_as_previews_of_their_encoding(file, tmp_path):
    """Spec 2.3: targets are features of the auto-encoded reference, not of the file."""
    root = text_models.save_cascade(tmp_path / "cascade")
    preview = str(root / "previewer.safetensors")
    image = torch.linspace(-1, 1, 3 * 128 * 128).view(1, 3, 128, 128)

    def measured(**options):
        prior = stable_cascade(str(root / "c"), preview=preview, encoder=str(file), **options)
        sampler = partial(ddim, n_steps=1, grid=Uniform())
        measurement = (Style(FilterGram(scales=1)), NoNoise(), Cosine())
        solver = Solver(prior, *measurement, sampler, NoControl(), torch.device("cpu"), torch.float32)
        solver.load()
        return prior, solver, solver.observe(Batch((("a", 0),), image, None), 0).y

    prior, solver, y = measured(previewed=True)
    torch.testing.assert_close(y, solver.operator(prior.codec.decode(prior.codec.encode(image))))
    assert (y - measured()[2]).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"prior.previewed encodes the references, for which it needs prior.encoder"):
        stable_cascade(str(root / "c"), preview=preview, previewed=True)


def test_a_file_that_does_not_fit_or_is_missing_is_refused(file, tmp_path):
    state = seeded(TINY).state_dict()
    state["mapper.1.weight"] = torch.ones(16)
    save_file(state, file)
    with pytest.raises(ValueError, match=r"1 unknown \(mapper.1.weight\)"):
        encoder(file)
    with pytest.raises(FileNotFoundError, match=r"effnet_encoder.safetensors: published.*prior.encoder="):
        encoder(tmp_path / "none" / "effnet_encoder.safetensors")
