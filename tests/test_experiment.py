"""The data flow: rows, pictures, posterior means, divergence."""

import csv
import math
import sys
from dataclasses import replace

import pytest
import torch
from worlds import tiny_prior

from rbctrl.controllers import DPS, Doob, NoControl, Proximal
from rbctrl.controllers.base import Controller
from rbctrl.costs import GaussianNLL, ResidualNorm
from rbctrl.data import Item, Memory
from rbctrl.experiment import Experiment
from rbctrl.grids import LogSNR
from rbctrl.keys import cell_key, in_use
from rbctrl.metrics import PSNR, SSIM, Chi2
from rbctrl.noise import GaussianNoise, NoNoise
from rbctrl.operators import Downsample, RandomMask
from rbctrl.process import Step, ddim
from rbctrl.rng import ImageRNG

NAMES = ("b.png", "a/c.png", "d.png")


def images(names=NAMES, size=16):
    rng = ImageRNG(5, tuple((name, 0) for name in names))
    smooth = torch.nn.functional.avg_pool2d(rng.normal("image", (3, size, size)), 3, 1, 1)
    return [Item(name, image.clamp(-1, 1)) for name, image in zip(names, smooth)]


def sampler(prior, shape):
    return ddim(prior, shape, 4, LogSNR(-4, 6))


def experiment(**kwargs):
    settings = {
        "data": Memory(images()),
        "operator": Downsample(4),
        "noise": GaussianNoise(0.05),
        "cost": ResidualNorm(),
        "sampler": sampler,
        "controller": Proximal(),
        "metrics": {"psnr": PSNR(), "ssim": SSIM(), "chi2": Chi2()},
        "prior": tiny_prior(),
        "device": "cpu",
    }
    return Experiment(**(settings | kwargs))


def run(folder, **kwargs):
    e = experiment(**kwargs)
    value = e.run(folder, {"config": {}, "choices": {}, "overrides": []})
    (table,) = folder.glob("*/rows.csv")
    with open(table) as file:
        return value, list(csv.DictReader(file)), e


MEASURED = ("seconds_per_image", "peak_memory", "batch_size")


def comparable(row):
    return {k: v for k, v in row.items() if k not in MEASURED}


def assert_rows_equal(ours, theirs):
    ours, theirs = ({(r["item"], r["sample"]): comparable(r) for r in rows} for rows in (ours, theirs))
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        for name, value in row.items():
            other = theirs[key][name]
            assert value == other or float(value) == pytest.approx(float(other), rel=1e-4), (key, name)


def test_one_row_per_image_and_its_pictures(tmp_path):
    value, rows, e = run(tmp_path)
    assert [r["item"] for r in rows] == list(NAMES) and {r["sample"] for r in rows} == {"0"}
    assert value == pytest.approx(sum(float(r["psnr"]) for r in rows) / 3, rel=1e-6)
    assert all(r["nfe"] == "4" and r["vjp"] == "0" and r["alive"] in ("True", "1", "true") for r in rows)
    assert sum(p.is_file() for p in tmp_path.rglob("*.png")) == 9 and not e.problems
    assert len(list(tmp_path.glob("*/config.yaml"))) == len(list(tmp_path.glob("*/versions.json"))) == 1


@pytest.mark.parametrize("operator", [Downsample(4), RandomMask(0.5)])
def test_rows_do_not_depend_on_batch_size_order_or_other_images(tmp_path, operator):
    _, rows, _ = run(tmp_path / "all", operator=operator, batch_size=8, n_samples=2)
    _, small, _ = run(tmp_path / "small", operator=operator, batch_size=1, n_samples=2)
    assert_rows_equal(small, rows)
    _, turned, _ = run(tmp_path / "turned", operator=operator, data=Memory(images()[::-1]), batch_size=5, n_samples=2)
    assert_rows_equal(turned, rows)
    _, alone, _ = run(tmp_path / "alone", operator=operator, data=Memory(images()[1:2]), n_samples=2)
    assert_rows_equal(alone, [r for r in rows if r["item"] == "a/c.png"])
    with pytest.raises(AssertionError):
        assert_rows_equal(run(tmp_path / "other", operator=operator, n_samples=2, seed=1)[1], rows)


