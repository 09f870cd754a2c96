import csv
import errno
import json
import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from rbctrl.journal import read as read_journal
from rbctrl.loggers import RowLogger
from rbctrl.results import RUN_COLUMNS, ResultStore, image_path, read_rows, versions


def row(item="a", sample=0, **values):
    return {"item": item, "sample": sample, "seed": 0} | values


def read(folder):
    """The table of a folder, as it is written when a run ends."""
    ResultStore(folder).close()
    with (folder / "rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Recorder(RowLogger):
    def __init__(self):
        self.calls = []

    def start(self, folder, config):
        self.calls.append(("start", folder, config))

    def write(self, rows):
        self.calls.append(("write", [r["item"] for r in rows]))

    def close(self):
        self.calls.append(("close",))


def test_columns_stand_in_the_documented_order(tmp_path):
    given = row(alive=True, nfe=3, lpips=0.5, ssim=0.9, chi2=1.0, psnr=20.0)
    ResultStore(tmp_path).write([given])
    ResultStore(tmp_path).close()
    header = (tmp_path / "rows.csv").read_text().splitlines()[0].split(",")
    assert header == ["item", "sample", "seed", "psnr", "ssim", "lpips", "chi2", *RUN_COLUMNS]


def test_undefined_is_blank_and_infinite_stays(tmp_path):
    values = {"psnr": math.nan, "control_energy": math.inf, "final_cost": None, "nfe": torch.tensor(7), "alive": False}
    ResultStore(tmp_path).write([row(**values)])
    (line,) = read(tmp_path)
    assert [line[name] for name in values] == ["", "inf", "", "7", "False"]
    assert line["vjp"] == ""


def test_numbers_keep_all_their_digits(tmp_path):
    ResultStore(tmp_path).write(
        [row("a", psnr=0.1 + 0.2), row("b", psnr=np.float64(1e-17)), row("c", psnr=torch.tensor(1 / 3).double())]
    )
    assert [float(line["psnr"]) for line in read(tmp_path)] == [0.1 + 0.2, 1e-17, float(torch.tensor(1 / 3))]


def test_names_with_commas_and_quotes_survive(tmp_path):
    names = ["a, b.png", 'say "x".png', "ü/ß.png"]
    ResultStore(tmp_path).write([row(name) for name in names])
    assert [line["item"] for line in read(tmp_path)] == names


def test_a_later_write_may_leave_columns_out_and_add_some(tmp_path):
    store = ResultStore(tmp_path)
    store.write([row(psnr=1.0, chi2=1.0)])
    store.write([row("b", "mean", psnr=2.0, lpips=0.5)])
    assert [(line["sample"], line["psnr"], line["chi2"], line["lpips"]) for line in read(tmp_path)] == [
        ("0", "1.0", "1.0", ""),
        ("mean", "2.0", "", "0.5"),
    ]
    with pytest.raises(ValueError, match="lacks sample, seed"):
        store.write([{"item": "a"}])
    assert len(read(tmp_path)) == 2  # a refused write leaves nothing behind


def test_a_new_store_continues_the_cell(tmp_path):
    ResultStore(tmp_path).write([row(psnr=1.0)])
    ResultStore(tmp_path).write([row("b", psnr=2.0)])
    assert [line["item"] for line in read(tmp_path)] == ["a", "b"]


def test_of_two_rows_the_newest_counts_but_never_a_failure_over_a_result(tmp_path):
    store = ResultStore(tmp_path)
    store.write([row(psnr=1.0, alive=True), row("b", alive=None, error="the disk was away")])
    store.write([row(psnr=2.0, alive=True), row("b", psnr=3.0, alive=True)])
    store.write([row(alive=None, error="cannot be decoded"), row("c", alive=None, error="cannot be decoded")])
    lines = {line["item"]: (line["psnr"], line["alive"], line["error"]) for line in read(tmp_path)}
    assert lines == {"a": ("2.0", "True", ""), "b": ("3.0", "True", ""), "c": ("", "", "cannot be decoded")}


def test_a_mean_over_more_samples_stays(tmp_path):
    for n, psnr in ((4, 1.0), (8, 2.0), (2, 3.0)):
        ResultStore(tmp_path).write([row(sample="mean", psnr=psnr, n_samples=n)])
    assert [(line["psnr"], line["n_samples"]) for line in read(tmp_path)] == [("2.0", "8")]


def journal(folder):
    (file,) = (folder / "journal").glob("*.jsonl")
    return file


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_batch_that_a_kill_tore_is_dropped_as_a_whole_and_the_next_process_goes_on(tmp_path, cut):
    store = ResultStore(tmp_path)
    store.write([row(psnr=1.0)])
    store.write([row("second", psnr=2.0), row("third", psnr=2.0)])
    file = journal(tmp_path)
    file.write_bytes(file.read_bytes()[:-cut])
    again = ResultStore(tmp_path)
    assert [r["item"] for r in again.rows] == ["a"] and again.broken == 1
    again.write([row("fourth", psnr=3.0)])
    assert [line["item"] for line in read(tmp_path)] == ["a", "fourth"]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00garbage",
        b"[1]",
        b'{"rows": 5}',
        b'{"rows": [{"item": 1}]}',
        b'{"rows": [{"item": "a", "sample": 0, "seed": 0, "psnr": "abc"}]}',
        b'{"rows": [{"item": "a", "sample": 0, "seed": 0, "psnr": {"a": 1}}]}',
        b'{"begin": {"future": 1}}',
    ],
)
def test_a_line_that_is_no_record_of_ours_is_counted_and_left_out(tmp_path, line):
    store = ResultStore(tmp_path)
    store.write([{"item": "a", "sample": 0, "seed": 0, "psnr": math.inf, "error": None}])
    (file,) = (tmp_path / "journal").iterdir()
    file.write_bytes(line + b"\n" + file.read_bytes())
    rows, records, broken = read_rows(tmp_path)
    assert (len(rows), rows[0]["psnr"], len(records), broken) == (1, math.inf, 1, 1)


