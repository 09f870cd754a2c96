import math

import numpy as np
import pytest
from made_runs import made_run

from rbctrl.report import report

ITEMS = [f"{k}.png" for k in range(8)]
HARD = dict(zip(ITEMS, np.linspace(15.0, 35.0, 8)))  # what makes one image harder than another


def shifted(by, wobble=0.0):
    return {item: value + by + wobble * (-1) ** k for k, (item, value) in enumerate(HARD.items())}


def the(made, line, other, metric="psnr"):
    found = [
        d
        for d in made.compared.differences
        if made.compared.units.lines[d.line].label[-1] == line
        and made.compared.units.lines[d.other].label[-1] == other
        and d.metric == metric
    ]
    assert len(found) == 1
    return found[0]


def test_a_small_difference_shows_when_images_are_paired(tmp_path):
    made_run(tmp_path / "0", shifted(0.0), "tv")
    made_run(tmp_path / "1", shifted(0.5, 0.1), "dps")
    made = report([tmp_path], by=["operator", "controller"])
    found = the(made, "tv", "dps")
    assert found.interval.mean == pytest.approx(-0.5) and found.better == "no" and found.interval.n == 8
    assert made.table["psnr_se"].min() > 2 and found.interval.high - found.interval.low < 0.3  # unpaired it would drown
    assert made.compared.winners == {(made.table.index[made.table["controller"] == "dps"][0], "psnr")}


def test_what_chance_explains_is_not_bold(tmp_path):
    made_run(tmp_path / "0", shifted(0.0), "tv")
    made_run(tmp_path / "1", shifted(0.02, 1.0), "dps")
    made = report([tmp_path], by=["operator", "controller"])
    assert the(made, "tv", "dps").better == "open" and not made.compared.winners


def test_the_best_has_to_beat_all_others(tmp_path):
    made_run(tmp_path / "0", shifted(0.0), "tv")
    made_run(tmp_path / "1", shifted(0.5, 0.1), "dps")
    made_run(tmp_path / "2", shifted(0.51, 0.3), "daps")
    assert not report([tmp_path], by=["operator", "controller"]).compared.winners


def test_problems_are_compared_apart(tmp_path):
    for operator, by in (("sr4", 1.0), ("blur", -1.0)):
        made_run(tmp_path / operator / "0", shifted(0.0, 0.1), "tv", operator)
        made_run(tmp_path / operator / "1", shifted(by), "dps", operator)
    made = report([tmp_path])
    won = {made.compared.units.lines[k].label[:2] for k, _ in made.compared.winners}
    assert won == {("sr4", "dps"), ("blur", "tv")}


def test_a_method_that_lost_an_image_wins_nothing(tmp_path):
    made_run(tmp_path / "0", shifted(0.0), "tv")
    made_run(tmp_path / "1", shifted(5.0, 0.1), "dps", alive={"0.png": False})
    made = report([tmp_path], by=["operator", "controller"])
    assert the(made, "tv", "dps").interval.n == 7 and not made.compared.winners
    made_run(tmp_path / "2", shifted(5.0, 0.1) | {"1.png": math.nan}, "daps")
    assert the(report([tmp_path], by=["operator", "controller"]), "tv", "dps").interval.n == 7


def test_seeds_and_samples_of_an_image_count_once(tmp_path):
    for seed in (0, 1, 2):
        made_run(tmp_path / f"tv{seed}", {item: [v, v] for item, v in shifted(0.0).items()}, "tv", seed=seed)
        made_run(tmp_path / f"dps{seed}", {item: [v, v] for item, v in shifted(1.0).items()}, "dps", seed=seed)
    made = report([tmp_path], by=["controller"])
    assert the(made, "tv", "dps").interval.n == 8 and made.table["n"].tolist() == [8, 8]


def test_differences_to_a_named_method(tmp_path):
    for k, (name, by) in enumerate([("tv", 0.0), ("dps", 1.0), ("daps", 2.0)]):
        made_run(tmp_path / str(k), shifted(by, 0.1 * k), name)
    made = report([tmp_path], by=["controller"], against={"controller": "tv"})
    assert {made.compared.units.lines[d.other].label for d in made.compared.differences} == {("tv",)}
    assert the(made, "daps", "tv").interval.mean == pytest.approx(2.0)
    assert "method minus controller=tv" in made.to_text()
    assert len(made.compared.winners) == 1  # who is best does not depend on it
    with pytest.raises(ValueError, match="--against names operator"):
        report([tmp_path], by=["controller"], against={"operator": "sr4"})


def test_a_metric_of_ones_own_needs_a_direction(tmp_path):
    for k, name in enumerate(["tv", "dps"]):
        made_run(tmp_path / name, shifted(0.0), name, mine=float(k))
    assert all(d.metric == "psnr" for d in report([tmp_path]).compared.differences)
    made = report([tmp_path], metrics=["mine:lower"])
    assert the(made, "dps", "tv", "mine").better == "no"
    with pytest.raises(ValueError, match="write mine:higher or mine:lower"):
        report([tmp_path], metrics=["mine:up"])


def test_few_images_have_no_differences_and_the_notes_say_so(tmp_path):
    for name, by in (("tv", 0.0), ("dps", 9.0)):
        made_run(tmp_path / name, {item: shifted(by)[item] for item in ITEMS[:4]}, name)
    made = report([tmp_path])
    assert not made.compared.differences and not made.compared.winners
    assert "nothing in bold below 5 items" in made.to_text()
