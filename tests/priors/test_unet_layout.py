"""Checkpoints under their published names give what the published networks give."""

import pytest
import torch
from priors.originals import OriginalUNet, randomise

from rbctrl.checkpoints import shapes
from rbctrl.priors.unet_checkpoint import load, names, rename
from rbctrl.priors.unet_layout import UNetLayout, build

ADM = UNetLayout(32, (1, 2, 2), 1, (4,), 16, out_channels=6)
DEEPER = UNetLayout(32, (1, 1, 2), 2, (2, 4), 16, out_channels=6)
NEW_ORDER = UNetLayout(32, (1, 2), 1, (2,), 16, qkv_order="new")
CLASSES = UNetLayout(32, (1, 2), 1, (2,), 32, out_channels=6, classes=5)
LATENT = UNetLayout(32, (1, 2, 3), 2, (2, 4), 32, scale_shift=False, resampling="conv")
TINY = {"adm": ADM, "deeper": DEEPER, "new_order": NEW_ORDER, "classes": CLASSES, "latent": LATENT}

FFHQ = UNetLayout(128, (1, 1, 2, 2, 4, 4), 1, (16,), 64, out_channels=6)
IMAGENET = UNetLayout(256, (1, 1, 2, 2, 4, 4), 2, (8, 16, 32), 64, out_channels=6)
LDM_FFHQ = UNetLayout(224, (1, 2, 3, 4), 2, (2, 4, 8), 32, scale_shift=False, resampling="conv")


def outputs(layout, loaded_as=None):
    """Largest gap between the published network and the loaded one, over the size of the output."""
    original = randomise(OriginalUNet(layout))
    ours = load(loaded_as or layout, original.state_dict(), "tiny").eval()
    x = torch.linspace(-1, 1, 2 * 3 * 16 * 16).sin().view(2, 3, 16, 16)
    t = torch.tensor([3.0, 977.0])
    y = None if layout.classes is None else torch.tensor([1, 4])
    with torch.no_grad():
        theirs, mine = original(x, t, y), ours(x, t, class_labels=y).sample
    return float((mine - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", TINY)
def test_loaded_network_is_the_published_one(name):
    assert outputs(TINY[name]) < 1e-5


@pytest.mark.parametrize(
    ("layout", "other"),
    [
        (ADM, {"qkv_order": "new"}),
        (ADM, {"head_channels": 32}),
        (NEW_ORDER, {"qkv_order": "legacy"}),
        (LATENT, {"qkv_order": "new"}),
    ],
)
def test_what_fits_in_shape_but_is_another_network_is_seen(layout, other):
    """The order of q, k and v and the width of a head are in no shape: the tolerance above rejects a wrong one."""
    settings = {name: getattr(layout, name) for name in layout.__dataclass_fields__}
    assert outputs(layout, UNetLayout(**(settings | other))) > 1e-3


def test_a_checkpoint_of_another_size_is_refused_with_its_first_keys():
    state = OriginalUNet(ADM).state_dict()
    with pytest.raises(ValueError, match=r"some.pt does not fit a U-Net of 32.*missing \(input_blocks"):
        load(DEEPER, state, "some.pt")
    wider = {name: getattr(ADM, name) for name in ADM.__dataclass_fields__} | {"out_channels": 3}
    with pytest.raises(ValueError, match=r"2 of another shape \(out.2.weight is \[6, 32, 3, 3\], not \[3, 32"):
        load(UNetLayout(**wider), state, "some.pt")
    del state["out.2.bias"]
    with pytest.raises(ValueError, match=r"of \d+ tensors 1 missing \(out.2.bias\)$"):
        load(ADM, state, "some.pt")


def test_layouts_that_cannot_be_are_refused():
    for change, word in (
        ({"resampling": "pool"}, "resampling is"),
        ({"qkv_order": "old"}, "qkv_order is"),
        ({"attention": (16,)}, "factors of downsampling"),
        ({"head_channels": 48}, "does not divide"),
    ):
        settings = {name: getattr(ADM, name) for name in ADM.__dataclass_fields__} | change
        with pytest.raises(ValueError, match=word):
            UNetLayout(**settings)


@pytest.mark.parametrize(
    ("layout", "parameters", "tensors"),
    [(FFHQ, 93.6, 362), (IMAGENET, 552.8, 566), (LDM_FFHQ, 274.1, 368)],
    ids=["adm_ffhq256", "adm_imagenet256", "ldm_ffhq256"],
)
def test_full_size_checkpoint_fits_to_the_last_tensor(layout, parameters, tensors):
    """Built by the published constructor, without weights (meta device); every tensor finds its place and shape."""
    with torch.device("meta"):
        original, ours = OriginalUNet(layout), build(layout)
    state = original.state_dict()
    targets = shapes(ours.state_dict())
    table = names(layout, targets)
    assert table.keys() == state.keys()
    assert sorted(name for new in table.values() for name in new) == sorted(targets)
    assert len(state) == tensors
    assert round(sum(value.numel() for value in state.values()) / 1e6, 1) == parameters
    renamed = rename(layout, targets, state, "full size")
    ours.load_state_dict(renamed, strict=True, assign=True)
