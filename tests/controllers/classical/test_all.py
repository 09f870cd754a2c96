"""What holds for every classical baseline."""

import pytest
import torch
from worlds import setup

from rbctrl.controllers.classical import TV, Bicubic, Biharmonic, Classical, Pinv, Wiener
from rbctrl.operators import Downsample, FreeformMask, GaussianBlur, HalfMask, RandomMask
from rbctrl.operators.base import Operator
from rbctrl.operators.matrix import Matrix
from rbctrl.sampling import sample
from rbctrl.testing import check_controller
from rbctrl.testing.worlds import unit_run

TASKS = {
    "sr4": lambda: Downsample(4),
    "blur": lambda: GaussianBlur(1.5),
    "random_mask": lambda: RandomMask(0.8),
    "freeform": lambda: FreeformMask((0.2, 0.3)),
}
# moderately good settings at sigma_y = 0.05
METHODS = [
    ("sr4", Bicubic(0.04)),
    ("random_mask", Biharmonic(0.04)),
    ("freeform", Biharmonic(0.04)),
    *((task, Wiener(0.02)) for task in TASKS),
    *((task, TV(0.005, n_steps=25, inner_steps=12)) for task in TASKS),
]


class Square(Operator):
    def forward(self, image):
        return image.square()


def label(value):
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("task", "controller"), METHODS, ids=label)
def test_every_photograph_beats_its_pseudo_inverse(task, controller, measure, psnr, photos):
    obs = measure(TASKS[task]())
    better, base = (psnr(c.reconstruct(obs, photos.shape[1:])) for c in (controller, Pinv()))
    assert (better > base + 0.3).all(), (better, base)


@pytest.mark.parametrize(
    ("task", "controller"), [("blur", Pinv()), *METHODS[:3], ("blur", Wiener()), ("freeform", TV(n_steps=3))], ids=label
)
def test_rows_at_once_and_one_by_one_are_equal(task, controller, run_of):
    run = run_of(TASKS[task]())
    whole = sample(run, controller).x0_hat
    for rows in (torch.tensor([0]), torch.tensor([2]), torch.tensor([2, 0])):
        part = sample(run.take(rows), controller).x0_hat
        torch.testing.assert_close(part, whole[rows], rtol=0, atol=1e-9)
    assert (whole[0] - whole[2]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("task", "controller"), [("sr4", Pinv()), *METHODS[:3], ("blur", Wiener()), ("freeform", TV(n_steps=2))], ids=label
)
def test_the_result_has_dtype_and_shape_of_the_image(task, controller, measure, photos):
    obs = measure(TASKS[task]())
    single = type(obs)(obs.y.float(), obs.operator.float(), obs.noise)
    image = controller.reconstruct(single, photos.shape[1:])
    assert image.dtype == torch.float32 and image.shape == photos.shape and image.isfinite().all()


@pytest.mark.parametrize(
    ("operator", "controller"),
    [
        (HalfMask(), Pinv()),
        (HalfMask(), TV(n_steps=3)),
        (HalfMask(), Biharmonic()),
        (Downsample(2), Bicubic()),
        (GaussianBlur(0.8), Wiener()),
    ],
    ids=label,
)
def test_the_contract_of_controllers_is_kept(operator, controller):
    check_controller(controller, run=unit_run(operator, (3, 12, 12), n_steps=3))


@pytest.mark.parametrize("controller", [Pinv(), Bicubic(), TV(), Wiener(), Biharmonic()], ids=label)
def test_latent_priors_and_nonlinear_operators_are_refused(controller, silent, latent):
    fitting = RandomMask(0.5) if isinstance(controller, Biharmonic) else Downsample(2)
    assert controller.check(setup(silent, fitting)) is None  # a mask is checked before it is drawn
    assert "pixel-space" in controller.check(setup(latent, fitting))
    assert "Square" in controller.check(setup(silent, Square()))


@pytest.mark.parametrize("controller", [Bicubic(), TV(), Wiener(), Biharmonic()], ids=label)
def test_measurements_of_vectors_are_refused(controller, silent):
    assert "Matrix" in controller.check(setup(silent, Matrix([[1.0, 0.0]])))


def test_the_base_class_is_abstract():
    with pytest.raises(TypeError, match="reconstruct"):
        Classical()
