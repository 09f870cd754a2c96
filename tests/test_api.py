"""rbctrl.restore: the same bits as the command line, on a measurement without truth."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from worlds import tiny_prior

import rbctrl
from rbctrl.config import build
from rbctrl.data import Folder
from rbctrl.metrics import PSNR
from rbctrl.noise import GaussianNoise
from rbctrl.observation import observe
from rbctrl.operators import Downsample, RandomMask
from rbctrl.rng import ImageRNG

STEPS = ["sampler.n_steps=4", "n_samples=2", "seed=3"]


@pytest.fixture
def photo_file(tmp_path):
    pixels = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "me.png")
    return tmp_path / "me.png"


@pytest.mark.parametrize("option", ["sr4", "random_mask"])
def test_restore_gives_the_bits_of_the_command_line(photo_file, tmp_path, option):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "rbctrl", "data=folder", f"data.path={photo_file}", f"operator={option}"]
    subprocess.run(
        [*command, *STEPS, "controller=proximal", f"hydra.run.dir={out}"], check=True, capture_output=True, cwd=tmp_path
    )
    (table,) = out.glob("*/rows.csv")
    with open(table) as file:
        rows = {r["sample"]: r for r in csv.DictReader(file)}
    (item,) = Folder(str(photo_file)).items()
    operator = build("operator", option)
    rng = ImageRNG(3, ((item.name, 0),))
    y = observe(operator.draw(rng, (3, 32, 32)), GaussianNoise(0.05), item.image[None], rng).y[0]
    ours = rbctrl.restore(
        y, operator, controller="proximal", sampler=build("sampler", "ddpm", ["sampler.n_steps=4"]), n_samples=2,
        seed=3, item=item.name,
    )  # fmt: skip
    for row in ours.rows:
        theirs = rows[str(row["sample"])]
        for name in ("final_cost", "control_energy"):
            assert theirs[name] == "" or float(theirs[name]) == pytest.approx(row[name], rel=1e-6)
    for sample in range(2):
        (saved,) = out.rglob(f"image_{sample}.png")
        pixels = torch.from_numpy(np.array(Image.open(saved))).permute(2, 0, 1)
        rounded = ((ours.samples[sample].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        assert torch.equal(pixels, rounded)


def test_three_lines_without_truth():
    y = torch.linspace(-1, 1, 3 * 16).view(3, 4, 4)
    result = rbctrl.restore(y, operator=Downsample(4), sigma_y=0.05, prior=tiny_prior(), n_samples=3, seed=0)
    assert result.samples.shape == (3, 3, 16, 16) and result.mean.shape == result.sd.shape == (3, 16, 16)
    torch.testing.assert_close(result.mean, result.samples.mean(0))
    torch.testing.assert_close(result.sd, result.samples.std(0))
    assert [r["sample"] for r in result.rows] == [0, 1, 2] and result.rows[0]["nfe"] > 0


def test_masks_follow_the_item_and_unmeasured_pixels_do_not_matter():
    rng = ImageRNG(0, (("a", 0),))
    drawn = RandomMask(0.5).draw(rng, (3, 16, 16))
    truth = rng.normal("truth", (3, 16, 16)).clamp(-1, 1)
    y = drawn(truth)[0]
    garbage = torch.where(drawn.observed[0] > 0, y, 7.0)
    settings = {"operator": RandomMask(0.5), "sigma_y": 0.05, "prior": tiny_prior()}
    ours = rbctrl.restore(y, item="a", **settings)
    assert torch.equal(rbctrl.restore(garbage, item="a", **settings).mean, ours.mean)
    assert not torch.equal(rbctrl.restore(y, item="b", **settings).mean, ours.mean)


def test_load_reads_an_image_and_says_what_is_wrong(photo_file, tmp_path):
    assert rbctrl.load(photo_file).shape == (3, 32, 32)
    assert rbctrl.load(photo_file, size=16).shape == (3, 16, 16)
    with pytest.raises(FileNotFoundError):
        rbctrl.load(tmp_path / "none.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="bad.png"):
        rbctrl.load(tmp_path / "bad.png")


def test_impossible_calls_are_refused():
    y = torch.zeros(3, 4, 4)
    with pytest.raises(ValueError, match="not both"):
        rbctrl.restore(y, Downsample(4), sigma_y=0.1, noise=GaussianNoise(0.1), prior=tiny_prior())
    with pytest.raises(ValueError, match="sigma_y > 0"):
        rbctrl.restore(y, Downsample(4), sigma_y=-0.1, prior=tiny_prior())
    with pytest.raises(ValueError, match="not finite"):
        rbctrl.restore(y + torch.nan, Downsample(4), prior=tiny_prior())
    with pytest.raises(TypeError, match="metrics.psnr is the class PSNR"):
        rbctrl.restore(y, Downsample(4), prior=tiny_prior(), metrics={"psnr": PSNR})
    with pytest.raises(ValueError, match="controller=dsp"):
        rbctrl.restore(y, Downsample(4), controller="dsp", prior=tiny_prior())
    with pytest.raises(ValueError, match="closed form"):
        rbctrl.restore(y, Downsample(4), controller="doob", prior=tiny_prior())
