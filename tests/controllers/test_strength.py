"""One axis, `strength`, for controllers whose main settings have other names."""

import dataclasses

import pytest

import rbctrl.controllers as controllers
from rbctrl.commands.run import compose
from rbctrl.config import build, options
from rbctrl.controllers import DPS, Doob, NoControl, Particles, Proximal, Window
from rbctrl.controllers.base import Controller

CLASSES = [getattr(controllers, name) for name in controllers.__all__ if isinstance(getattr(controllers, name), type)]
WITH_KNOB = [c for c in CLASSES if issubclass(c, Controller) and c.knob is not None]


@pytest.mark.parametrize("controller", WITH_KNOB)
def test_a_knob_is_a_field_and_its_range_holds_the_default(controller):
    fields = {field.name: field.default for field in dataclasses.fields(controller)}
    assert controller.knob.low <= fields[controller.knob.name] <= controller.knob.high


@pytest.mark.parametrize("option", options("controller"))
def test_every_option_takes_a_strength_or_says_why_not(option):
    words = ["controller._target_=rbctrl.controllers.NoControl"] if option == "custom" else []
    controller = build("controller", option, words)
    try:
        stronger = controller.with_strength(2.0)
    except ValueError as error:
        assert "strength" in str(error)
        return
    assert stronger != controller and stronger.with_strength(0.5) == controller.with_strength(1.0) == controller


def test_strength_multiplies_what_pulls_and_divides_what_holds_back():
    assert DPS(zeta=0.3).with_strength(2.0) == DPS(zeta=0.6)
    assert Proximal(weight=3.0).with_strength(2.0) == Proximal(weight=1.5)
    assert Window(DPS(zeta=0.3), 0.0, 0.5).with_strength(0.5) == Window(DPS(zeta=0.15), 0.0, 0.5)
    assert Particles(DPS(zeta=1.0)).with_strength(3.0) == Particles(DPS(zeta=3.0))


@pytest.mark.parametrize(
    ("controller", "strength", "sentence"),
    [
        (NoControl(), 2.0, "NoControl has no setting"),
        (Doob(), 0.5, "leave strength out"),
        (Window(Doob()), 0.5, "Doob has no setting"),
        (Proximal(weight=0.0), 2.0, "weight=0.0, which no strength can scale"),
        (DPS(), 0.0, "must be positive, got 0.0"),
    ],
)
def test_what_has_no_strength_is_refused(controller, strength, sentence):
    with pytest.raises(ValueError, match=sentence):
        controller.with_strength(strength)


def test_the_command_line_has_the_axis():
    assert compose(["strength=0.5"]).strength == 0.5 and compose([]).strength is None
