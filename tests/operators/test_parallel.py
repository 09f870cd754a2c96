"""Style and content side by side: one vector y, one cost of each part, one evaluation of a network that both read."""

import pytest
import torch
from operators.test_style import Colours, loaded, make_run, picture, save

from rbctrl.controllers import RBModulation
from rbctrl.costs import Cosine, Parts, ResidualNorm, TotalVariation
from rbctrl.noise import GaussianNoise, NoNoise
from rbctrl.observation import observe
from rbctrl.operators import Downsample, Parallel, RandomMask, Style
from rbctrl.rng import ImageRNG
from rbctrl.sampling import sample
from rbctrl.testing import check_cost, check_operator


class Shared(Colours):
    """One of two heads on one network, that of `other` if there is one."""

    def __init__(self, head, other=None):
        super().__init__(head)
        self.others = [other]  # a list, so that it is no part of this one

    def read(self):
        super().read()
        if self.others[0] is not None:
            self.calls, self.mix = self.others[0].calls, self.others[0].mix

    @property
    def trunk(self):
        return self.mix


class Pair:
    """A style of the item and the content of a picture, and what was evaluated."""

    def __init__(self, folder, shared=True, **options):
        style = Shared(0)
        content = Shared(1, style if shared else None)
        self.reference = save(folder / "content.png", picture(7))
        parts = {"style": Style(style), "content": Style(content, reference=self.reference, **options)}
        self.operator = loaded(Parallel(parts))
        self.calls = style.calls


def cost(style=1.0, content=1.0):
    return Parts({"style": Cosine(), "content": Cosine()}, {"style": style, "content": content})


def test_y_is_the_style_of_the_item_and_the_content_of_the_other_picture(tmp_path):
    pair = Pair(tmp_path)
    run = make_run(pair.operator, cost=cost())
    style, content = pair.operator.parts["style"], pair.operator.parts["content"]
    reference = run.rng.uniform("reference", (3, 8, 8)) * 2 - 1
    torch.testing.assert_close(run.obs.y[:, :5], style(reference))
    levels = ((picture(7) + 1) * 127.5).round() / 127.5 - 1
    torch.testing.assert_close(run.obs.y[:, 5:], content(levels[None]).expand(2, -1))


def test_the_cost_is_the_weighted_sum_written_out(tmp_path):
    run = make_run(Pair(tmp_path).operator, cost=cost())
    x = run.rng.uniform("x", (3, 8, 8))
    features = run.obs.operator(x)
    distance = [1 - (features[:, s] * run.obs.y[:, s]).sum(1) for s in (slice(0, 5), slice(5, 10))]
    torch.testing.assert_close(cost(0.7, 2.0)(x, run.obs), 0.7 * distance[0] + 2.0 * distance[1])


def test_a_network_that_both_read_is_evaluated_once_per_inner_step(tmp_path):
    for shared, calls in ((True, 1), (False, 2)):
        pair = Pair(tmp_path, shared)
        run = make_run(pair.operator, cost=cost())
        all_calls = [pair.operator.parts[name].descriptor.calls for name in ("style", "content")]
        for list_of in all_calls:
            list_of.clear()
        sample(run, RBModulation(3))
        made = sum(len(one) for one in {id(one): one for one in all_calls}.values())
        assert made == calls * 3 * run.process.n_steps


@pytest.mark.parametrize("left", ["style", "content"])
def test_with_a_weight_of_zero_it_is_the_other_cost_alone_to_the_last_bit(left, tmp_path):
    pair = Pair(tmp_path)
    weights = {"style": 0.0, "content": 0.0, left: 1.0}
    both = make_run(pair.operator, cost=cost(**weights))
    alone = make_run(pair.operator.parts[left])
    assert torch.equal(sample(both, RBModulation()).x0_hat, sample(alone, RBModulation()).x0_hat)
    other = make_run(pair.operator, cost=cost())
    assert not torch.allclose(sample(other, RBModulation()).x0_hat, sample(alone, RBModulation()).x0_hat, atol=1e-3)


