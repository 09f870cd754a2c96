import re

import numpy as np
import pytest
from made_runs import made_run
from omegaconf import OmegaConf

from rbctrl.report import report
from rbctrl.report.latex import escaped
from rbctrl.report.publish import latex_table
from rbctrl.tuning.preset import settings_of

HARD = {f"{k}.png": value for k, value in enumerate(np.linspace(15.0, 35.0, 8))}


@pytest.fixture
def text(tmp_path):
    for operator in ("sr4", "inpaint_box"):
        for k, controller in enumerate(("tv", "dps", "rb_modulation")):
            shift = 1.0 * k if operator == "sr4" else 0.0
            psnr = {item: v + shift + 0.3 * np.sin(7 * k + v) for item, v in HARD.items()}
            made_run(tmp_path / operator / controller, psnr, controller, operator, nfe=100.0)
    (tmp_path / "sr4" / "tv" / "x").mkdir()
    made = report([tmp_path], by=["controller", "operator"], metrics=["psnr", "nfe"])
    return latex_table(made, "ablation", "rbctrl report outputs/ablation")


def test_problems_are_columns_and_methods_are_lines(text):
    assert r"\multicolumn{2}{c}{inpaint\_box} & \multicolumn{2}{c}{sr4} \\" in text
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}" in text
    assert r"method & PSNR $\uparrow$ & NFE & PSNR $\uparrow$ & NFE \\" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert [line.split("&")[0].strip() for line in body] == ["dps", r"rb\_modulation", "tv"]
    assert all(line.count("&") == 4 and line.endswith(r"\\") for line in body)


def test_bold_is_only_what_the_bootstrap_is_sure_of(text):
    bold = re.findall(r"\\textbf\{([\d.]+)\}", text)
    assert len(bold) == 1
    line = next(line for line in text.splitlines() if r"\textbf" in line)
    assert line.startswith(r"rb\_modulation") and line.index(r"\textbf") > line.index("100")  # sr4, not inpaint_box
    assert "Bold: better than every other method" in text


def test_environments_and_braces_balance(text):
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\label{tab:ablation}"))
    assert text.startswith("% made by: rbctrl report outputs/ablation\n")


def test_the_footnote_stands_below_the_table(text):
    text = text.split(r"\end{tabular}")[1]
    assert "8 images; data folder (path photos)" in text
    assert r"sigma\_y 0.05 on [-1, 1] = 0.025 on [0, 1] = 6.375 of 255" in text


def test_entries_of_a_metric_have_the_same_decimals(text):
    assert len({len(number.partition(".")[2]) for number in re.findall(r"\d\d\.\d+", text.split(r"\midrule")[1])}) == 1


def test_rows_that_were_lost_are_counted(tmp_path):
    made_run(tmp_path / "0", {"a": 20.0, "b": 21.0, "c": 30.0}, alive={"c": False})
    made_run(tmp_path / "1", {"a": 20.0}, "tv", "blur")
    text = latex_table(report([tmp_path], metrics=["psnr"]), "t", "x")
    assert r"20.50 {\scriptsize$\pm$ 0.50}$^{(1)}$" in text and "--" in text  # tv was not run on sr4


def test_special_characters_are_escaped():
    assert escaped(r"a_b 5% {x} ~ ^ \ & # $") == (
        r"a\_b 5\% \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \& \# \$"
    )


def test_cells_that_were_not_tuned_are_marked_beside_tuned_ones(tmp_path):
    made_run(tmp_path / "0", {"a": 20.0})
    made_run(tmp_path / "1", {"a": 21.0}, "tv")
    assert r"\dagger" not in latex_table(report([tmp_path]), "t", "x") and "tuned" not in report([tmp_path]).table
    file = tmp_path / "0" / "config.yaml"
    record = OmegaConf.to_container(OmegaConf.load(file))
    record["config"]["tuned"] = {"settings": settings_of(record["config"])}
    file.write_text(OmegaConf.to_yaml(record))
    made = report([tmp_path])
    assert dict(zip(made.table["controller"], made.table["tuned"])) == {"dps": "yes", "tv": "no"}
    lines = latex_table(made, "t", "x").splitlines()
    assert [r"\dagger" in line for line in lines if line.startswith(("dps", "tv"))] == [False, True]
    assert r"$\dagger$: settings that were not tuned." in "\n".join(lines)
    record["config"]["controller"]["zeta"] = 9.0  # no longer what was tuned
    file.write_text(OmegaConf.to_yaml(record))
    assert "tuned" not in report([tmp_path]).table
