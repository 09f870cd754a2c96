"""A cell that is stopped, broken, enlarged or shared, and computes exactly what is missing."""

import errno
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_experiment import Explodes, experiment, images

from rbctrl import work
from rbctrl.claims import Claimed, claim, is_claimed
from rbctrl.controllers import NoControl, Particles
from rbctrl.data import Folder, Memory
from rbctrl.journal import read
from rbctrl.keys import cell_key
from rbctrl.metrics import PSNR, Metric
from rbctrl.results import ResultStore, read_rows
from rbctrl.solver import Solver

MEASURED = ("seconds_per_image", "peak_memory", "batch_size")
RECORD = {"config": {"controller": {"name": "mine"}}, "choices": {}, "overrides": ["a=1"]}
ITEMS = images(("a", "b", "c", "d", "e"))


class Stop(BaseException):
    """The process ends here."""


def run(folder, **kwargs):
    e = experiment(**({"data": Memory(ITEMS), "batch_size": 2} | kwargs))
    return e.run(folder, RECORD), e


def rows(folder):
    """(item, sample) to row, without what is measured."""
    (cell,) = [path.parent for path in Path(folder).glob("*/journal")]
    return {
        (r["item"], str(r["sample"])): {k: v for k, v in r.items() if k not in MEASURED} for r in read_rows(cell)[0]
    }


def written(folder):
    """The keys of all rows that were ever written, in order."""
    (cell,) = Path(folder).glob("*/journal")
    return [(r["item"], str(r["sample"])) for record in read(cell)[0] for r in record.get("rows", [])]


@pytest.fixture
def solved(monkeypatch):
    """The rows that were computed, batch by batch."""
    batches, solve = [], Solver.solve
    monkeypatch.setattr(
        Solver, "solve", lambda self, batch, *args: (batches.append(batch.rows), solve(self, batch, *args))[1]
    )
    return batches


