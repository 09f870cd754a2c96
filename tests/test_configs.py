"""Every option of every group composes and instantiates; found by globbing, so that none is forgotten."""

import re
import subprocess
import sys

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rbctrl.cli import main
from rbctrl.commands.run import compose
from rbctrl.config import CONF_DIR, options
from rbctrl.required import required_files

GROUPS = sorted(
    str(folder.relative_to(CONF_DIR))
    for folder in CONF_DIR.rglob("*")
    if folder.is_dir()
    and folder.name not in ("experiment", "sweep", "tune")
    and folder.relative_to(CONF_DIR).parts[0] != "hydra"
)
OPTIONS = [(group, option) for group in GROUPS for option in options(group)]

# What an option cannot know: a path, a class, the conventions of a network. {tmp} is a folder with one small image.
NEEDS = {
    ("operator", "custom"): ["operator._target_=rbctrl.operators.Identity"],
    ("operator", "mask_file"): ["operator.path={tmp}/mask.png"],
    ("operator", "kernel_blur"): ["operator.path={tmp}/kernel.npy"],
    ("operator", "nonlinear_blur"): ["operator.path={tmp}/wizard.pth"],
    ("operator", "parallel"): ["operator.parts.content.reference=content.png"],
    ("operator/descriptor", "csd"): ["operator=style"],
    ("operator/descriptor", "cascade"): ["operator=style"],
    ("operator/descriptor", "cascade_content"): ["operator=style"],
    ("operator/descriptor", "sdxl"): ["operator=style"],
    ("operator/descriptor", "sdxl_content"): ["operator=style"],
    ("operator/descriptor", "csd_content"): ["operator=style"],
    ("operator/descriptor", "shapes"): ["operator=style"],
    ("operator/descriptor", "shapes_content"): ["operator=style"],
    ("operator/descriptor", "clip"): ["operator=style"],
    ("operator/descriptor", "gram"): ["operator=style"],
    ("operator/descriptor", "gram_vgg"): ["operator=style"],
    ("cost", "custom"): ["cost._target_=rbctrl.costs.TotalVariation"],
    ("controller", "custom"): ["controller._target_=rbctrl.controllers.NoControl"],
    ("data", "folder"): ["data.path={tmp}"],
    ("data", "measurements"): ["data.path={tmp}"],
    ("data", "gmm"): ["prior=gmm2d"],
    ("prior", "module"): [
        "prior.network._target_=rbctrl.testing.worlds.UnitGaussian",
        "prior.parameterization=x0",
        "prior.time_input=sigma",
        "prior.network_schedule._target_=rbctrl.schedules.VE",
        "prior.value_range=[-1,1]",
    ],
    ("operator", "deepinv_linear"): ["operator.physics._target_=rbctrl.testing.worlds.Halves"],
    ("operator", "deepinv_physics"): ["operator.physics._target_=rbctrl.testing.worlds.Halves"],
    ("prior", "deepinv"): ["prior.denoiser._target_=rbctrl.testing.worlds.UnitGaussian", "prior.sigma_max=1.0"],
    ("prior", "edm"): ["prior.network._target_=torch.nn.Identity", "prior.path=net.safetensors"],
    ("prior", "class_conditional"): [
        "prior.network._target_=torch.nn.Identity",
        "prior.path=net.safetensors",
        "prior.label=1",
        "prior.classes=2",
        "prior.parameterization=eps",
        "prior.time_input=index",
        "prior.network_schedule._target_=rbctrl.schedules.DiscreteVP.linear",
        "prior.value_range=[-1,1]",
    ],
    ("prior", "adm_imagenet256_class"): ["prior.label=207"],
    ("attention", "afa"): ["prior=cascade", "attention.style=style.png"],
    ("attention", "afa_item"): ["prior=cascade", "data=style_prompts", "data.path={tmp}/prompts.txt"],
    ("data", "style_prompts"): ["data.path={tmp}/prompts.txt"],
    ("attention", "afa_reference"): ["prior=cascade", "data=folder", "data.path={tmp}"],
    ("attention", "afa_composition"): ["prior=cascade", "data=folder", "data.path={tmp}", "attention.content=dog.png"],
    ("attention", "concat"): ["prior=cascade", "attention.style=style.png"],
    ("attention", "ip_adapter"): ["prior=sdxl", "attention.style=style.png"],
    ("attention", "instant_style"): ["prior=sdxl", "attention.style=style.png"],
    ("operator", "cascade_composition"): ["operator.parts.content.reference=style.png"],
    ("prior/memory", "12GB"): ["prior=cascade"],
    ("prior/memory", "24GB"): ["prior=cascade"],
    ("prior/memory", "fast"): ["prior=adm_ffhq256"],
    ("prior/memory", "full"): ["prior=sd15"],
    ("prior/memory", "half"): ["prior=sd15"],
    ("prior/memory", "tight"): ["prior=sd15"],
    ("metrics", "fid"): ["metrics.fid.features.network=torch.nn.Identity", "metrics.fid.features.value_range=[0,1]"],
    ("metrics", "kid"): ["metrics.kid.features.network=torch.nn.Identity", "metrics.kid.features.value_range=[0,1]"],
    ("logger", "tensorboard"): None,  # these need an extra: tests/test_loggers.py, tests/metrics/test_lpips.py
    ("logger", "wandb"): None,
    ("metrics", "restoration_lpips"): None,
}


