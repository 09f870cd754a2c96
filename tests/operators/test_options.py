"""Every option of conf/operator, found by glob, composes, instantiates and measures an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue
from PIL import Image

from rbctrl.operators import DownsampleBicubic, GaussianBlur, Grayscale, Hadamard, Identity, Operator
from rbctrl.operators.kernel_wizard import KernelWizard

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(path.stem for path in (CONF / "operator").glob("*.yaml"))
STATES = {"matrix": (2,), "mcgdiff": (8,)}  # options for states that are vectors
OWN = ("custom", "deepinv_linear", "deepinv_physics")  # a class of the user's
STYLES = ("style", "cascade_style", "sdxl_style", "parallel", "cascade_composition")  # descriptors with weights
FILES = {"mask_file": (128, 128), "kernel_blur": (5, 5), "nonlinear_blur": None}


def option(name: str, **overrides: object) -> Operator:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=[f"+operator={name}", *(f"operator.{key}={value}" for key, value in overrides.items())])
    return instantiate(cfg.operator, _convert_="all")


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in (*OWN, *STYLES)])
def test_every_option_measures_an_image(name: str, tmp_path, make_rng) -> None:
    overrides = {}
    if name == "nonlinear_blur":
        overrides["path"] = tmp_path / "wizard.pth"
        torch.save(KernelWizard(2, 1, 1).state_dict(), overrides["path"])
    elif name in FILES:
        Image.fromarray(np.full(FILES[name], 255, np.uint8)).save(tmp_path / "file.png")
        overrides["path"] = tmp_path / "file.png"
    rng, shape = make_rng(2, dtype=torch.float32), STATES.get(name, (3, 128, 128))
    operator = option(name, **overrides).draw(rng, shape)
    y = operator(2 * rng.uniform("image", shape) - 1)
    assert y.isfinite().all()
    assert operator.image_shape(tuple(y.shape[1:])) == shape


@pytest.mark.parametrize("name", STYLES)
def test_options_of_style_measure_an_image_by_a_descriptor_without_weights(name: str, tmp_path, make_rng) -> None:
    """Each descriptor is replaced by one that needs none: tests/descriptors has theirs."""
    Image.fromarray(np.full((32, 48, 3), 255, np.uint8)).save(tmp_path / "content.png")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = OmegaConf.to_container(compose("config", [f"operator={name}"]))["operator"]
    for part in cfg.get("parts", {"": cfg}).values():
        part["descriptor"] = {"_target_": "rbctrl.descriptors.FilterGram"}
    if "parts" in cfg:
        cfg["parts"]["content"]["reference"] = str(tmp_path / "content.png")
    operator, rng, shape = instantiate(cfg, _convert_="all"), make_rng(2, dtype=torch.float32), (3, 64, 64)
    operator.load()
    drawn, image = operator.draw(rng, shape), 2 * rng.uniform("image", shape) - 1
    assert drawn(image).shape == drawn.measure(image).shape and drawn(image).isfinite().all()
    assert drawn.image_shape(tuple(drawn(image).shape[1:])) == shape


@pytest.mark.parametrize("name", [*FILES, *OWN])
def test_what_only_the_user_knows_has_no_default(name: str) -> None:
    with pytest.raises(MissingMandatoryValue):
        option(name)


def test_task_names_are_the_benchmarks(make_rng) -> None:
    assert isinstance(option("sr4_bicubic"), DownsampleBicubic)
    blur = option("deblur_gauss")
    assert isinstance(blur, GaussianBlur)
    assert (blur.sigma, blur.boundary) == (1.5, "reflect")
    assert option("deblur_motion").draw(make_rng(1), (3, 128, 128)).kernel.shape == (1, 1, 61, 61)
    assert isinstance(option("colorization"), Grayscale) and isinstance(option("cs"), Hadamard)
    assert [option(f"phase_retrieval{end}").value_range for end in ("", "_signed")] == ["unit", "signed"]
    assert option("inpaint_random").draw(make_rng(1), (3, 100, 100)).observed.mean().item() == pytest.approx(0.2)


def test_a_custom_operator_is_a_dotted_path() -> None:
    assert isinstance(option("custom", _target_="rbctrl.operators.Identity"), Identity)
