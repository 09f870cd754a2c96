import torch

from rbctrl.rng import ImageRNG

ROWS = (("a.png", 0), ("b.png", 0), ("a.png", 1))


def test_noise_does_not_depend_on_batch_order_or_neighbours():
    whole = ImageRNG(0, ROWS).normal("step/3", (2, 4))
    for k, row in enumerate(ROWS):
        assert torch.equal(ImageRNG(0, (row,)).normal("step/3", (2, 4))[0], whole[k])
    turned = ImageRNG(0, ROWS[::-1]).normal("step/3", (2, 4))
    assert torch.equal(turned.flip(0), whole)


def test_rows_keys_and_seeds_have_streams_of_their_own():
    rng = ImageRNG(0, ROWS)
    noise = rng.normal("x", (8,))
    assert not torch.equal(noise[0], noise[2])
    assert not torch.equal(noise, rng.normal("y", (8,)))
    assert not torch.equal(noise, ImageRNG(1, ROWS).normal("x", (8,)))


def test_seeds_that_differ_above_bit_32_differ():
    assert not torch.equal(ImageRNG(1, ROWS).normal("x", (8,)), ImageRNG(1 + 2**32, ROWS).normal("x", (8,)))


def test_seed_zero_is_a_seed():
    assert torch.equal(ImageRNG(0, ROWS).normal("x", (8,)), ImageRNG(0, ROWS).normal("x", (8,)))


def test_fp32_and_fp64_see_the_same_noise():
    double = ImageRNG(0, ROWS, torch.float64).normal("x", (100,))
    assert torch.equal(ImageRNG(0, ROWS).normal("x", (100,)), double.float())


def test_take_and_of_items_pick_rows():
    rng = ImageRNG(0, ROWS)
    assert rng.take(torch.tensor([2])).rows == (("a.png", 1),)
    shared = rng.of_items().normal("mask", (5,))
    assert torch.equal(shared[0], shared[2]) and not torch.equal(shared[0], shared[1])


def test_moments_are_those_of_the_distributions():
    rng = ImageRNG(0, tuple((str(k), 0) for k in range(50)), torch.float64)
    n = 50 * 2000
    normal, uniform = rng.normal("n", (2000,)), rng.uniform("u", (2000,))
    assert abs(normal.mean()) < 5 / n**0.5 and abs(normal.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs(uniform.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    counts = rng.poisson("p", torch.full((50, 2000), 3.0))
    assert abs(counts.mean() - 3) < 5 * (3 / n) ** 0.5 and abs(counts.var() - 3) < 0.2


def test_rows_of_few_numbers_are_as_random_as_an_image():
    """Small draws come from a counter, large ones from a generator: both are normal, and no row knows its neighbour."""
    rows = tuple(("a", k) for k in range(40000))
    small = ImageRNG(0, rows, torch.float64).normal("x", (5,))
    large = ImageRNG(0, (("a", 0),), torch.float64).normal("x", (5 * 40000,)).view(-1, 5)
    n = small.numel()
    for z in (small, large):
        assert abs(z.mean()) < 5 / n**0.5 and abs(z.square().mean() - 1) < 5 * (2 / n) ** 0.5
        assert abs(z.pow(4).mean() - 3) < 5 * (96 / n) ** 0.5
        for other in (z.roll(1, 0), z.roll(1, 1), z.roll((1, 1), (0, 1))):
            assert abs((z * other).mean()) < 5 / n**0.5
    again = ImageRNG(0, rows, torch.float64).normal("y", (5,))
    assert abs((small * again).mean()) < 5 / n**0.5 < abs((small * (small + again)).mean())