@pytest.fixture
def folder(tmp_path):
    import numpy as np
    import torch
    from PIL import Image

    from rbctrl.operators.kernel_wizard import KernelWizard

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "mask.png")
    np.save(tmp_path / "kernel.npy", np.ones((3, 3)) / 9)
    torch.save(KernelWizard(1, 1, 1).state_dict(), tmp_path / "wizard.pth")
    (tmp_path / "prompts.txt").write_text("{A cat, A dog, A house, A boat} in watercolor style.")
    return tmp_path


def overrides(group, option, folder):
    return [f"{group}={option}"] + [word.format(tmp=folder) for word in NEEDS.get((group, option)) or []]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_instantiates(group, option, folder):
    cfg = compose(overrides(group, option, folder))
    if NEEDS.get((group, option), []) is None:
        assert OmegaConf.select(cfg, group) is not None
        return
    node = OmegaConf.select(cfg, group.replace("/", "."))
    assert instantiate(node, _convert_="all") is not None


def test_groups_are_the_fields_of_an_experiment():
    from dataclasses import fields

    from rbctrl.experiment import Experiment

    names = {f.name for f in fields(Experiment) if f.init}
    groups = {g for g in GROUPS if "/" not in g}
    assert groups <= names, groups - names


def published(preset):
    """Whether a preset runs on weights that have to be had from somewhere."""
    text = (CONF_DIR / "experiment" / f"{preset}.yaml").read_text()
    base = re.search(r"^defaults:\n  - (\w+)$", text, re.MULTILINE)
    return published(base[1]) if base else "RBCTRL_DATA" in text


STYLIZING = ("cascade", "cascade_composition", "cascade_protocol", "sdxl_style")  # tests/test_style_presets.py
RESTORING = [preset for preset in options("experiment") if preset not in STYLIZING]
PROTOCOLS = [preset for preset in RESTORING if published(preset)]


