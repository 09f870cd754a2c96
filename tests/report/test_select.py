import pytest
from made_runs import made_run

from rbctrl.report import report

TRAIN, TEST = ["train_0", "train_1"], ["test_0", "test_1", "test_2"]


def cell(folder, zeta, train, test, **settings):
    made_run(folder, dict.fromkeys(TRAIN, train) | dict.fromkeys(TEST, test), zeta=zeta, **settings)


@pytest.fixture
def study(tmp_path):
    cell(tmp_path / "0", 0.5, train=20.0, test=30.0)
    cell(tmp_path / "1", 1.0, train=25.0, test=21.0)  # the best on the training images only
    cell(tmp_path / "2", 2.0, train=10.0, test=10.0, controller="daps")
    return tmp_path


def test_a_setting_is_chosen_on_some_items_and_scored_on_the_others(study):
    made = report([study], select_by="psnr", on=["train_*"])
    assert list(made.by) == ["operator", "controller"]
    found = made.table.set_index("controller")
    assert found.loc["dps", "psnr"] == 21.0 and found.loc["dps", "n"] == 3
    assert found.loc["dps", "chosen"] == "controller.zeta=1.0" and found.loc["daps", "chosen"] == "the only one"
    assert "chosen by psnr on 2 other items, which are not in the table" in made.to_text()
    assert "3 images" in made.footnote


def test_a_table_that_selects_on_what_it_reports_says_so(study):
    made = report([study], select_by="psnr")
    assert made.table.set_index("controller").loc["dps", "psnr"] == pytest.approx((2 * 20 + 3 * 30) / 5)
    assert "its numbers are optimistic" in made.to_text()
    assert "optimistic" not in report([study]).to_text()


def test_lower_is_better_where_it_is(study):
    made = report([study], select_by="psnr:lower", on=["train_*"])
    assert made.table.set_index("controller").loc["dps", "psnr"] == 30.0


def test_a_setting_that_diverged_on_an_item_for_selection_is_out(study):
    made_run(study / "3", dict.fromkeys(TRAIN + TEST, 99.0), zeta=3.0, alive={"train_0": False})
    assert report([study], select_by="psnr", on=["train_*"]).table.set_index("controller").loc["dps", "psnr"] == 21.0


def test_settings_are_judged_on_the_items_that_all_have(study):
    made_run(study / "3", {"train_1": 24.0} | dict.fromkeys(TEST, 50.0), zeta=3.0)
    made_run(study / "4", {"train_0": 1.0, "train_1": 26.0} | dict.fromkeys(TEST, 60.0), zeta=4.0)
    assert report([study], select_by="psnr", on=["train_*"]).table.set_index("controller").loc["dps", "psnr"] == 60.0


def test_seeds_of_the_chosen_setting_stay_together(study):
    cell(study / "5", 1.0, train=25.0, test=23.0, seed=1)
    found = report([study], select_by="psnr", on=["train_*"]).table.set_index("controller")
    assert found.loc["dps", "psnr"] == 22.0 and found.loc["dps", "n"] == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"on": ["train_*"]}, "name the metric to choose by, --select psnr"),
        ({"select_by": "psnr", "on": ["valid_*"]}, "'valid_\\*' matches no item: there are test_0, "),
        ({"select_by": "psnr", "on": ["*"]}, "every item is used for selection"),
        ({"select_by": "chi2", "on": ["train_*"]}, "no column 'chi2'"),
        ({"select_by": "seed", "on": ["train_*"]}, "no column 'seed'"),
        ({"select_by": "psnr", "by": ["controller", "item"]}, "leave item out of --by"),
    ],
)
def test_a_selection_that_cannot_be_made_is_one_sentence(study, arguments, message):
    with pytest.raises(ValueError, match=message):
        report([study], **arguments)
