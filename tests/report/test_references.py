import re
from pathlib import Path

import pytest
import yaml
from made_runs import made_run

import rbctrl
from rbctrl.config import CONF_DIR
from rbctrl.report.references import bibliography, entries
from rbctrl.report.runs import find_runs

SOURCES = "\n".join(file.read_text() for file in Path(rbctrl.__file__).parent.joinpath("controllers").rglob("*.py"))


def field(entry, name):
    return re.search(rf"^\s*{name}\s*=\s*\{{(.*)\}},$", entry, flags=re.M)[1]


@pytest.mark.parametrize("options, entry", entries(), ids=lambda value: value[0] if isinstance(value, tuple) else "")
def test_an_entry_repeats_what_a_docstring_states(options, entry):
    assert field(entry, "url") in SOURCES
    for option in options:
        assert Path(CONF_DIR, "controller", f"{option}.yaml").is_file(), option
    place = SOURCES.index(field(entry, "url"))
    around = re.sub(r"\s+", " ", SOURCES[max(0, place - 400) : place])
    assert field(entry, "author").split(" and ")[0] in around and field(entry, "year") in around
    assert re.sub(r"[{}]", "", field(entry, "title")) in around


def test_each_method_of_a_report_is_cited_once(tmp_path):
    for k, controller in enumerate(["dps", "ddnm", "ddnm_plus", "tv"]):
        made_run(tmp_path / str(k), {"a": 1.0}, controller)
    text = bibliography(find_runs([tmp_path]))
    assert re.findall(r"@\w+\{(\w+),", text) == ["chung2023dps", "wang2023ddnm"]


def test_without_an_entry_the_docstring_is_cited(tmp_path):
    target = "rbctrl.controllers.RBModulation"
    assert "RBModulation" in yaml.safe_load(Path(CONF_DIR, "controller/rb_modulation.yaml").read_text())["_target_"]
    made_run(tmp_path / "0", {"a": 1.0}, target)
    text = bibliography(find_runs([tmp_path]))
    assert (
        "url  = {https://arxiv.org/abs/2405.17401}" in text and "note = {Rout et al., RB-Modulation, ICLR 2025" in text
    )