@pytest.mark.parametrize("preset", [preset for preset in RESTORING if preset not in PROTOCOLS])
def test_preset_runs_end_to_end(preset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [f"experiment={preset}", "sampler.n_steps=3", f"hydra.run.dir={tmp_path}/out"]
    cfg = compose([f"experiment={preset}"])
    smaller = {"n": 1, "names": "[astronaut]", "size": 32}
    words += [f"data.{key}={value}" for key, value in smaller.items() if key in cfg.data]
    if "empirical" in str(cfg.prior._target_):
        words = [word for word in words if not word.startswith("data.size")]
    assert main(words) == 0, capsys.readouterr().err[-2000:]
    (table,) = (tmp_path / "out").glob("*/rows.csv")
    assert len(table.read_text().splitlines()) >= 2


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """A folder as the protocols expect it, with one image of each set and no weights but those of an operator."""
    import torch
    from PIL import Image

    from rbctrl.operators.kernel_wizard import KernelWizard

    root = tmp_path_factory.mktemp("laboratory")
    for name, size in (("ffhq256", 256), ("imagenet256", 256), ("ffhq512", 512), ("imagenet512", 512)):
        (root / "data" / name).mkdir(parents=True)
        Image.effect_noise((size, size), 60).convert("RGB").save(root / "data" / name / "0.png")
    (root / "weights").mkdir()
    torch.save(KernelWizard(1, 1, 1).state_dict(), root / "weights" / "GOPRO_wVAE.pth")
    return root


@pytest.fixture(scope="module")
def tiny_sd(tmp_path_factory):
    from text_models import save_sd

    return save_sd(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture
def in_laboratory(laboratory, monkeypatch):
    monkeypatch.setenv("RBCTRL_DATA", str(laboratory / "data"))
    monkeypatch.setenv("RBCTRL_WEIGHTS", str(laboratory / "weights"))
    return laboratory


@pytest.mark.parametrize("preset", PROTOCOLS)
def test_protocol_lacks_nothing_but_the_weights_it_asks_for(preset, in_laboratory, tmp_path):
    cfg = compose([f"experiment={preset}"])
    if "local_files_only" in cfg.prior:
        cfg.prior.local_files_only = True
    experiment = instantiate(cfg, _convert_="all")
    missing = [need for need in required_files(cfg) if not need.present]
    assert [need.node for need in missing] == ["prior"] and "https://" in missing[0].hint
    with pytest.raises(FileNotFoundError, match=re.escape(f"no weights at {missing[0].place}: ")):
        experiment.run(tmp_path, {})


@pytest.mark.slow
@pytest.mark.parametrize("preset", PROTOCOLS)
def test_protocol_runs_on_another_prior(preset, in_laboratory, tiny_sd, tmp_path):
    """Three steps on a shipped or random prior: whatever does not depend on the weights works together."""
    target = compose([f"experiment={preset}"]).prior._target_.rpartition(".")[2]
    words = {
        "adm": ["prior=photo", "prior/schedule=linear"],
        "ldm": ["prior=photo_latent"],
        "stable_diffusion": [f"prior.model={tiny_sd}", "prior/memory=full", "data.size=64"],  # its latents are large
    }[target]
    small = ["controller.langevin_steps=1"] if preset.endswith("daps") else []
    small += ["controller.variance=fixed"] if preset.endswith("dps") else []
    small += ["operator.size=32"] if preset == "ffhq512_box_psld" else []
    start = {"Uniform": "t_start=0.9", "SquareRoot": "t_start=0.9", "PolyRho": "sigma_max=50"}
    grid = compose([f"experiment={preset}"]).sampler.grid._target_.rpartition(".")[2]
    small += [f"sampler.grid.{start[grid]}", "sampler.n_steps=3", "n_samples=1"]
    cfg = compose([f"experiment={preset}", *words, *small])
    experiment = instantiate(cfg, _convert_="all")
    experiment.run(tmp_path, {})
    assert not experiment.problems
    (table,) = tmp_path.rglob("rows.csv")
    assert len(table.read_text().splitlines()) == 2


@pytest.mark.parametrize("sweep", options("sweep"))
def test_sweep_composes(sweep):
    cfg = compose([f"+sweep={sweep}"])
    assert cfg.study


MY_COST = '''
from rbctrl.costs import Cost

class Brightness(Cost):
    """Images should be as bright as `level`."""
    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, image, obs):
        return (image - self.level).square().flatten(1).mean(1)
'''
MY_OPERATOR = """
from rbctrl.operators import LinearOperator

class Flip(LinearOperator):
    def forward(self, image):
        return image.flip(-1)

    def adjoint(self, y):
        return y.flip(-1)
"""


def test_cost_and_operator_of_somebody_elses_package_are_chosen_from_the_command_line(tmp_path):
    """From the current folder, without installing or registering anything; one sentence when the name is wrong."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "__init__.py").write_text("")
    (tmp_path / "my_lab" / "costs.py").write_text(MY_COST)
    (tmp_path / "my_lab" / "operators.py").write_text(MY_OPERATOR)
    fast = ["data=leaves", "data.n=1", "data.size=16", "sampler.n_steps=3", "controller=rb_modulation"]

    def rbctrl(*words):
        command = [sys.executable, "-m", "rbctrl", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    mine = ["cost=custom", "cost._target_=my_lab.costs.Brightness", "+cost.level=0.7"]
    flip = ["operator=custom", "operator._target_=my_lab.operators.Flip"]
    done = rbctrl(*fast, *mine, *flip)
    assert done.returncode == 0, done.stderr
    assert "psnr" in done.stdout
    summed = rbctrl(
        *fast, "cost=sum", "+cost@cost.terms.mine=custom", "cost.terms.mine._target_=my_lab.costs.Brightness",
        "+cost.terms.mine.level=0.7", "+cost.weights.mine=0.1",
    )  # fmt: skip
    assert summed.returncode == 0, summed.stderr
    wrong = rbctrl(*fast, "cost=custom", "cost._target_=my_lab.costs.Britness", "+cost.level=0.7")
    assert wrong.returncode != 0 and "Britness" in wrong.stderr and len(wrong.stderr.strip().splitlines()) == 1
    checked = rbctrl("check", "operator=my_lab.operators.Flip", *mine)
    assert checked.returncode == 0, checked.stderr
