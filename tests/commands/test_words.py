"""Words that hold in the cells of a sweep, though not in what Hydra composes before them."""

import pytest

from rbctrl.cli import main
from rbctrl.commands.requests import requested
from rbctrl.commands.words import left_to_cells


@pytest.mark.parametrize(
    "swept, word, marked",
    [
        ("attention=concat,afa", "attention.style=item", "attention.style=choice(item)"),
        ("operator/descriptor=gram,clip", "operator.descriptor.size=8", "operator.descriptor.size=choice(8)"),
        ("+cost@cost.terms.mine=a,b", "cost.terms.mine.scale=2", "cost.terms.mine.scale=choice(2)"),
        ("experiment=a,b", "prior.path=x", "prior.path=choice(x)"),
        ("prior=a,b", "prior.path=${oc.env:HOME}/x", "prior.path=choice(${oc.env:HOME}/x)"),
        ("+sweep=mine", "attention.where=['a,b',c]", "attention.where=choice(['a,b',c])"),
        ("controller=dps,none", "controller.name='a, b'", "controller.name=choice('a, b')"),
    ],
)
def test_a_value_below_a_swept_group_is_left_to_the_cells(swept, word, marked):
    assert left_to_cells(["-m", swept, word]) == ["-m", swept, marked]
    assert left_to_cells(["--multirun", word, swept]) == ["--multirun", marked, swept]
    assert left_to_cells([swept, word]) == [swept, word]  # no sweep


@pytest.mark.parametrize(
    "word",
    [
        "study=mine",  # names the folder before any cell
        "prior.path=x",
        "attention=none",
        "+attention.style=item",
        "~attention.style",
        "attention.style=a,b",
        "attention.style=",
        "attention.style=null",
        "attention.style='1'",
        "attention.style=a b=c",  # Hydra says why
        "hydra.sweep.dir=x",
        "attentive.style=x",
    ],
)
def test_every_other_word_stays(word):
    words = ["-m", "attention=concat,afa", word]
    assert left_to_cells(words) == words


def test_cells_and_plan_take_such_a_word_as_it_was_typed(tmp_path, monkeypatch, capsys):
    """The default, controller=proximal, has no lr."""
    monkeypatch.chdir(tmp_path)
    world = "prior=gmm2d operator=matrix data=gmm data.n=1 metrics=likelihood sampler=exact sampler.n_steps=3".split()
    words = ["-m", *world, "controller=rb_modulation,rb_modulation_exact", "controller.lr=0.05"]
    assert main(["plan", *words]) == 0
    assert "2 cells, 0 cannot work" in capsys.readouterr().out
    assert main(words) == 0
    jobs = requested(tmp_path / "outputs" / "default")
    assert [job[-1] for job in jobs] == ["controller.lr=0.05"] * 2
    assert main([*words[:-1], "controller.lrr=0.05"]) == 1
    assert "has no key 'lrr' (did you mean lr?)" in capsys.readouterr().err


def test_a_style_for_an_option_without_one_is_refused_with_options_that_bring_theirs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "prior=shapes", "attention=none,afa", "attention.style=item"]) == 1
    said = capsys.readouterr().err
    assert "has no key 'style'; it has no keys; attention=afa_item,afa_reference bring their own" in said
    assert "+attention.style" not in said
