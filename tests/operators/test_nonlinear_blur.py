"""The nonlinear blur's network from a checkpoint in the published layout, against a forward pass written out by key."""

import os

import pytest
import torch
from operators.nonlinear import images
from torch.nn import functional as F

from rbctrl.operators import NonlinearBlur
from rbctrl.operators.kernel_wizard import KernelWizard
from rbctrl.testing import check_operator

SHAPE = (3, 128, 128)
WIDTH, FRONT, BACK = 2, 1, 2


def random_state(width=WIDTH, front=FRONT, back=BACK):
    """The published table of tensors, named one by one, filled with noise, at a small width."""
    shapes = {}

    def conv(name, inputs, outputs, size, bias=True):
        shapes[f"{name}.weight"] = (outputs, inputs, size, size)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    for name, inputs in (("0", 3), ("2", width), ("4", width)):
        conv(f"feature_extractor.{name}", inputs, width, 3)
    for part, first, count in (("feature_extractor", 6, front), ("recon_trunk", 0, back)):
        for k in range(first, first + count):
            for layer in ("conv1", "conv2"):
                conv(f"{part}.{k}.{layer}", width, width, 3)
    level, outer = "adapter.model", width
    for depth, inner in enumerate((width, 2 * width, 4 * width, 8 * width, 8 * width)):
        conv(f"{level}.down.{int(depth > 0)}", outer, inner, 4, bias=False)
        conv(f"{level}.up.1.double_conv.0", 2 * inner, outer, 5)
        conv(f"{level}.up.1.double_conv.2", outer, outer, 5)
        level, outer = f"{level}.submodule", inner
    conv(f"recon_trunk.{back}", width, 4 * width, 3)
    conv(f"recon_trunk.{back + 3}", width, 4 * 64, 3)
    conv(f"recon_trunk.{back + 6}", 64, 64, 3)
    conv(f"recon_trunk.{back + 8}", 64, 3, 3)
    shapes["kernel_extractor.model.1.weight"] = (width, 2 * width, 7, 7)  # there, and of no use here
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) * (0.5 if len(shape) == 1 else (2 / shape[1]) ** 0.5 / shape[2])
        for name, shape in shapes.items()
    }


def by_hand(state, image, latent):
    """adaptKernel of the published model, inference written out."""
    s = {name: value.double() for name, value in state.items()}

    def conv(name, x, stride=1):
        weight = s[f"{name}.weight"]
        padding = 1 if weight.shape[-1] == 4 else weight.shape[-1] // 2
        return F.conv2d(x, weight, s.get(f"{name}.bias"), stride, padding)

    def residual(name, x):
        return x + conv(f"{name}.conv2", conv(f"{name}.conv1", x).relu())

    def up(name, x):
        x = conv(f"{name}.up.1.double_conv.2", conv(f"{name}.up.1.double_conv.0", x.relu()).relu()).relu()
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    x = image
    for k, stride in (("0", 1), ("2", 2), ("4", 2)):
        x = F.leaky_relu(conv(f"feature_extractor.{k}", x, stride), 0.1)
    for k in range(FRONT):
        x = residual(f"feature_extractor.{6 + k}", x)
    names = ["adapter.model" + ".submodule" * k for k in range(5)]
    x, skips = conv(f"{names[0]}.down.0", x, 2), []
    for name in names[1:]:
        x = F.leaky_relu(x, 0.2)  # in place there: the skip connection has it, too
        skips.append(x)
        x = conv(f"{name}.down.1", x, 2)
    x = torch.cat([x, latent], 1)
    for name, skip in zip(reversed(names[1:]), reversed(skips)):
        x = torch.cat([up(name, x), skip], 1)
    x = up(names[0], x).tanh()
    for k in range(BACK):
        x = residual(f"recon_trunk.{k}", x)
    for k in (BACK, BACK + 3):
        x = F.leaky_relu(F.pixel_shuffle(conv(f"recon_trunk.{k}", x), 2), 0.1)
    x = F.leaky_relu(conv(f"recon_trunk.{BACK + 6}", x), 0.1)
    return image + conv(f"recon_trunk.{BACK + 8}", x)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("wizard") / "GOPRO_wVAE.pth"
    torch.save(random_state(), path)
    return path


