import math
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rbctrl.report import report
from rbctrl.report.runs import load_rows
from rbctrl.results import ResultStore


def row(item="a", sample=0, seed=0, alive=True, **values):
    return {"item": item, "sample": sample, "seed": seed, "alive": alive} | values


def run(folder, rows, operator="sr4", controller="dps", overrides=(), images=(), zeta=None, **settings):
    """A run as the experiment leaves it; `images` are (item, sample, kind, tensor)."""
    store = ResultStore(folder)
    own = {"_target_": controller} | ({} if zeta is None else {"zeta": zeta})
    config = {"seed": 0, "operator": {"_target_": operator}, "controller": own} | settings
    choices = {"operator": operator, "controller": controller, "logger": "csv"}
    store.save_config({"choices": choices, "overrides": list(overrides), "config": config}, {})
    store.write(rows)
    for image in images:
        store.save_image(*image)
    store.close()


def line(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1, table
    return table.iloc[0]


def test_mean_and_standard_error_by_hand(tmp_path):
    run(tmp_path / "0", [row(item, psnr=psnr) for item, psnr in [("a", 20.0), ("b", 23.0), ("c", 29.0)]])
    found = line(report([tmp_path]).table)
    assert found["psnr"] == 24.0
    assert found["psnr_se"] == pytest.approx(math.sqrt((16 + 1 + 25) / 2 / 3))
    assert (found["n"], found["psnr_n"], found["psnr_nonfinite"], found["diverged"]) == (3, 3, 0, 0)


def test_samples_of_one_item_are_no_independent_items(tmp_path):
    rows = [row("a", k, psnr=p) for k, p in enumerate([20.0, 22.0])] + [
        row("b", k, psnr=p) for k, p in enumerate([25.0, 27.0])
    ]
    run(tmp_path / "0", rows)
    found = line(report([tmp_path]).table)
    assert (found["psnr"], found["n"]) == (23.5, 2)
    assert found["psnr_se"] == pytest.approx(math.sqrt((2.5**2 + 2.5**2) / 1 / 2))


def test_seeds_are_units_of_their_own(tmp_path):
    for seed in (0, 1, 2):
        run(tmp_path / str(seed), [row(seed=seed, psnr=20.0 + seed)], overrides=[f"seed={seed}"], seed=seed)
    made = report([tmp_path])
    assert list(made.by) == ["operator", "controller"]
    found = line(made.table)
    assert (found["psnr"], found["n"]) == (21.0, 3)
    assert found["psnr_se"] == pytest.approx(1 / math.sqrt(3))


def test_what_is_not_finite_is_counted_and_not_averaged(tmp_path):
    rows = [
        row("a", psnr=20.0, control_energy=math.inf),
        row("b", psnr=math.nan, control_energy=math.inf),
        row("c", psnr=math.inf, control_energy=math.inf),
        row("d", psnr=24.0, control_energy=math.inf),
        row("e", psnr=-90.0, control_energy=math.nan, alive=False),
    ]
    run(tmp_path / "0", rows)
    made = report([tmp_path])
    found = line(made.table)
    assert (found["psnr"], found["psnr_n"], found["psnr_nonfinite"]) == (22.0, 2, 2)
    assert (found["n"], found["diverged"]) == (4, 1)
    assert math.isnan(found["control_energy"]) and found["control_energy_nonfinite"] == 4
    text = made.to_text()
    assert "| --: |" in text  # the rule of Markdown needs a dash
    assert "22 ± 2 (2)" in text and "- (4)" in text and "1 rows diverged" in text


def test_the_mean_of_samples_stands_beside_single_samples(tmp_path):
    rows = [row("a", k, psnr=p) for k, p in [(0, 20.0), (1, 22.0), ("mean", 23.0)]]
    run(tmp_path / "0", rows)
    table = report([tmp_path]).table
    assert table["sample"].tolist() == ["single", "mean"]
    assert table["psnr"].tolist() == [21.0, 23.0]
    assert report([tmp_path], sample="mean").table["psnr"].tolist() == [23.0]
    assert report([tmp_path], sample="all").table["psnr"].tolist() == [21.0]
    with pytest.raises(ValueError, match="sample='best'"):
        report([tmp_path], sample="best")


def test_means_that_do_not_exist_cannot_be_asked_for(tmp_path):
    run(tmp_path / "0", [row(psnr=1.0)])
    with pytest.raises(ValueError, match="n_samples above 1"):
        report([tmp_path], sample="mean")


def test_cells_are_told_apart_by_what_differs(tmp_path):
    for k, zeta in enumerate([0.5, 1.0, 10.0]):
        other = {"sampler": {"n_steps": 100}, "batch_size": k + 1}
        rows, words = [row(psnr=20.0 + k)], [f"controller.zeta={zeta}"]
        run(tmp_path / f"dps{k}", rows, overrides=words, zeta=zeta, **other)
    run(tmp_path / "ddnm", [row(psnr=30.0)], controller="ddnm", sampler={"n_steps": 50}, batch_size=9)
    made = report([tmp_path])
    assert list(made.by) == ["operator", "controller", "controller.zeta", "sampler.n_steps"]
    assert made.table["controller.zeta"].tolist() == ["", "0.5", "1.0", "10.0"]  # by number, not by letter
    assert line(made.table, controller="ddnm")["psnr"] == 30.0
    assert "cells hold runs" not in made.to_text()


def test_an_interpolated_copy_of_a_value_makes_no_second_column(tmp_path):
    for zeta in (0.5, 1.0):
        run(tmp_path / str(zeta), [row(psnr=zeta)], overrides=[f"strength={zeta}"], zeta=zeta, strength=zeta)
    assert list(report([tmp_path]).by) == ["operator", "controller", "strength"]


def test_by_pools_what_it_does_not_name_and_says_so(tmp_path):
    run(tmp_path / "0", [row("a", psnr=20.0)], operator="sr4")
    run(tmp_path / "1", [row("b", psnr=30.0)], operator="blur")
    made = report([tmp_path], by=["controller"])
    assert line(made.table, controller="dps")["psnr"] == 25.0
    assert "cells hold runs that differ in operator" in made.to_text()
    items = report([tmp_path], by=["item"]).table
    assert list(zip(items["item"], items["psnr"], strict=True)) == [("a", 20.0), ("b", 30.0)]
    with pytest.raises(ValueError, match="'zeta': use for example operator, controller"):
        report([tmp_path], by=["zeta"])


def test_metrics_are_those_with_values_or_those_asked_for(tmp_path):
    run(tmp_path / "0", [row(psnr=1.0, ssim=math.nan, nfe=7, peak_memory=3.0, batch_size=2)])
    assert list(report([tmp_path]).metrics) == ["psnr", "nfe"]
    made = report([tmp_path], metrics=["peak_memory", "ssim"])
    assert list(made.metrics) == ["peak_memory", "ssim"]
    assert line(made.table)["peak_memory"] == 3.0
    with pytest.raises(ValueError, match="no column 'fid': there are psnr, ssim"):
        report([tmp_path], metrics=["fid"])


def test_a_repeated_run_does_not_shrink_the_error(tmp_path):
    rows = [row("a", psnr=20.0), row("b", psnr=22.0)]
    run(tmp_path / "old", [row("a", psnr=0.0), row("b", psnr=0.0)])
    for name in ("rows.csv", "config.yaml"):
        os.utime(tmp_path / "old" / name, (1, 1))
    run(tmp_path / "new", rows)
    made = report([tmp_path, tmp_path / "new"])
    found = line(made.table)
    assert (found["psnr"], found["n"], found["psnr_se"]) == (21.0, 2, pytest.approx(1.0))
    assert "2 rows were computed more than once" in made.to_text()


def test_a_truncated_file_gives_its_whole_rows(tmp_path):
    """rows.csv, as versions without a journal left it."""
    run(tmp_path / "0", [row("a", psnr=20.0), row("b", psnr=22.0), row("c", psnr=100.0)])
    shutil.rmtree(tmp_path / "0" / "journal")
    file = tmp_path / "0" / "rows.csv"
    content = file.read_bytes()
    last = content.splitlines(keepends=True)[-1]
    for cut in range(1, len(last) + 1):
        file.write_bytes(content[:-cut])
        made = report([tmp_path])
        assert (line(made.table)["psnr"], line(made.table)["n"]) == (21.0, 2)
    file.write_bytes(content + b"d,0\n" + last.replace(b"100.0", b"abc"))
    made = report([tmp_path])
    assert line(made.table)["n"] == 3
    assert "2 lines of rows.csv are cut or damaged" in made.to_text()


def test_a_cell_without_a_finished_row_is_shown_empty(tmp_path):
    run(tmp_path / "0", [row(psnr=20.0)])
    run(tmp_path / "1", [], controller="slow")
    run(tmp_path / "2", [row(psnr=1.0)], controller="cut")
    (file,) = (tmp_path / "2" / "journal").glob("*.jsonl")
    file.write_text('{"rows": [{"item": "a", "sam')
    made = report([tmp_path])
    assert line(made.table, controller="slow")["n"] == 0
    assert line(made.table, controller="cut")["n"] == 0
    assert math.isnan(line(made.table, controller="slow")["psnr"])
    assert "no finished row in" in made.to_text()
    with pytest.raises(ValueError, match="none of the 1 runs .* has a finished row"):
        report([tmp_path / "1"])


def test_without_truth_there_is_no_psnr_column_and_no_error(tmp_path):
    run(tmp_path / "0", [row(psnr=math.nan, chi2=1.5)], images=[("a", 0, "image", torch.zeros(3, 8, 8))])
    made = report([tmp_path])
    assert list(made.metrics) == ["chi2"]
    assert made.grid is not None
    made.save(tmp_path / "out")


def test_folders_that_are_missing_or_empty_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        report([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="there are no results"):
        report([tmp_path])
    with pytest.raises(ValueError, match="below no folder"):
        report([])


def test_files_of_others_are_no_runs(tmp_path):
    run(tmp_path / "0", [row(psnr=1.0)])
    (tmp_path / "0/.hydra").mkdir()
    (tmp_path / "0/.hydra/config.yaml").write_text("seed: 1\n")
    for name, text in {"a": "seed: 1\n", "b": "[1, 2", "c": "- x\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    (tmp_path / "a/rows.csv").write_text("x,y\n1,2\n")
    made = report([tmp_path])
    assert line(made.table)["n"] == 1


def test_rows_without_a_config_are_labelled_by_their_folder(tmp_path):
    for name in ("first", "second"):
        ResultStore(tmp_path / name).write([row(psnr=1.0)])
    assert report([tmp_path]).table["folder"].tolist() == ["first", "second"]


def test_save_writes_table_text_and_picture(tmp_path):
    images = [("a", 0, kind, torch.zeros(3, 8, 8)) for kind in ("truth", "measurement", "image")]
    run(tmp_path / "0", [row(psnr=20.0)], operator="box|mask", images=images)
    made = report([tmp_path])
    path = made.save(tmp_path / "out/deep")
    assert path == tmp_path / "out/deep/report.md"
    assert made.to_text() in path.read_text() and "(grid.png)" in path.read_text()
    assert "box\\|mask" in path.read_text()
    saved = pd.read_csv(path.with_name("report.csv"))
    assert saved["psnr"].tolist() == [20.0] and np.isnan(saved["psnr_se"][0])
    with Image.open(path.with_name("grid.png")) as grid:
        assert min(grid.size) > 256
    assert report([tmp_path]).to_text() == made.to_text()  # what was saved below is no run


def test_without_pictures_the_report_has_none(tmp_path):
    run(tmp_path / "0", [row(psnr=20.0)])
    path = report([tmp_path]).save(tmp_path / "out")
    assert "grid.png" not in path.read_text() and not path.with_name("grid.png").exists()


def test_load_rows_has_the_row_its_settings_and_its_pictures(tmp_path):
    pictures = [("a", 0, "image", torch.zeros(3, 4, 4)), ("a", 0, "truth", torch.zeros(3, 4, 4))]
    rows = [row("a", psnr=20.0, nfe=5), row("b", psnr=math.nan, alive=False)]
    run(tmp_path / "0", rows, overrides=["controller.zeta=0.5"], zeta=0.5, images=pictures)
    frame = load_rows(tmp_path)
    assert frame["item"].tolist() == ["a", "b"] and frame["sample"].tolist() == ["0", "0"]
    assert frame["status"].tolist() == ["ok", "diverged"] and frame["error"].tolist() == ["", "became non-finite"]
    assert frame["psnr"][0] == 20.0 and math.isnan(frame["psnr"][1])
    assert set(frame["controller.zeta"]) == {0.5} and set(frame["controller"]) == {"dps"}
    assert set(frame["overrides"]) == {"controller.zeta=0.5"}
    assert frame["image"][0].endswith("image_0.png") and frame["image"][1] == "" and frame["sd"][0] == ""


def test_failed_rows_and_cells_are_counted_with_their_reason(tmp_path):
    failed = {"item": "b", "sample": 0, "seed": 0, "alive": None, "error": "out of luck"}
    run(tmp_path / "0", [row("a", psnr=20.0), row("c", psnr=22.0), failed])
    run(tmp_path / "1", [], controller="ddnm")
    ResultStore(tmp_path / "1").note(failed="needs a linear operator")
    made = report([tmp_path])
    dps, ddnm = (line(made.table, controller=name) for name in ("dps", "ddnm"))
    assert (dps["n"], dps["failed"], dps["diverged"], dps["psnr"]) == (2, 1, 0, 21.0)
    assert (ddnm["n"], ddnm["failed"]) == (0, 1) and math.isnan(ddnm["psnr"])
    assert "2 rows or cells failed and are in no mean: out of luck; needs a linear operator" in made.to_text()


def test_a_row_that_failed_and_was_computed_later_did_not_fail(tmp_path):
    run(tmp_path / "0", [row("a", psnr=20.0) | {"alive": None, "error": "out of luck"}])
    run(tmp_path / "1", [row("a", psnr=21.0)])
    found = line(report([tmp_path]).table)
    assert (found["n"], found["failed"], found["psnr"]) == (1, 0, 21.0)
