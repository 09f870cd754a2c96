import numpy as np
import torch

from rbctrl.report import report
from rbctrl.report.grid import GAP, TILE, Tile, _caption, _compose, _scaled
from rbctrl.report.runs import Row
from rbctrl.results import ResultStore, to_picture


def checker(size, channels=3):
    index = torch.arange(size)
    return (2.0 * ((index[:, None] + index) % 2) - 1).expand(channels, size, size)


def run(folder, operator="sr4", controller="dps", items=("a",), seed=0, truth=True, level=0.5, **values):
    store = ResultStore(folder)
    choices = {"operator": operator, "controller": controller}
    store.save_config({"choices": choices, "config": {"seed": seed}}, {})
    for item in items:
        store.write([{"item": item, "sample": 0, "seed": seed, "psnr": 25.0, "alive": True} | values])
        store.save_image(item, 0, "image", torch.full((3, 16, 16), level))
        store.save_image(item, 0, "measurement", checker(4))
        if truth:
            store.save_image(item, 0, "truth", checker(16))


def columns_of(grid, n, n_lines=1):
    """The pixels of the n tiles of the first line, found from the right and lower edge, [n, TILE, TILE, 3]."""
    pixels = np.array(grid)
    height = TILE + 2 * 20 + 2 * GAP
    top = pixels.shape[0] - n_lines * height
    lefts = [pixels.shape[1] - (n - k) * (TILE + GAP) for k in range(n)]
    return np.stack([pixels[top : top + TILE, left : left + TILE] for left in lefts])


def test_pixels_are_enlarged_without_smoothing(tmp_path):
    run(tmp_path)
    y, image, truth = columns_of(report([tmp_path]).grid, 3)
    for tile, size in ((y, 4), (truth, 16)):
        expected = np.kron(np.array(to_picture(checker(size)))[..., 0], np.ones((TILE // size, TILE // size)))
        assert (tile == expected[..., None]).all()
    assert (image == 191).all()


def test_masked_pixels_are_gray():
    y = torch.where(torch.arange(8) < 4, 0.9, 0.0).expand(3, 8, 8)  # an observation is 0 where nothing is measured
    pixels = np.array(_scaled(to_picture(y)))
    assert (pixels[:, TILE // 2 :] == 128).all() and (pixels[:, : TILE // 2] == 242).all()


def test_large_pictures_shrink_and_keep_their_shape():
    assert _scaled(to_picture(torch.zeros(3, 600, 1200))).size == (TILE, TILE // 2)
    assert _scaled(to_picture(torch.zeros(3, 100, 50))).size == (100, 200)


def test_a_line_per_problem_and_item_a_column_per_method(tmp_path):
    items = ("a", "b", "c")
    for operator in ("sr4", "blur"):
        for level, controller in enumerate(("dps", "ddnm")):
            run(tmp_path / operator / controller, operator, controller, items, level=float(level))
    grid = report([tmp_path]).grid
    height = TILE + 2 * 20 + 2 * GAP
    assert grid.height // height == 4  # two items of each of two operators
    y, ddnm, dps, truth = columns_of(grid, 4, 4)
    assert (ddnm == 255).all() and (dps == 128).all()
    both, alone = (report([tmp_path / "sr4" / name]).grid for name in ("", "dps"))
    assert both.width - alone.width == TILE + GAP


def test_operators_do_not_share_a_line_when_the_table_pools_them(tmp_path):
    run(tmp_path / "0", "sr4")
    run(tmp_path / "1", "blur")
    one, two = (report([tmp_path], by=by).grid for by in (["controller"], None))
    assert one.size == two.size


def test_without_truth_its_column_is_left_out(tmp_path):
    run(tmp_path / "with")
    run(tmp_path / "without", truth=False)
    with_truth, without = (report([tmp_path / name]).grid for name in ("with", "without"))
    assert with_truth.width - without.width == TILE + GAP


def test_methods_that_were_not_run_or_left_no_picture_stay_empty(tmp_path):
    run(tmp_path / "0", "sr4", "dps")
    run(tmp_path / "1", "blur", "ddnm")
    path = next((tmp_path / "1").rglob("image_0.png"))
    path.write_bytes(path.read_bytes()[:60])
    y, ddnm, dps, truth = columns_of(report([tmp_path]).grid, 4, 2)  # the first line is blur
    assert (ddnm == 235).all() and (dps == 235).all()
    assert (truth != 235).all()


def test_captions_say_psnr_evaluations_and_seconds():
    values = {"psnr": 27.314, "nfe": 100.0, "vjp": 100.0, "seconds_per_image": 3.14}
    assert _caption(Row("a", "0", "0", True, values)) == ("27.31 dB", "200 evaluations, 3.1 s")
    assert _caption(Row("a", "0", "0", False, values, "diverged")) == ("diverged", "200 evaluations, 3.1 s")
    assert _caption(Row("a", "0", "0", True, {"psnr": None, "nfe": 0.0})) == ("0 evaluations",)


def test_captions_are_drawn_below_their_tile():
    blank, written = (_compose([["a"]], ["x"], [[Tile(checker_tile(), c)]]) for c in ((), ("27.31 dB",)))
    differs = (np.array(blank) != np.array(written)).any(2)
    rows = np.flatnonzero(differs.any(1))
    assert rows.min() >= blank.height - 2 * 20 - 2 * GAP and rows.max() < blank.height


def checker_tile():
    return _scaled(to_picture(checker(16)))


def test_the_mean_is_shown_when_means_are_reported(tmp_path):
    run(tmp_path)
    store = ResultStore(tmp_path)
    store.write([{"item": "a", "sample": "mean", "seed": 0, "psnr": 30.0}])
    store.save_image("a", "mean", "mean", torch.ones(3, 16, 16))
    assert (columns_of(report([tmp_path], sample="mean").grid, 3)[1] == 255).all()
    assert (columns_of(report([tmp_path]).grid, 3)[1] == 191).all()