def test_a_full_disk_takes_a_batch_back_and_says_so(tmp_path, monkeypatch):
    store, write = ResultStore(tmp_path), os.write
    store.write([row(psnr=1.0)])
    before = journal(tmp_path).read_bytes()

    def full(file, data):
        """Takes the first 20 bytes of a line and nothing after them."""
        if bytes(data[:1]) == b"{":
            return write(file, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        store.write([row("b", psnr=2.0)])
    monkeypatch.undo()
    assert journal(tmp_path).read_bytes() == before and [r["item"] for r in store.rows] == ["a"]
    store.write([row("c", psnr=3.0)])
    assert [line["item"] for line in read(tmp_path)] == ["a", "c"]


WRITER = """
import sys
from pathlib import Path
from rbctrl.journal import Journal
journal = Journal(Path(sys.argv[1]))
for k in range(100):
    row = {"item": f"{sys.argv[2]}/{k}", "sample": 0, "seed": 0, "error": "x" * 500}
    journal.append({"rows": [row]}, sync=k % 20 == 0)
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name]) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    records, broken = read_journal(tmp_path)
    assert len({r["rows"][0]["item"] for r in records}) == len(records) == 300 and broken == 0


def test_rows_are_on_the_disk_when_the_process_is_killed(tmp_path):
    code = f"""
        import os, signal
        from rbctrl.results import ResultStore
        store = ResultStore({str(tmp_path)!r})
        store.write([{{"item": "a", "sample": 0, "seed": 0, "psnr": 1.5}}])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)])
    assert done.returncode != 0
    assert [(line["item"], line["psnr"]) for line in read(tmp_path)] == [("a", "1.5")]