def stop_at(monkeypatch, place, number):
    """Ends the process the n-th time it comes to a place."""
    module, name = place
    original, count = getattr(module, name), [0]

    def stopping(*args, **kwargs):
        count[0] += 1
        if count[0] == number:
            raise Stop
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, stopping)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of undisturbed runs: three samples in batches of two, so images are split over batches."""
    folders = {keep: tmp_path_factory.mktemp(keep) for keep in ("samples", "means")}
    for keep, folder in folders.items():
        run(folder, n_samples=3, keep=keep)
    return {keep: rows(folder) for keep, folder in folders.items()}


STOPS = [("write", 2), ("write", 5), ("save_image", 3), ("save_image", 9), ("replace_file", 1), ("replace_file", 4)]


@pytest.mark.parametrize("keep", ["samples", "means"])
@pytest.mark.parametrize(("place", "number"), STOPS)
def test_stopped_anywhere_and_repeated_it_gives_the_rows_of_an_undisturbed_run(
    tmp_path, monkeypatch, whole, place, number, keep
):
    with monkeypatch.context() as patch:
        stop_at(patch, (work if place == "replace_file" else ResultStore, place), number)
        with pytest.raises(Stop):
            run(tmp_path, n_samples=3, keep=keep)
    run(tmp_path, n_samples=3, keep=keep)
    assert rows(tmp_path) == whole[keep]
    assert len(written(tmp_path)) == len(set(written(tmp_path)))  # no row was computed twice to completion
    assert not list(tmp_path.glob("*/partial/*"))


def test_a_repeated_run_computes_nothing_and_reads_no_weights(tmp_path, solved, monkeypatch):
    value, e = run(tmp_path)
    n = len(solved)
    monkeypatch.setattr(type(e.prior), "load", lambda self: pytest.fail("weights were read"))
    assert run(tmp_path, prior=e.prior)[0] == value and len(solved) == n
    assert run(tmp_path, prior=e.prior, batch_size=3, metrics={"psnr": PSNR()})[0] == value and len(solved) == n


def test_more_images_and_samples_compute_the_difference(tmp_path, solved):
    run(tmp_path / "whole", n_samples=1, batch_size=8)
    solved.clear()
    run(tmp_path / "grown", data=Memory(ITEMS[:3]))
    run(tmp_path / "grown", data=Memory(ITEMS[:2]))
    run(tmp_path / "grown", data=Memory(ITEMS), batch_size=8)
    assert solved == [(("a", 0), ("b", 0)), (("c", 0),), (("d", 0), ("e", 0))]
    one, other = rows(tmp_path / "whole"), rows(tmp_path / "grown")
    assert one.keys() == other.keys()
    for key, row in one.items():  # batches of another composition
        assert row["psnr"] == pytest.approx(other[key]["psnr"], rel=1e-5)


def test_more_samples_keep_the_rows_and_exact_images_keep_the_computation(tmp_path, solved):
    for images_, computed in (("png", [(("a", 0), ("a", 1)), (("a", 2), ("a", 3))]), ("exact", [(("a", 2), ("a", 3))])):
        folder, settings = tmp_path / images_, {"data": Memory(ITEMS[:1]), "images": images_}
        run(folder, n_samples=2, **settings)
        before = rows(folder)
        solved.clear()
        run(folder, n_samples=4, **settings)
        assert solved == computed
        after = rows(folder)
        assert after["a", "mean"]["n_samples"] == 4 and before["a", "mean"]["n_samples"] == 2
        assert all(after["a", k] == before["a", k] for k in "01")
        run(tmp_path / f"{images_}-whole", n_samples=4, **settings)
        assert after == rows(tmp_path / f"{images_}-whole")


def test_exact_images_are_the_bits_that_were_scored(tmp_path):
    run(tmp_path, images="exact")
    (cell,) = tmp_path.glob("*")
    image = torch.from_numpy(np.load(cell / "images" / "a" / "image_0.npy"))
    assert float(PSNR()(image[None], ITEMS[0].image[None], None)) == rows(tmp_path)["a", "0"]["psnr"]


def test_an_image_that_changed_under_the_same_name_is_computed_anew(tmp_path, solved):
    run(tmp_path, data=Memory(ITEMS[:2]))
    (changed,) = images(("a",), size=16)
    changed = type(changed)("a", -changed.image)
    solved.clear()
    run(tmp_path, data=Memory([changed, ITEMS[1]]))
    assert solved == [(("a", 0),)]
    run(tmp_path / "fresh", data=Memory([changed, ITEMS[1]]))
    assert rows(tmp_path)["a", "0"]["content"] == rows(tmp_path / "fresh")["a", "0"]["content"]


class Breaks(Metric):
    """Fails on some images."""

    def __init__(self, levels):
        self.levels = levels

    def __call__(self, image, truth, obs):
        if any(float(t.mean()) in self.levels for t in truth):
            raise RuntimeError("a bug\nin a metric")
        return PSNR()(image, truth, obs)


def test_a_batch_that_raises_is_rows_with_the_reason_and_is_tried_again(tmp_path, solved):
    bad = Breaks([float(ITEMS[2].image.mean())])
    value, e = run(tmp_path, metrics={"psnr": bad})
    assert e.problems == ["rows failed: RuntimeError: a bug in a metric"] and math.isfinite(value)
    found = rows(tmp_path)
    assert [k for k, r in found.items() if r["alive"] is None] == [("c", "0"), ("d", "0")]
    assert found["c", "0"]["error"] == "RuntimeError: a bug in a metric"
    solved.clear()
    run(tmp_path, metrics={"psnr": PSNR()})
    run(tmp_path / "whole", metrics={"psnr": PSNR()})
    assert solved[0] == (("c", 0), ("d", 0)) and rows(tmp_path) == rows(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="a bug"):
        run(tmp_path / "all", metrics={"psnr": Breaks([float(i.image.mean()) for i in ITEMS])})


def test_a_diverged_row_is_a_result_that_is_named_again_and_not_computed_again(tmp_path, solved):
    data = Memory(images())
    _, e = run(tmp_path, data=data, controller=Explodes())
    assert len(e.problems) == 1 and rows(tmp_path)["a/c.png", "0"]["alive"] is False
    solved.clear()
    _, again = run(tmp_path, data=data, controller=Explodes())
    assert again.problems == e.problems and not solved


def test_a_damaged_file_is_a_row_with_its_reason_until_it_is_mended(tmp_path, solved):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":
        Image.fromarray(np.full((16, 16, 3), 40 * ord(name) % 255, np.uint8)).save(folder / f"{name}.png")
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[:60])
    _, e = run(tmp_path / "out", data=Folder(folder))
    assert len(e.problems) == 1 and "b.png cannot be decoded" in e.problems[0]
    assert rows(tmp_path / "out")["b.png", "0"]["error"].startswith("cannot be decoded")
    run(tmp_path / "out", data=Folder(folder))
    assert len(written(tmp_path / "out")) == 3  # the reason is not repeated
    (folder / "b.png").write_bytes(whole)
    solved.clear()
    _, e = run(tmp_path / "out", data=Folder(folder))
    assert solved == [(("b.png", 0),)] and not e.problems and rows(tmp_path / "out")["b.png", "0"]["alive"]


def test_a_full_disk_ends_the_run_and_keeps_what_was_finished(tmp_path, monkeypatch):
    write, count = ResultStore.write, [0]

    def full(self, rows):
        count[0] += 1
        if count[0] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, rows)

    monkeypatch.setattr(ResultStore, "write", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    monkeypatch.undo()
    assert list(rows(tmp_path)) == [("a", "0"), ("b", "0"), ("c", "0"), ("d", "0")]
    run(tmp_path)
    run(tmp_path / "whole")
    assert rows(tmp_path) == rows(tmp_path / "whole")


def test_a_cloud_is_computed_as_a_whole(tmp_path, solved):
    settings = {"data": Memory(ITEMS[:1]), "controller": Particles(NoControl(), 2), "batch_size": 4}
    run(tmp_path, n_samples=2, **settings)
    solved.clear()
    run(tmp_path, n_samples=6, **settings)
    assert [[sample for _, sample in batch] for batch in solved] == [[0, 1, 2, 3], [4, 5]]


def test_a_cell_that_another_process_computes_is_left_to_it_or_waited_for(tmp_path):
    e = experiment(data=Memory(ITEMS[:1]))
    folder = e.folder(tmp_path, RECORD)
    with claim(folder):
        assert is_claimed(folder)
        with pytest.raises(Claimed, match="process"):
            e.run(tmp_path, RECORD, wait=False)
        waiting = threading.Thread(target=e.run, args=(tmp_path, RECORD))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and not list(folder.glob("journal/*"))
    waiting.join(60)
    assert not is_claimed(folder) and list(rows(tmp_path)) == [("a", "0")]


def test_without_a_config_nothing_is_taken_for_done(tmp_path, solved):
    for _ in range(2):
        experiment(data=Memory(ITEMS[:1])).run(tmp_path, {})
    assert len(solved) == 2 and len(list(tmp_path.glob("*/journal"))) == 2


def test_the_seed_and_the_settings_are_cells_of_their_own(tmp_path):
    run(tmp_path)
    run(tmp_path, seed=1)
    experiment(data=Memory(ITEMS)).run(tmp_path, {"config": {"controller": {"name": "other"}}})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3 and {name.rpartition("-")[2] for name in names} == {"0", "1"}
    assert f"{cell_key(RECORD, '')}-0" in names
