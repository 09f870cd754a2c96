import json
import re

import numpy as np
import pytest
from made_runs import made_run

from rbctrl.report import page, report
from rbctrl.report.publish import publish

ITEMS = {f"{k}.png": value for k, value in enumerate(np.linspace(15.0, 35.0, 6))}


@pytest.fixture
def made(tmp_path):
    for k, controller in enumerate(("tv", "dps")):
        psnr = {item: value + k for item, value in ITEMS.items()}
        made_run(tmp_path / controller, psnr, controller, images=True)
    return report([tmp_path])


def data(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.S)[1])


def test_the_page_holds_every_row_with_command_config_and_pictures(made, tmp_path):
    held = data(publish(made, tmp_path, "title", "command").read_text())
    assert len(held["rows"]) == 12 and len(held["cells"]) == 2 and len(held["paths"]) == 2 * 6 * 3
    assert held["cells"][0]["command"].startswith("rbctrl operator=sr4 controller=")
    assert "_target_: rbctrl.controllers.DPS" in "".join(held["configs"])
    assert all(path.startswith("data:image/png;base64,") for path in held["paths"])
    assert [line["values"][0][3] for line in held["lines"]] == [True, False]  # dps beats tv on every image


def test_large_sets_of_pictures_are_linked_and_not_inlined(made, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "INLINE", 100)
    text = publish(made, tmp_path / "deep/er", "title", "command").read_text()
    paths = data(text)["paths"]
    assert all((tmp_path / "deep/er" / path).is_file() for path in paths) and "move them together" in text


def test_what_a_name_holds_cannot_leave_its_place(tmp_path):
    nasty = "</script><script>alert(1)</script>&amp;"
    made_run(tmp_path / "0", {nasty: 1.0, "b": 2.0}, controller=f"x{nasty}")
    text = publish(report([tmp_path]), tmp_path, nasty, nasty).read_text()
    assert "<script>alert" not in text and data(text)["rows"][0][1] == nasty


def test_the_page_asks_for_nothing_from_a_network(made, tmp_path):
    text = publish(made, tmp_path, "title", "command").read_text()
    without_data = re.sub(r'id="data">.*?</script>', "", re.sub(r"data:image/[^\"]*", "", text), flags=re.S)
    without_references = re.sub(r"<pre>.*?</pre>", "", without_data, flags=re.S)
    assert "http" not in without_references and '<link rel="icon"' in text


def test_undefined_and_infinite_values_are_json(tmp_path):
    made_run(tmp_path / "0", {"a": float("nan"), "b": float("inf"), "c": 1.23456789})
    assert [row[9] for row in data(publish(report([tmp_path]), tmp_path, "t", "c").read_text())["rows"]] == [
        None,
        "inf",
        1.23457,
    ]


def test_plots_references_and_pages_lie_beside_each_other(tmp_path):
    for k, controller in enumerate(("tv", "dps")):
        made_run(tmp_path / controller, ITEMS, controller, nfe=100.0 * k, seconds_per_image=1.0 + k)
    publish(report([tmp_path]), tmp_path / "out", "title", "command")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    plots = {f"psnr_{cost}.{ending}" for cost in ("seconds", "evaluations") for ending in ("png", "pdf")}
    assert names == plots | {"report.html", "report.bib"}


def test_the_same_results_give_the_same_page(made, tmp_path):
    one, two = (publish(report([tmp_path]), tmp_path / "out", "t", "c").read_text() for _ in range(2))
    assert one == two