def test_several_samples_have_a_mean_row_that_is_scored_apart(tmp_path):
    value, rows, _ = run(tmp_path, n_samples=3, batch_size=2)  # an item is split over batches
    means = [r for r in rows if r["sample"] == "mean"]
    assert len(rows) == 12 and len(means) == 3
    for mean in means:
        singles = [r for r in rows if r["item"] == mean["item"] and r["sample"] != "mean"]
        assert float(mean["psnr"]) > sum(float(r["psnr"]) for r in singles) / 3  # convexity of the squared error
        energies = torch.tensor([float(r["control_energy"]) for r in singles], dtype=torch.float64)
        assert int(float(mean["nfe"])) == 12
        assert float(mean["control_energy"]) == pytest.approx(float(energies.mean()), rel=1e-5)
        assert float(mean["control_energy_se"]) == pytest.approx(float(energies.std() / 3**0.5), rel=1e-4)
        assert all(r["control_energy_se"] == "" for r in singles)
    assert value == pytest.approx(sum(float(r["psnr"]) for r in means) / 3, rel=1e-6)


class Explodes(Controller):
    """Makes the rows of one item infinite."""

    def __call__(self, run, x_t, i, state):
        step, state = NoControl()(run, x_t, i, state)
        bad = torch.tensor([item == "a/c.png" for item, _ in run.rng.rows])
        mean = torch.where(bad.view(-1, 1, 1, 1), math.inf, step.mean)
        return Step(step.est, mean, step.std, step.free), state


def test_a_diverged_row_is_reported_and_the_others_are_kept(tmp_path):
    _, healthy, _ = run(tmp_path / "healthy", controller=NoControl())
    _, rows, e = run(tmp_path / "sick", controller=Explodes())
    assert len(e.problems) == 1 and "a/c.png" in e.problems[0] and "non-finite" in e.problems[0]
    assert_rows_equal(rows[:1] + rows[2:], healthy[:1] + healthy[2:])
    assert rows[1]["alive"] == "False" and "non-finite" in rows[1]["error"]
    assert all(rows[1][name] == "" and rows[0][name] != "" for name in ("psnr", "final_cost", "control_energy"))


def test_the_score_of_a_run_is_the_mean_over_finite_items_and_says_how_many_it_left_out(tmp_path, caplog):
    value, rows, _ = run(tmp_path / "sick", controller=Explodes())
    scores = [float(r["psnr"]) for r in rows if r["psnr"]]
    assert len(scores) == 2 and value == pytest.approx(sum(scores) / 2, rel=1e-6)
    (warning,) = [r.getMessage() for r in caplog.records if "leaves them out" in r.getMessage()]
    assert warning.startswith("psnr is not finite for 1 of 3 items")
    caplog.clear()
    value, rows, _ = run(tmp_path / "healthy")
    assert value == pytest.approx(sum(float(r["psnr"]) for r in rows) / 3, rel=1e-6)
    assert not caplog.records


def test_a_cost_that_nobody_descends_may_be_undefined_and_is_blank(tmp_path):
    _, rows, _ = run(tmp_path / "none", cost=GaussianNLL(), noise=NoNoise(), n_samples=2)
    assert len(rows) == 9 and all(r["final_cost"] == "" and r["psnr"] != "" for r in rows)
    _, rows, _ = run(tmp_path / "noisy", cost=GaussianNLL(), n_samples=2)
    assert all(float(r["final_cost"]) > 0 for r in rows)
    with pytest.raises(ValueError, match="set cost.sigma_y or add noise"):
        experiment(cost=GaussianNLL(), noise=NoNoise(), controller=DPS())


