import math
import shutil
import warnings

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from rbctrl.cli import load_experiment, main
from rbctrl.commands.run import compose
from rbctrl.metrics import FID, KID, PSNR, Chi2, Coverage, Features
from rbctrl.metrics.base import Metric
from rbctrl.pictures import save_exact
from rbctrl.report import report
from rbctrl.report.runs import load_rows
from rbctrl.results import ResultStore
from rbctrl.scoring import score_cell

SETTINGS = "data=leaves data.n=3 data.size=16 operator=inpaint_random controller=tv n_samples=2 device=cpu".split()


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Level(Metric):
    def __call__(self, image, truth, obs):
        return image.flatten(1).mean(1)


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    config = OmegaConf.to_container(compose(SETTINGS), resolve=True)
    record = {"choices": {"operator": "inpaint_random", "controller": "tv"}, "overrides": SETTINGS, "config": config}
    experiment = load_experiment(*SETTINGS)
    experiment.run(folder, record)
    return experiment.folder(folder, record)


def column(cell, name):
    return {(row["item"], row["sample"]): row.get(name) for row in ResultStore(cell).rows}


def test_scores_of_pictures_agree_with_those_of_the_run_within_the_rounding(cell):
    before = column(cell, "psnr"), column(cell, "chi2")
    done = score_cell(cell, {"psnr_png": PSNR(), "chi2_png": Chi2(), "psnr": PSNR()})
    assert done.rows == 9 and done.source == "8-bit PNG" and not done.left_out  # 3 x (2 samples and their mean)
    for name, exact, tolerance in (("psnr_png", before[0], 0.05), ("chi2_png", before[1], 0.05)):
        scored = column(cell, name)
        assert scored == pytest.approx(exact, rel=tolerance) and scored != exact
    assert column(cell, "psnr") == before[0]  # what the run computed stays
    assert set(load_rows(cell)["psnr_png"]) == set(column(cell, "psnr_png").values())
    assert "psnr_png" in (cell / "rows.csv").read_text()


def test_replace_writes_over_what_is_there(cell):
    score_cell(cell, {"level": Level()})
    first = column(cell, "level")
    score_cell(cell, {"level": PSNR()})
    assert column(cell, "level") == first
    score_cell(cell, {"level": PSNR()}, replace=True)
    assert column(cell, "level") != first


def test_the_report_says_what_later_scores_are_made_from(cell):
    score_cell(cell, {"another": Level()})
    text = report([cell], metrics=["another", "chi2"]).to_text()
    assert "scored after the run: another from 8-bit PNG" in text and "chi2 from" not in text


def test_set_metrics_are_columns_of_the_cell_with_their_n(cell):
    features = Features(Mean(), [0, 1])
    done = score_cell(cell, {"fid": FID(features), "kid": KID(features)})
    assert set(done.sets) == {(name, kind) for name in ("fid", "kid") for kind in ("single", "mean")}
    made = report([cell], metrics=["psnr", "fid"])
    single = made.table[made.table["sample"] == "single"].iloc[0]
    assert single["fid"] == pytest.approx(done.sets["fid", "single"]) and single["fid_n"] == 6
    assert math.isnan(single["fid_se"]) and single["psnr_n"] == 3
    assert "fid: one number per cell, of 3 images or more" in made.to_text()
    assert "fid from 8-bit PNG" in made.to_text()


def test_rows_without_a_picture_or_with_another_item_are_counted(cell, tmp_path):
    copy = tmp_path / cell.name
    shutil.copytree(cell, copy)
    sorted(copy.rglob("image_0.png"))[0].unlink()
    sorted(copy.rglob("image_1.png"))[1].write_bytes(b"cut")
    store = ResultStore(copy)
    item = store.rows[-1]["item"]
    store.write([row | {"content": "other"} for row in store.rows if row["item"] == item])
    store.write([row | {"alive": False} for row in store.rows if row["item"] != item and row["sample"] == "mean"])
    done = score_cell(copy, {"level2": Level()})
    assert done.left_out == {
        "without a picture": 2,
        "that diverged or failed": 2,
        "whose item has another content now": 3,
    }
    assert done.rows == 2


def test_exact_images_are_preferred(cell, tmp_path):
    copy = tmp_path / cell.name
    shutil.copytree(cell, copy)
    for picture in copy.rglob("image_*.png"):
        save_exact(picture.with_suffix(".npy"), torch.full((3, 16, 16), 3.0))
    done = score_cell(copy, {"level3": Level()})
    assert done.source == "8-bit PNG and exact" and column(copy, "level3")["leaves/0000", 0] == pytest.approx(3.0)


def test_what_pictures_cannot_tell_is_refused(cell):
    with pytest.raises(ValueError, match="coverage cannot be scored from pictures"):
        score_cell(cell, {"coverage": Coverage()})
    with pytest.raises(ValueError, match="has no journal"):
        score_cell(cell.parent, {"psnr": PSNR()})


def test_a_run_refuses_set_metrics_and_names_the_way():
    words = ["metrics=fid", "metrics.fid.features.network=torch.nn.Identity", "metrics.fid.features.value_range=[0,1]"]
    with pytest.raises(Exception, match="fid looks at all images of a finished cell: `rbctrl score"):
        load_experiment(*SETTINGS, *words)


def test_the_command_scores_and_reports_what_it_left_out(cell, capsys):
    assert main(["score", str(cell), "metrics=likelihood"]) == 0
    assert f"{cell}: 9 rows scored (8-bit PNG)" in capsys.readouterr().out
    assert main(["score", str(cell)]) == 1
    assert "needs a folder and metrics" in capsys.readouterr().err
    assert main(["score", str(cell), "metrics=calibration"]) == 1
    assert "cannot be scored from pictures" in capsys.readouterr().err


def test_a_torchscript_file_an_exported_program_and_a_class_are_the_same_extractor(tmp_path):
    net, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)).eval(), torch.rand(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, images), tmp_path / "net.pt")
    expected = Features(net, [-1, 1])(images)
    assert torch.allclose(Features(str(tmp_path / "net.pt"), [-1, 1])(images), expected)
    assert not torch.allclose(Features(net, [0, 255])(images), expected)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    assert torch.allclose(Features(other, [-1, 1], weights=str(tmp_path / "net.safetensors"))(images), expected)
    save_file({"0.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match="lacks 0.bias"):
        Features(other, [-1, 1], weights=str(tmp_path / "half.safetensors"))
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ValueError, match="no TorchScript and no exported program"):
        Features(str(tmp_path / "text.pt"), [-1, 1])
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        Features(str(tmp_path / "absent.pt"), [-1, 1])
