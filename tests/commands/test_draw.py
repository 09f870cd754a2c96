"""`rbctrl draw`: a file of masks, and a run that measures with it."""

import json

import pandas as pd
import pytest

from rbctrl.cli import main
from rbctrl.operators import RandomMask
from rbctrl.operators.stored import read_draws

DATA = ["data=photos", "data.size=32", "data.names=[astronaut,coffee]"]
RUN = [*DATA, "controller=none", "sampler.n_steps=2", "metrics=restoration"]


def rows(folder):
    (table,) = folder.glob("*/rows.csv")
    return pd.read_csv(table).drop(columns=["seconds_per_image", "peak_memory"])


def test_a_run_with_the_file_gives_the_rows_of_the_run_it_was_drawn_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "operator=inpaint_random", *DATA, "seed=3", "--out=masks.npz"]) == 0
    assert "one mask for each of 2 items; operator.file=masks.npz reads them" in capsys.readouterr().out
    made = read_draws("masks.npz", RandomMask(0.8))
    assert set(made.values) == {"astronaut", "coffee"} and made.provenance["seed"] == 3
    assert made.provenance["operator"]["fraction"] == 0.8 and json.dumps(made.provenance)
    for name, words in {"drawn": ["seed=3"], "read": ["seed=3", "operator.file=masks.npz"]}.items():
        assert main([*RUN, "operator=inpaint_random", *words, f"hydra.run.dir={name}"]) == 0
    drawn, read = (rows(tmp_path / name) for name in ("drawn", "read"))
    pd.testing.assert_frame_equal(drawn, read)
    files = [next((tmp_path / name).glob("*/images/astronaut/measurement.png")) for name in ("drawn", "read")]
    pictures = [file.read_bytes() for file in files]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["operator=inpaint_random"], "one --out=FILE.npz"),
        (["operator=inpaint_random", "--out=masks.png"], "one --out=FILE.npz"),
        (["operator=inpaint_random", "--output=masks.npz"], "one --out=FILE.npz"),
        (["operator=sr4", *DATA, "--out=masks.npz"], "Downsample draws nothing per image"),
        (["operator=inpaint_box", *DATA, "--out=masks.npz"], "does not fit an image of 32 x 32"),
    ],
)
def test_what_it_cannot_do_is_one_sentence_and_leaves_no_file(words, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", *words]) == 1
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_drawn(tmp_path, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_text("no image")
    assert main(["draw", "operator=inpaint_random", "data=folder", "data.path=in", "--out=masks.npz"]) == 1
    assert "bad.png" in capsys.readouterr().err
    assert set(read_draws("masks.npz", RandomMask(0.8)).values) == {"good.png"}


def test_a_seed_that_is_none_is_refused(tmp_path, capsys):
    assert main(["draw", "operator=inpaint_random", "data=photos", "seed=abc", f"--out={tmp_path}/m.npz"]) == 1
    assert "seed has to be a whole number, got 'abc'" in capsys.readouterr().err and not list(tmp_path.iterdir())