def test_peak_memory_that_nobody_recorded_is_blank_in_every_row(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # what Windows gives
    _, rows, _ = run(tmp_path, n_samples=2)
    assert len(rows) == 9 and all(r["peak_memory"] == "" for r in rows)


def test_a_measurement_without_truth_is_restored_and_has_no_psnr(tmp_path):
    y = torch.linspace(-1, 1, 48).view(3, 4, 4)
    _, rows, _ = run(tmp_path, data=Memory([Item("y.png", None, y)]))
    assert rows[0]["psnr"] == "" and rows[0]["chi2"] != ""
    assert not list(tmp_path.rglob("truth*"))


def test_what_cannot_work_is_refused_before_weights_are_read(tmp_path):
    class Unloaded(type(tiny_prior())):
        def load(self):
            raise AssertionError("weights were read")

    prior = tiny_prior()
    prior.__class__ = Unloaded
    with pytest.raises(ValueError, match="closed form"):
        experiment(controller=Doob(), prior=prior)
    with pytest.raises(AssertionError, match="weights were read"):
        run(tmp_path, prior=prior)
    for kwargs, word in (
        ({"n_samples": 0}, "n_samples"),
        ({"batch_size": 0}, "batch_size"),
        ({"dtype": "float16"}, "float32"),
        ({"device": "toaster"}, "toaster"),
    ):
        with pytest.raises(ValueError, match=word):
            experiment(**kwargs)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU"):
            experiment(device="cuda")


def test_key_of_a_cell_holds_what_determines_a_row_and_nothing_else():
    record = {"config": {"controller": {"zeta": 1.0}, "metrics": {"psnr": {}}, "batch_size": 8}}
    key = cell_key(record, "abc")
    assert key == cell_key({"config": {"controller": {"zeta": 1.0}, "metrics": {}, "batch_size": 1}}, "abc")
    assert key != cell_key({"config": {"controller": {"zeta": 2.0}}}, "abc")
    assert key != cell_key(record, "abd")
    sized = [
        {"config": record["config"] | {"data": {"size": size, "n": n}}} for size, n in ((64, 1), (64, 9), (128, 1))
    ]
    small, more, large = (cell_key(r, "abc") for r in sized)
    assert small == more != large


def test_a_younger_option_at_rest_leaves_the_keys_of_older_results():
    old, rest, used = (
        {"config": {"prior": {"stride": 8} | more}} for more in ({}, {"compile": False}, {"compile": True})
    )
    assert cell_key(old, "abc") == cell_key(rest, "abc") != cell_key(used, "abc")
    assert in_use(rest["config"]) == old["config"] and in_use(used["config"]) == used["config"]
    assert rest["config"]["prior"]["compile"] is False  # as it was


def test_what_stands_in_a_file_is_part_of_the_key(tmp_path):
    file = tmp_path / "mask.png"
    record = {"config": {"operator": {"path": str(file)}}}
    keys = [cell_key(record, "")]
    for content in (b"one", b"other", b"one"):
        file.write_bytes(content)
        keys.append(cell_key(record, ""))
    absent, one, other, again = keys
    assert one == again and len({absent, one, other}) == 3


def test_what_is_no_metric_is_refused_and_not_dropped():
    for metrics, word in (({"psnr": PSNR}, "the class PSNR"), ({"mine": 3}, "a int"), ([PSNR()], "got a list")):
        with pytest.raises(TypeError, match=word):
            experiment(metrics=metrics)


def test_a_dead_sample_does_not_blank_the_energy_of_the_mean(tmp_path):
    class OneSampleExplodes(Controller):
        def __call__(self, run, x_t, i, state):
            step, state = DPS()(run, x_t, i, state)
            bad = torch.tensor([row == ("a/c.png", 1) for row in run.rng.rows])
            return replace(step, mean=torch.where(bad.view(-1, 1, 1, 1), math.inf, step.mean)), state

    _, rows, _ = run(tmp_path, controller=OneSampleExplodes(), n_samples=3)
    energies = [float(r["control_energy"]) for r in rows if r["item"] == "a/c.png" and r["sample"] in "02"]
    mean = next(r for r in rows if r["item"] == "a/c.png" and r["sample"] == "mean")
    assert float(mean["control_energy"]) == pytest.approx(sum(energies) / 2, rel=1e-6)
    assert (mean["n_alive"], mean["alive"]) == ("2", "False")
    assert all(r["n_alive"] == "3" for r in rows if r["sample"] == "mean" and r["item"] != "a/c.png")
    assert all(r["n_alive"] == "" for r in rows if r["sample"] != "mean")


def test_data_that_do_not_fit_are_refused_before_weights_are_read(tmp_path):
    prior = tiny_prior()
    prior.load = None  # calling it would fail
    with pytest.raises(ValueError, match="measures images"):
        run(tmp_path, prior=prior, data=Memory([Item("v", torch.zeros(4))]))
    with pytest.raises(ValueError, match="outputs/latest"):
        experiment(study="latest")
