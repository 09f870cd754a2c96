"""What may vary is read from one grammar, and every shipped space fits its controller."""

import math

import pytest
from omegaconf import OmegaConf

from rbctrl.cli import load_experiment
from rbctrl.config import CONF_DIR, options
from rbctrl.tuning.space import Parameter, read_space
from rbctrl.tuning.trials import composed


def text_of(name):
    return (CONF_DIR / "tune" / f"{name}.yaml").read_text()


def test_every_controller_has_a_space_or_says_that_there_is_nothing_to_tune():
    assert set(options("controller")) - {"custom"} == set(options("tune"))
    empty = [name for name in options("tune") if not read_space(name, "sr4", ())[1]]
    for name in empty:
        assert text_of(name).startswith("# Nothing to tune."), name


@pytest.mark.parametrize("controller", [name for name in options("tune") if "photo_latent" in text_of(name)])
def test_spaces_of_latent_controllers_fit_the_shipped_latent_prior(controller):
    """Everything is built and checked, both ends of the ranges; no weight is read."""
    fixed, space = read_space(controller, "sr4", ())
    for end in ("low", "high"):
        ends = [f"{p.key}={p.choices[0] if p.choices else getattr(p, end)}" for p in space]
        assert load_experiment(f"controller={controller}", "operator=inpaint_freeform", *fixed, *ends).problems == []


@pytest.mark.parametrize("controller", options("tune"))
def test_shipped_space_fits_its_controller(controller):
    fixed, space = read_space(controller, "sr4", ())
    assert controller in options("controller")
    cfg, _ = composed([f"controller={controller}", *fixed])
    for parameter in space:
        assert OmegaConf.select(cfg, parameter.key, default="absent") != "absent", parameter.key


@pytest.mark.parametrize(
    ("word", "parameter"),
    [
        ("a.b=interval(0,1)", Parameter("a.b", (), 0.0, 1.0)),
        ("a.b=tag(log,interval(0.1,100))", Parameter("a.b", (), 0.1, 100.0, log=True)),
        ("a.b=int(interval(1,8))", Parameter("a.b", (), 1, 8, whole=True)),
        ("a.b=x,y", Parameter("a.b", ("x", "y"))),
    ],
)
def test_word_is_read(word, parameter):
    assert read_space("custom", "sr4", (word,)) == ((), (parameter,))


@pytest.mark.parametrize("word", ["a.b=interval(1,1)", "a.b=tag(log,interval(0,1))", "a.b=range(1,4)"])
def test_word_that_is_no_range_is_refused(word):
    with pytest.raises(ValueError, match=r"a\.b="):
        read_space("custom", "sr4", (word,))


def test_controller_without_a_space_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"conf/tune/custom.yaml"):
        read_space("custom", "sr4", ())


def test_task_replaces_the_space_and_the_command_line_replaces_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "tune").mkdir(parents=True)
    (tmp_path / "conf" / "tune" / "mine.yaml").write_text(
        "fixed: [sampler.n_steps=7]\n"
        "space: ['controller.a=interval(0,1)', 'controller.b=interval(0,1)']\n"
        "tasks: {inpaint_box: {space: ['controller.a=interval(0,9)']}}\n"
    )

    def found(operator, *words):
        fixed, space = read_space("mine", operator, words)
        return fixed, {p.key: p.high for p in space}

    assert found("sr4") == (("sampler.n_steps=7",), {"controller.a": 1, "controller.b": 1})
    assert found("inpaint_box")[1] == {"controller.a": 9, "controller.b": 1}
    assert found("inpaint_box", "controller.a=interval(0,2)")[1]["controller.a"] == 2
    assert found("sr4", "controller.a=3") == (("sampler.n_steps=7", "controller.a=3"), {"controller.b": 1})


def test_edges_are_those_of_the_scale_that_is_searched():
    log = Parameter("k", (), 0.01, 100, log=True)
    assert [log.edge(word) for word in ("0.012", "1", "90")] == ["lower", None, "upper"]
    linear = Parameter("k", (), 0.01, 100)
    assert [linear.edge(word) for word in ("0.012", "1", "50", "99")] == ["lower", "lower", None, "upper"]
    assert Parameter("k", ("a", "b")).edge("a") is None


def test_default_value_counts_if_it_is_in_the_range():
    assert Parameter("k", ("null", "true")).given(None) == "null"
    assert Parameter("k", (), 0, 1).given(0.5) == 0.5
    assert Parameter("k", (), 0, 1).given(math.nan) is None
    assert Parameter("k", (), 0, 1).given(2.0) is None
