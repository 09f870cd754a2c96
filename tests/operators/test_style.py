"""Style as an inverse problem: an operator like any other, whose y is a description of a reference picture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import worlds
from hydra.utils import instantiate
from PIL import Image
from torch import nn

from rbctrl.commands.run import compose
from rbctrl.controllers import DAPS, DPS, NoControl, RBModulation, RBModulationExact, REDdiff
from rbctrl.costs import Cosine, SquaredDistance
from rbctrl.descriptors import Descriptor, FilterGram, Preprocess
from rbctrl.grids import Uniform
from rbctrl.noise import GaussianNoise, NoNoise
from rbctrl.observation import Objective, Observation, observe
from rbctrl.operators import Style
from rbctrl.process import ddim
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.testing import check_cost, check_operator

STEPS = 4


class Colours(Descriptor):
    """Unit vectors of a small random network; counts its calls and the rows of each."""

    def __init__(self, head=0, preprocess=None):
        super().__init__(preprocess or Preprocess(8, "none"))
        self.head, self.calls = head, []

    def read(self):
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(6, 3, 3, 3, generator=generator))
        self.heads = nn.Parameter(torch.randn(2, 7, 5, generator=generator))

    def encode(self, x):
        self.calls.append(len(x))
        features = torch.tanh(torch.nn.functional.conv2d(x, self.mix)).mean((2, 3))
        return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)

    def project(self, features):
        return torch.nn.functional.normalize(features @ self.heads[self.head], dim=1)


def loaded(operator):
    operator.load()
    return operator


def save(path, image):
    """[3, H, W] in [-1, 1] as PNG."""
    Image.fromarray(((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(path)
    return str(path)


def picture(seed, height=8, width=8):
    return 2 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) - 1


def make_run(operator, n=2, cost=None):
    rng = ImageRNG(0, tuple((f"image{k}", 0) for k in range(n)), torch.float32)
    reference = rng.uniform("reference", (3, 8, 8)) * 2 - 1
    obs = observe(operator.draw(rng, (3, 8, 8)), NoNoise(), reference, rng)
    process = ddim(worlds.tiny_prior(), (3, 8, 8), STEPS, Uniform(), eta=1.0)
    return worlds.Run(process, Objective(cost or Cosine(), obs, evaluations=process.evaluations), rng)


def test_it_keeps_the_contract_of_operators_and_its_costs_that_of_costs():
    for descriptor in (Colours(), FilterGram(scales=2)):
        assert "gradient" in dict(check_operator(Style(descriptor), (3, 12, 16)))
        for cost in (Cosine(), SquaredDistance()):
            check_cost(cost, (3, 12, 16), loaded(Style(descriptor)))


def test_for_unit_vectors_the_papers_cost_is_twice_the_released_one():
    run = make_run(loaded(Style(Colours())))
    x = run.rng.uniform("x", (3, 8, 8))
    cosine, squared = Cosine()(x, run.obs), SquaredDistance()(x, run.obs)
    torch.testing.assert_close(squared, 2 * cosine)
    assert (cosine > 1e-3).all()


def test_a_run_follows_the_reference_and_describes_it_once():
    """One call for the reference, then one per inner step, each with all rows."""
    operator = loaded(Style(Colours()))
    run = make_run(operator)
    assert operator.descriptor.calls == [2]
    free = run.objective(sample(run, NoControl()).x0_hat)
    operator.descriptor.calls.clear()
    result = sample(run, RBModulation(3, 0.1))
    assert operator.descriptor.calls == [2] * (3 * STEPS)
    assert (run.objective(result.x0_hat) < 0.5 * free).all()
    assert all(weight.grad is None for weight in operator.parameters())


def test_a_control_that_never_acts_is_the_base_to_the_last_bit():
    run = make_run(loaded(Style(Colours())))
    base = sample(run, NoControl())
    never = sample(make_run(loaded(Style(Colours())), cost=lambda x, obs: 0.0 * Cosine()(x, obs)), RBModulation())
    assert torch.equal(base.x, never.x) and torch.equal(base.x0_hat, never.x0_hat)
    assert not torch.allclose(base.x, sample(run, RBModulation()).x, atol=1e-3)


def test_a_row_does_not_see_the_others():
    run = make_run(loaded(Style(Colours())), 3)
    whole = sample(run, RBModulation()).x0_hat
    for row in range(3):
        alone = sample(run.take(torch.tensor([row])), RBModulation()).x0_hat
        torch.testing.assert_close(whole[row : row + 1], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(whole[0], whole[1], atol=1e-2)


def test_a_reference_of_its_own_stands_for_every_item(tmp_path):
    path = save(tmp_path / "ref.png", picture(5, 10, 10))
    operator = loaded(Style(Colours(), reference=path))
    run = make_run(operator)
    assert operator.descriptor.calls == [1]
    levels = np.asarray(Image.open(path)).transpose(2, 0, 1) / 127.5 - 1
    expected = operator.descriptor(torch.from_numpy(levels)[None].float())
    torch.testing.assert_close(run.obs.y, expected.expand(2, -1))
    assert not torch.allclose(run.obs.y, make_run(loaded(Style(Colours()))).obs.y, atol=1e-2)


def test_y_goes_from_one_picture_to_another(tmp_path):
    first, second = (save(tmp_path / f"{k}.png", picture(k)) for k in (5, 6))
    ends = [make_run(loaded(Style(Colours(), reference=path))).obs.y for path in (first, second)]
    for share, expected in ((0.0, ends[0]), (1.0, ends[1]), (0.25, 0.75 * ends[0] + 0.25 * ends[1])):
        operator = loaded(Style(Colours(), reference=first, towards=second, share=share))
        torch.testing.assert_close(make_run(operator).obs.y, expected, rtol=0, atol=1e-6)
        assert operator.descriptor.calls == [1, 1]
    assert [file.setting for file in operator.files()] == ["operator.reference", "operator.towards"]


def test_y_is_the_weighted_mean_of_several_pictures(tmp_path):
    files = [save(tmp_path / f"{k}.png", picture(k)) for k in (5, 6, 7)]
    ends = [make_run(loaded(Style(Colours(), reference=path))).obs.y for path in files]
    for shares in ((0.5, 0.2), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.6, 0.4)):
        operator = loaded(Style(Colours(), reference=files[0], towards=files[1:], share=shares))
        expected = (1 - sum(shares)) * ends[0] + shares[0] * ends[1] + shares[1] * ends[2]
        torch.testing.assert_close(make_run(operator).obs.y, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(ends[1], ends[2], atol=1e-2)  # the order of shares matters
    assert len(operator.files()) == 3


def test_shares_are_of_the_further_pictures():
    for share, towards in ((1.5, None), (float("nan"), "b.png"), ([0.6, 0.6], ["b.png", "c.png"])):
        with pytest.raises(ValueError, match="in all from 0 to 1, got"):
            Style(Colours(), towards=towards, share=share)
    for share, towards in ((0.5, ["b.png", "c.png"]), ([0.5], None), ([0.2, 0.2], "b.png")):
        with pytest.raises(ValueError, match="one number for each picture of towards"):
            Style(Colours(), towards=towards, share=share)


def test_what_is_outside_the_mask_is_black_to_the_descriptor(tmp_path):
    """Of the reference alone, as in the released demo; or of the generated image as well, which is then free there."""
    image = picture(5)
    mask = torch.full((3, 8, 8), -1.0)
    mask[:, :, :4] = 1.0
    files = {"reference": save(tmp_path / "ref.png", image), "mask": save(tmp_path / "mask.png", mask)}
    black = torch.full((3, 8, 8), -1.0)
    black[:, :, :4] = ((image + 1) * 127.5).round()[:, :, :4] / 127.5 - 1
    for masked in ("reference", "both"):
        operator = loaded(Style(Colours(), **files, masked=masked))
        run = make_run(operator)
        torch.testing.assert_close(run.obs.y[:1], operator.descriptor(black[None]))
        x = picture(6)[None].expand(2, -1, -1, -1).requires_grad_()
        (gradient,) = torch.autograd.grad(Cosine()(x, run.obs).sum(), x)
        assert (gradient[..., :4] != 0).any() and bool((gradient[..., 4:] != 0).any()) is (masked == "reference")
    x = picture(6)[None].expand(2, -1, -1, -1)
    assert torch.equal(operator(x)[0], operator(x.clone().index_fill_(3, torch.tensor([7]), 0.5))[0])


def test_a_mask_is_resized_and_needs_the_proportions_of_the_reference(tmp_path):
    white = save(tmp_path / "mask.png", torch.ones(3, 16, 16))
    plain, masked = (loaded(Style(Colours(), mask=mask)) for mask in (None, white))
    torch.testing.assert_close(make_run(masked).obs.y, make_run(plain).obs.y)
    wide = save(tmp_path / "wide.png", torch.ones(3, 8, 16))
    with pytest.raises(ValueError, match=r"wide.png has 16 x 8 pixels and what it is laid over 8 x 8"):
        make_run(loaded(Style(Colours(), mask=wide)))


def test_a_sharp_reference_is_seen_in_the_size_of_previews():
    """y of a large picture is that of the picture reduced; images that are small already are not touched."""
    large = picture(3, 32, 48)[None]
    descriptor = FilterGram(scales=1)
    operator = loaded(Style(descriptor, size=16))
    small = torch.nn.functional.interpolate(large, (16, 24), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(operator(large), descriptor(small))
    assert torch.equal(operator(small), descriptor(small))
    assert not torch.allclose(operator(large), descriptor(large), atol=1e-2)


def test_bad_references_are_refused_before_weights_are_read(tmp_path):
    rng = ImageRNG(0, (("a", 0),))
    (tmp_path / "text.png").write_text("no picture")
    for options, error, words in (
        ({"reference": str(tmp_path / "none.png")}, FileNotFoundError, r"there is no picture .*operator.reference"),
        ({"reference": str(tmp_path / "text.png")}, ValueError, "text.png cannot be decoded as an image"),
        ({"towards": str(tmp_path / "none.png")}, FileNotFoundError, r"there is no picture .*operator.towards"),
        ({"mask": str(tmp_path / "none.png")}, FileNotFoundError, r"there is no picture .*operator.mask"),
    ):
        with pytest.raises(error, match=words):
            Style(Colours(), **options).draw(rng, (3, 8, 8))
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match="black.png is black everywhere: it is white where the subject is"):
        Style(Colours(), mask=str(tmp_path / "black.png")).draw(rng, (3, 8, 8))
    with pytest.raises(ValueError, match=r"sees images \[3, H, W\], and these are \[1, 8, 8\]"):
        Style(Colours()).draw(rng, (1, 8, 8))
    with pytest.raises(ValueError, match="masked is 'reference' or 'both'"):
        Style(Colours(), masked="image")
    with pytest.raises(ValueError, match="give the reference picture itself as the data"):
        Style(Colours()).image_shape((5,))


def experiment(*words):
    cfg = compose(["operator=style", "operator/descriptor=gram", "controller=rb_modulation", "cost=cosine", *words])
    return instantiate(cfg, _convert_="all")


def test_noise_on_features_is_doubted_in_the_log_before_anything_runs(caplog):
    assert Style(Colours()).doubt(NoNoise()) is None
    assert "add noise=none" in Style(Colours()).doubt(GaussianNoise(0.05))
    experiment("noise=none")
    assert caplog.text == ""
    experiment("noise.sigma_y=0.02")
    assert "y are features, and noise with sigma_y 0.02 is added to each of them: add noise=none" in caplog.text


def test_a_cell_is_known_by_the_weights_of_its_descriptor(tmp_path):
    def key(value):
        torch.save({"x": torch.full((1,), value)}, tmp_path / f"{value}.bin")
        made = experiment("noise=none", "operator/descriptor=csd", f"operator.descriptor.path={tmp_path}/{value}.bin")
        return made.weights, made.key({"config": {"operator": {}}})

    assert key(1.0) == key(1.0) != key(2.0)
    assert key(1.0)[0].startswith(experiment("noise=none").weights)


@pytest.mark.parametrize("controller", [DPS(zeta=1.0), DAPS(), REDdiff(), RBModulationExact()])
def test_controllers_that_take_any_operator_follow_a_style(controller):
    run = make_run(loaded(Style(Colours())))
    free, ours = (run.objective(sample(run, one).x0_hat) for one in (NoControl(), controller))
    assert ours.isfinite().all() and (ours < free).all()


def test_a_take_of_an_observation_is_its_rows():
    obs = make_run(loaded(Style(Colours())), 3).obs
    taken = obs.take(torch.tensor([2, 0]))
    assert isinstance(taken, Observation) and torch.equal(taken.y, obs.y[[2, 0]])
    assert replace(taken).n_measured.tolist() == [5, 5]