def test_a_negative_weight_leads_away_from_a_part(tmp_path):
    pair = Pair(tmp_path)
    ends = {}
    for weight in (-0.5, 0.0, 0.5):
        run = make_run(pair.operator, cost=cost(1.0, weight))
        ends[weight] = cost(0.0, 1.0)(sample(run, RBModulation()).x0_hat, run.obs)
    assert (ends[-0.5] > ends[0.0]).all() and (ends[0.5] < ends[0.0]).all()


def test_a_part_of_weight_zero_is_not_evaluated(tmp_path):
    pair = Pair(tmp_path, shared=False)
    run = make_run(pair.operator, cost=cost(1.0, 0.0))
    content = pair.operator.parts["content"].descriptor
    content.calls.clear()
    sample(run, RBModulation())
    assert content.calls == []


def test_a_masked_image_is_another_input_of_the_network(tmp_path):
    white = save(tmp_path / "mask.png", torch.ones(3, 8, 8))
    pair = Pair(tmp_path, mask=white, masked="both")
    plain = Pair(tmp_path)
    x = picture(9)[None]
    pair.calls.clear()
    torch.testing.assert_close(pair.operator(x), plain.operator(x))
    assert len(pair.calls) == 2


def test_rows_are_independent_and_taken(tmp_path):
    run = make_run(Pair(tmp_path).operator, 3, cost())
    whole = sample(run, RBModulation()).x0_hat
    for row in range(3):
        alone = sample(run.take(torch.tensor([row])), RBModulation()).x0_hat
        torch.testing.assert_close(whole[row : row + 1], alone, rtol=0, atol=1e-5)


def test_any_operators_can_stand_side_by_side():
    """A measurement and a style, as in a restoration that follows a style; each cost sees the shape of its part."""
    parts = {"data": Downsample(2), "style": Style(Colours()), "mask": RandomMask(0.5)}
    check_operator(Parallel(parts), (3, 8, 8), linear=False)
    terms = {"data": ResidualNorm(), "style": Cosine(), "mask": TotalVariation()}
    rng = ImageRNG(0, (("a", 0), ("b", 0)), torch.float64)
    operator = loaded(Parallel(parts)).double()
    check_cost(Parts(terms), (3, 8, 8), operator)
    drawn, x = operator.draw(rng, (3, 8, 8)), rng.uniform("x", (3, 8, 8))
    obs = observe(drawn, NoNoise(), rng.uniform("truth", (3, 8, 8)), rng)
    targets = drawn.targets(obs.y)
    assert {name: tuple(y.shape) for name, y in targets.items()} == {
        "data": (2, 3, 4, 4),
        "style": (2, 5),
        "mask": (2, 3, 8, 8),
    }
    expected = (targets["data"] - drawn.parts["data"](x)).flatten(1).norm(dim=1)
    torch.testing.assert_close(Parts({**terms}, {"style": 0, "mask": 0})(x, obs), expected)


def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path):
    pair = Pair(tmp_path)
    assert cost().check(pair.operator, NoNoise()) is None
    assert "cost=parts needs operator=parallel" in cost().check(Style(Colours()), NoNoise())
    assert "['content', 'style'] and the cost terms for ['style']" in Parts({"style": Cosine()}).check(
        pair.operator, NoNoise()
    )
    with pytest.raises(ValueError, match=r"name parts alike"):
        Parts({"style": Cosine()}, {"stile": 1.0})
    with pytest.raises(ValueError, match=r"one not of weight 0"):
        cost(0.0, 0.0)
    with pytest.raises(ValueError, match="needs parts"):
        Parallel({})
    with pytest.raises(ValueError, match="give images as the data"):
        pair.operator.image_shape((10,))
    with pytest.raises(RuntimeError, match="once the operator has measured"):
        pair.operator.targets(torch.zeros(1, 10))
    assert "noise=none" in pair.operator.doubt(GaussianNoise(0.1)) and pair.operator.doubt(NoNoise()) is None


def test_files_are_named_by_their_part(tmp_path):
    pair = Pair(tmp_path)
    (file,) = pair.operator.files()
    assert file.setting == "operator.parts.content.reference" and file.place == pair.reference