def test_it_is_the_published_forward_pass_with_the_drawn_latent(checkpoint, make_rng):
    x, rng = images(make_rng, SHAPE, 2), make_rng(2)
    y = NonlinearBlur(checkpoint).double().draw(rng, SHAPE)(x)
    latent = 1.2 * rng.normal("latent", (8 * WIDTH, 1, 1))
    expected = (2 * by_hand(random_state(), (x + 1) / 2, latent) - 1).clamp(-1, 1)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    swapped = (2 * by_hand(random_state(), (x + 1) / 2, latent.flip(0)) - 1).clamp(-1, 1)
    assert (y - swapped).abs().max() > 1e-4 and (y - x).abs().max() > 0.01
    assert ((expected > -1) & (expected < 1)).double().mean() > 0.3  # not a comparison of clipped values


def test_it_keeps_the_contract(checkpoint):
    assert "gradient" in dict(check_operator(NonlinearBlur(checkpoint), SHAPE))


def test_its_gradient_is_the_derivative(checkpoint, make_rng):
    operator, x = NonlinearBlur(checkpoint).double().draw(make_rng(1), SHAPE), 0.3 * images(make_rng, SHAPE, 1)
    direction = make_rng(1, seed=1).normal("direction", SHAPE)
    weight = make_rng(1, seed=2).normal("weight", SHAPE)
    x.requires_grad_()
    (grad,) = torch.autograd.grad((weight * operator(x)).sum(), x)
    slope = (grad * direction).sum()
    step = 1e-8 * direction  # small, as the network has kinks
    with torch.no_grad():
        found = (weight * (operator(x + step) - operator(x - step))).sum() / 2e-8
    assert abs(found - slope) < 1e-4 * abs(slope)


def test_width_and_depths_are_read_from_the_keys(tmp_path):
    torch.save(random_state(1, 2, 3), tmp_path / "other.pth")
    network = NonlinearBlur(tmp_path / "other.pth").network
    assert network.width == 1 and len(network.state_dict()) == len(KernelWizard(1, 2, 3).state_dict())


def test_published_dimensions_have_the_published_number_of_tensors():
    with torch.device("meta"):
        state = KernelWizard().state_dict()
    assert state["adapter.model.submodule.submodule.submodule.submodule.up.1.double_conv.0.weight"].shape == (
        512, 1024, 5, 5,
    )  # fmt: skip
    assert set(state) == {k for k in random_state(1, 10, 20) if not k.startswith("kernel_extractor")}


class Evil:
    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda s: s.pop("recon_trunk.2.weight"), "Missing key.*recon_trunk.2.weight"),
        (lambda s: s.update({"recon_trunk.99.weight": torch.zeros(1)}), "Unexpected key.*recon_trunk.99.weight"),
        (lambda s: s.update({"recon_trunk.2.bias": torch.zeros(3)}), "size mismatch"),
        (lambda s: s.pop("feature_extractor.0.weight"), "feature_extractor.0.weight"),
        (lambda s: s.update({"x": 3}), "no table of tensors"),
        (lambda s: s.update({"x": Evil()}), "cannot be loaded"),
    ],
)
def test_a_checkpoint_of_another_layout_is_refused(spoil, word, tmp_path):
    state = random_state()
    spoil(state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=word) as refusal:
        NonlinearBlur(tmp_path / "bad.pth")
    assert "\n" not in str(refusal.value)


def test_a_missing_file_a_wrong_size_and_a_damaged_one_are_one_sentence(checkpoint, tmp_path, make_rng):
    with pytest.raises(FileNotFoundError, match="GOPRO_wVAE.pth"):
        NonlinearBlur(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="multiples of 128"):
        NonlinearBlur(checkpoint).draw(make_rng(1), (3, 64, 64))
    (tmp_path / "half.pth").write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cannot be loaded"):
        NonlinearBlur(tmp_path / "half.pth")
    with pytest.raises(ValueError, match="no latent yet"):
        NonlinearBlur(checkpoint)(torch.zeros(1, *SHAPE))
