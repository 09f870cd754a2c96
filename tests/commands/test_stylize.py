"""`rbctrl stylize`: the run that its words mean, on tiny random models, and what it cannot do in one sentence."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import text_models
from omegaconf import OmegaConf
from PIL import Image

from rbctrl.cli import main
from rbctrl.commands.run import compose
from rbctrl.commands.stylize import words
from rbctrl.commands.stylize_options import parse
from rbctrl.literal import quoted
from rbctrl.pictures import image_path

NASTY = 'a "cat", it\'s {on} [a] mat=1; 50% $HOME ${x} \\${ — 猫 # no comment'
QUICK = ["sampler.n_steps=3", "batch_size=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("stylize")
    text_models.save_sd(root / "sd")
    text_models.save_cascade(root / "cascade")
    generator = np.random.default_rng(0)
    for name, sides in {"ref, a=b.png": (40, 48), "obj.png": (64, 64), "mask.png": (64, 64)}.items():
        Image.fromarray(generator.integers(256, size=(*sides, 3), dtype=np.uint8)).save(root / name)
    (root / "text.png").write_text("no picture")
    (root / "csd.bin").write_bytes(b"weights")
    return root


@pytest.fixture(autouse=True)
def place(folder, tmp_path, monkeypatch):
    """Pictures and models here, results in a folder of each test."""
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RBCTRL_WEIGHTS", str(tmp_path))
    return tmp_path


SD = ["prior=sd15", "prior.model=sd", "--size=32", *QUICK]
STYLE = ["--style", "ref, a=b.png"]


def made(*args):
    """The resolved configuration that the words of the command compose."""
    return OmegaConf.to_container(compose(words(parse([*args]))), resolve=True)


def cells_of(study):
    return [folder for folder in sorted((Path("outputs") / study).iterdir()) if (folder / "rows.csv").exists()]


def rows(study):
    (cell,) = cells_of(study)
    return pd.read_csv(cell / "rows.csv")


def picture(cell):
    return np.asarray(Image.open(image_path(cell, STYLE[1], 0, "image"))).astype(int)


def test_a_run_has_the_prompt_as_it_was_typed_and_is_the_run_of_its_words(capsys):
    assert main(["stylize", *SD, *STYLE, "--descriptor=gram", "--prompt", NASTY, "study=one"]) == 0
    (cell,) = cells_of("one")
    record = OmegaConf.to_container(OmegaConf.load(cell / "config.yaml"), resolve=True)
    assert record["config"]["prior"]["prompt"] == NASTY
    table = rows("one")
    assert table.item.tolist() == ["ref, a=b.png"] and table.alive.all()
    assert {"similarity", "similarity_gram", "final_cost"} <= set(table.columns)
    assert table.similarity[0] == pytest.approx(1 - table.final_cost[0], abs=1e-5)
    assert "| style" in capsys.readouterr().out
    assert main([*[word for word in record["overrides"] if not word.startswith("study")], "study=two"]) == 0
    timing = ["seconds_per_image", "peak_memory"]
    pd.testing.assert_frame_equal(rows("one").drop(columns=timing), rows("two").drop(columns=timing))
    (again,) = cells_of("two")
    assert again.name == cell.name


def test_a_sweep_has_a_cell_of_each_method_and_no_control_is_the_base_to_the_last_bit():
    sweep = ["-m", "controller=none,rb_modulation", "study=sweep"]
    assert main(["stylize", *SD, *sweep, *STYLE, "--descriptor", "gram", "--prompt", NASTY]) == 0
    base = ["data=folder", f"data.path={quoted(STYLE[1])}", "data.size=32", "+data.enlarge=true", "controller=none"]
    base += ["sampler=ddim", "sampler/grid=uniform", "prior.guidance.scale=5", f"prior.prompt={quoted(NASTY)}"]
    assert main([*SD[:2], *QUICK, *base, "operator=identity", "study=base"]) == 0
    cells = {OmegaConf.load(c / "config.yaml").choices.controller: c for c in cells_of("sweep")}
    assert sorted(cells) == ["none", "rb_modulation"]
    pictures = {name: picture(cell) for name, cell in cells.items()}
    assert (pictures["none"] == picture(*cells_of("base"))).all()
    assert (pictures["rb_modulation"] != pictures["none"]).mean() > 0.05


def test_what_is_left_open_is_chosen_and_what_is_said_is_kept():
    cfg = made("prior=sd15", *STYLE, "--prompt=a cat", "--descriptor=gram")
    assert cfg["controller"]["_target_"].endswith(".RBModulation") and cfg["sampler"]["grid"]["_target_"].endswith(
        "Uniform"
    )
    assert cfg["data"]["size"] == 512 and cfg["data"]["path"] == "ref, a=b.png" and cfg["data"]["enlarge"] is True
    assert cfg["prior"]["guidance"]["scale"] == 5.0 and cfg["cost"]["_target_"].endswith(".Cosine")
    assert "size" in cfg["operator"] and cfg["operator"]["size"] is None and set(cfg["metrics"]) == {
        "similarity", "similarity_gram",
    }  # fmt: skip
    said = ["controller=dps", "sampler=ddpm", "prior.guidance.scale=2", "cost=squared_distance", "metrics=restoration"]
    cfg = made("prior=sd15", *STYLE, "--prompt=a cat", "--descriptor=gram", "data.size=64", *said)
    assert cfg["controller"]["_target_"].endswith(".DPS") and cfg["sampler"]["eta"] == 1.0
    assert cfg["prior"]["guidance"]["scale"] == 2 and cfg["data"]["size"] == 64
    assert cfg["cost"]["_target_"].endswith(".SquaredDistance") and "psnr" in cfg["metrics"]


def test_content_is_a_part_of_its_own_inside_its_mask():
    cfg = made(
        "prior=sd15", *STYLE, "--content=obj.png", "--mask=mask.png", "--prompt=a cat", "cost.weights.content=0.5"
    )
    style, content = (cfg["operator"]["parts"][name] for name in ("style", "content"))
    assert style["reference"] is None and content["reference"] == "obj.png" and content["mask"] == "mask.png"
    assert (style["descriptor"]["head"], content["descriptor"]["head"]) == ("style", "content")
    assert cfg["cost"]["weights"] == {"style": 1.0, "content": 0.5}
    gram = made("prior=sd15", *STYLE, "--content=obj.png", "--prompt=a cat", "--descriptor=gram")["operator"]["parts"]
    assert {part["descriptor"]["_target_"] for part in gram.values()} == {"rbctrl.descriptors.FilterGram"}


def test_several_styles_are_for_the_attention_and_for_the_control():
    """Whatever the order: a setting behind the files of --style is a setting, and a file may have "=" in its name."""
    given = ["--style", "obj.png", STYLE[1], "prior=shapes", "attention=afa", "--style-weights", "3", "1", "seed=5"]
    cfg = made("--prompt=two stars", *given)  # 3 : 1
    assert cfg["seed"] == 5 and cfg["data"]["path"] == "obj.png"
    assert cfg["attention"]["style"] == ["obj.png", STYLE[1]] and cfg["attention"]["style_weights"] == [0.75, 0.25]
    assert cfg["operator"]["towards"] == [STYLE[1]] and cfg["operator"]["share"] == [0.25]
    cfg = made("--prompt=a cat", "prior=sd15", "--descriptor=gram", *STYLE, "--style=obj.png", "--content=obj.png")
    assert cfg["operator"]["parts"]["style"]["share"] == [0.5] and "style" not in cfg["attention"]
    assert made("--prompt=star", "prior=shapes", *STYLE)["operator"]["towards"] is None


def test_content_and_style_run_and_leave_a_row(capsys):
    both = ["--content=obj.png", "--mask=mask.png", "study=both"]
    assert main(["stylize", *SD, *STYLE, *both, "--descriptor=gram", "--prompt=a cat"]) == 0
    assert rows("both").alive.all() and rows("both").final_cost.gt(0).all()


def test_the_attention_gets_the_references_where_it_takes_them():
    cascade = ["prior=cascade", "prior.preview=cascade/previewer.safetensors", *STYLE, "--prompt=a cat"]
    cfg = made(*cascade, "attention=afa", "--content=obj.png")
    assert cfg["attention"]["style"] == "ref, a=b.png" and cfg["attention"]["content"] == "obj.png"
    assert [part["size"] for part in cfg["operator"]["parts"].values()] == [192, 192]  # previews of 1024 px
    cfg = made(*cascade)
    assert "style" not in cfg["attention"] and cfg["operator"]["size"] == 192
    assert cfg["prior"]["guidance"]["scale"] == 4.0  # its own


def test_a_sweep_over_attention_needs_no_reference_of_those_that_have_none():
    given = ["-m", "experiment=cascade", "attention=afa_reference,none", *STYLE, "--prompt=a cat"]
    made_words = words(parse(given))
    assert not any(word.startswith("attention.") for word in made_words)
    for attention, style in (("afa_reference", STYLE[1]), ("none", None)):
        cell = [word for word in made_words if not word.startswith("attention=")] + [f"attention={attention}"]
        assert OmegaConf.to_container(compose(cell), resolve=True)["attention"].get("style") == style


def test_a_preset_keeps_what_it_chooses():
    cfg = made("experiment=cascade", *STYLE, "--prompt=a cat")
    assert cfg["controller"]["prox_weight"] == 1.0 and cfg["sampler"]["n_steps"] == 20
    assert cfg["attention"]["_target_"].endswith(".AFA") and cfg["attention"]["style"] == "ref, a=b.png"
    assert cfg["operator"]["descriptor"]["preferred"]["head"] == "style" and cfg["operator"]["size"] == 192
    cfg = made("experiment=cascade_composition", *STYLE, "--content=obj.png", "--mask=mask.png", "--prompt=a cat")
    heads = [part["descriptor"]["preferred"]["head"] for part in cfg["operator"]["parts"].values()]
    assert heads == ["style", "content"] and cfg["attention"]["content"] == "obj.png"
    assert cfg["sampler"]["eta"] == 1.0 and cfg["operator"]["parts"]["content"]["mask"] == "mask.png"
    cfg = made("experiment=tuned_dps", "prior=sd15", *STYLE, "--prompt=a cat", "--descriptor=gram")
    assert cfg["controller"]["_target_"].endswith(".DPS") and cfg["data"]["size"] == 512


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--prompt", "a cat"], "prior=photo listens to no prompt: take another one, prior=... of cascade, flux, sd15"),
        (["prior=sd15"], "the following arguments are required: --prompt"),
        (["prior=sd15", "--prompt", "???"], "'???' alone stands for a missing value"),
        (["prior=sd15", "--prompt", "x", "--style=none.png"], "there is no picture 'none.png' (--style)"),
        (["prior=sd15", "--prompt", "x", "--style=text.png"], "text.png cannot be decoded as an image"),
        (["prior=sd15", "--prompt", "x", "--content=none.png"], "there is no picture 'none.png' (--content)"),
        (["prior=sd15", "--prompt", "x", "--mask=mask.png"], "give --content, too"),
        (["prior=sd15", "--prompt", "x", "--descriptor=vgg"], "there is no descriptor 'vgg'; there are"),
        (["prior=sd15", "--prompt", "x", "operator=sr4"], "stylize sets operator itself, by --style and --content"),
        (["prior=sd15", "--prompt", "x", "prior.prompt=y"], "stylize sets prior.prompt itself, by --prompt"),
        (["prior=sd15", "--prompt", "x", "--descriptor=gram_vgg"], "; --descriptor gram needs none"),
        (["prior=shapes", "--prompt", "x", "--size=0"], "data.size is 0, but has to be a positive whole number"),
        (["prior=shapes", "--prompt", "x", *STYLE, "obj.png", "none.png"], "there is no picture 'none.png' (--style)"),
        (
            ["attention=concat", *STYLE, "obj.png", "prior=shapes", "--prompt", ""],
            "attention=concat takes one style, and",
        ),
        (["prior=shapes", "--prompt", "x", *STYLE, "--style-weights", "1", "2"], "each of the 1 pictures of --style"),
        (["prior=shapes", "--prompt", "x", "--sytle=b.png"], "no option --sytle (did you mean --style"),
        (
            ["experiment=gaussian_truth", "prior=shapes", "--prompt", "x"],
            "experiment=gaussian_truth poses a problem of its own, operator=inpaint_random",
        ),
        (
            ["experiment=ffhq_sr4_dps", "prior=shapes", "--prompt", "x"],
            "sets prior/schedule, which the chosen prior does",
        ),
        (["prior=sd16", "--prompt", "x"], "prior has no option 'sd16'"),
        (["prior=sd15", "--prompt", "x", "--descriptor=gram", "prior.model=/none"], "no weights at /none: it is publ"),
        (["prior=sd15", "--prompt", "x", "--descriptor=csd", "prior.model=sd"], "csd.bin holds more than tensors"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(args, sentence, capsys):
    style = [] if any(word.startswith("--style") for word in args) else STYLE
    assert main(["stylize", *style, *args, "study=bad"]) == 1
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error and error.count("rbctrl: ") <= 2


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["stylize", "--help"])
    shown = capsys.readouterr().out
    assert leaving.value.code == 0 and '--prompt "a cat, sitting"' in shown and "--descriptor" in shown