def test_pictures_are_clamped_and_not_stretched(tmp_path):
    store = ResultStore(tmp_path)
    image = torch.tensor([-7.0, -1.0, -0.5, 0.0, 1.0, 3.0]).expand(3, 2, 6)
    path = store.save_image("a", 0, "image", image)
    with Image.open(path) as saved:
        assert saved.mode == "RGB" and np.array(saved)[0, :, 0].tolist() == [0, 0, 64, 128, 255, 255]
    with Image.open(store.save_image("a", "mean", "sd", image[:1])) as saved:
        assert saved.mode == "L" and np.array(saved)[0].tolist() == [0, 0, 64, 128, 255, 255]
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_are_not_finite_are_magenta(tmp_path, bad, channels):
    image = torch.zeros(channels, 1, 2)
    image[0, 0, 1] = bad
    with Image.open(ResultStore(tmp_path).save_image("a", 0, "image", image)) as saved:
        assert np.array(saved)[0].tolist() == [[128] * 3, [255, 0, 255]]


def test_a_picture_with_pixels_that_are_not_finite_is_never_saved_without_a_warning(tmp_path, caplog):
    store, image = ResultStore(tmp_path), torch.zeros(1, 2, 3)
    store.save_image("fine", 0, "image", image)
    assert not caplog.records
    image[0, 1] = math.nan
    path = store.save_image("sick", 0, "image", image)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and f"{path} has 3 pixels that are not finite" in record.getMessage()
    with Image.open(path) as saved:  # the finite half is what it was
        assert saved.mode == "RGB" and np.array(saved)[0].tolist() == [[128] * 3] * 3
        assert np.array(saved)[1].tolist() == [[255, 0, 255]] * 3


def test_pictures_have_a_place_of_their_own_inside_the_folder(tmp_path):
    names = ["a", "a/b", "a_b", "../a", "..", "a:b", "", "x" * 300, "x" * 301, "/etc/a"]
    paths = [image_path(tmp_path, name, 0, "truth") for name in names]
    assert len(set(paths)) == len(names)
    assert all(path.resolve().is_relative_to(tmp_path / "images") for path in paths)
    assert all(len(path.relative_to(tmp_path / "images").parts) == 2 for path in paths)
    assert all(max(map(len, path.parts)) < 255 for path in paths)
    samples = [image_path(tmp_path, "a", sample, "image").name for sample in (0, 1, "mean")]
    assert samples == ["image_0.png", "image_1.png", "mean.png"]
    assert image_path(tmp_path, "a", 1, "truth") == image_path(tmp_path, "a", 0, "truth")


def test_what_is_no_picture_is_refused(tmp_path):
    store = ResultStore(tmp_path)
    with pytest.raises(ValueError, match=r"\[2, 4, 4\]"):
        store.save_image("a", 0, "image", torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match=r"\[16\]"):
        store.save_image("a", 0, "measurement", torch.zeros(16))
    with pytest.raises(ValueError, match="'thumbnail'"):
        store.save_image("a", 0, "thumbnail", torch.zeros(3, 4, 4))


def test_config_and_versions_are_saved(tmp_path):
    config = {
        "choices": {"operator": "sr4"},
        "overrides": ["a=1e-5"],
        "config": {"lr": 1e-5, "names": ["x"], "n": None},
    }
    store = ResultStore(tmp_path)
    store.save_config(config, versions())
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml")) == config
    found = json.loads((tmp_path / "versions.json").read_text())
    assert {"python", "torch", "numpy", "hydra", "rbctrl", "platform", "threads"} <= set(found)
    assert found["torch"] == torch.__version__ and found["threads"] == str(torch.get_num_threads())


@pytest.mark.parametrize("as_mapping", [True, False])
def test_loggers_see_the_config_every_row_and_the_end(tmp_path, as_mapping):
    logger = Recorder()
    store = ResultStore(tmp_path, {"mine": logger} if as_mapping else [logger])
    store.save_config({"seed": 1}, {})
    store.write([row("a"), row("b")])
    store.write([])
    store.close()
    assert logger.calls == [("start", tmp_path, {"seed": 1}), ("write", ["a", "b"]), ("close",)]
