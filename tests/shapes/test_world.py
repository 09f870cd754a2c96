"""Scenes: what is held out stays out, groups pair one style with several contents."""

import torch

from rbctrl.shapes.bank import CONTENTS, GROUP, draw_groups, make_bank
from rbctrl.shapes.render import outline_distance, render
from rbctrl.shapes.world import FACTORS, NAMED_COLORS, UNNAMED, draw_colors, draw_scenes, held_out


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_held_out_combinations_are_a_fifth_and_never_seen():
    grid = torch.cartesian_prod(*(torch.arange(len(FACTORS[name])) for name in ("palette", "texture", "background")))
    assert 0.17 < held_out(*grid.T).float().mean() < 0.23
    seen, other = draw_scenes(2000, generator()), draw_scenes(500, generator(), named=1.0, split="held_out")
    assert not held_out(seen.palette, seen.texture, seen.background).any()
    assert held_out(other.palette, other.texture, other.background).all()


def test_half_of_the_palettes_have_a_name_and_its_colours():
    scenes = draw_scenes(2000, generator())
    named = scenes.palette != UNNAMED
    assert 0.45 < named.float().mean() < 0.55
    assert torch.equal(scenes.colors[named], NAMED_COLORS[scenes.palette[named]])
    assert scenes.colors.min() >= 0 and scenes.colors.max() <= 1


def test_unnamed_palettes_contrast_and_are_no_named_ones():
    colors = draw_colors(2000, generator())
    paper, ink = (colors[:, k].max(1).values for k in (0, 2))
    assert ((paper - ink).abs() > 0.25).all()
    nearest = (colors[:, None] - NAMED_COLORS).abs().flatten(2).mean(2).min(1).values
    assert nearest.min() > 0.01


def test_groups_share_styles_along_rows_and_contents_along_columns():
    scenes = draw_groups(20, generator())
    assert len(scenes) == 20 * GROUP

    def table(name):
        return getattr(scenes, name).unflatten(0, (20, -1, CONTENTS))

    for name in ("texture", "background", "palette"):
        assert (table(name) == table(name)[:, :, :1]).all()
    for name in ("shape", "count", "position"):
        assert (table(name) == table(name)[:, :1]).all()
    colors, texture = table("colors"), table("texture")
    assert (texture[:, 0] == texture[:, 1]).all() and (colors[:, 0] != colors[:, 1]).flatten(1).any(1).all()
    assert torch.equal(colors[:, 0], colors[:, 2]) and (texture[:, 0] != texture[:, 2]).all()
    assert not held_out(scenes.palette, scenes.texture, scenes.background).any()


def test_a_bank_is_read_back_as_it_was_rendered(tmp_path):
    first, again = make_bank(2, 32, 5, tmp_path), make_bank(2, 32, 5, tmp_path)
    assert torch.equal(first.pixels, again.pixels) and first.pixels.shape == (2 * GROUP, 3, 32, 32)
    assert not torch.equal(first.pixels, make_bank(2, 32, 6, tmp_path).pixels)


def test_a_drawing_has_its_colours_and_is_the_same_at_two_sizes():
    scenes = draw_scenes(40, generator())
    large, small = (render(scenes, size, generator(3)) for size in (64, 32))
    reduced = torch.nn.functional.avg_pool2d(large, 2)
    assert (reduced - small).abs().mean() < 0.05
    assert (reduced - small.flip(0)).abs().mean() > 0.2  # negative control: other scenes
    plain = scenes.background == FACTORS["background"].index("plain")
    corner = (large[plain][:, :, 1, 32] + 1) / 2  # at the top, in the middle
    assert (corner - scenes.colors[plain][:, 0]).abs().median() < 0.01


def test_outlines_are_negative_inside_and_grow_outwards():
    x = torch.tensor([0.0, 3.0]).view(1, 1, 1, 2).expand(9, 1, 1, 2)
    shape, outline = torch.arange(9), torch.zeros(9, 8)
    distance = outline_distance(shape, outline, x, torch.zeros_like(x))[:, 0, 0]
    hollow = shape == FACTORS["shape"].index("ring")
    assert (distance[~hollow, 0] < 0).sum() >= 7 and (distance[:, 1] > 0.5).all()
    circle = outline_distance(torch.tensor([0]), torch.zeros(1, 8), x[:1] * 0.5, torch.zeros(1, 1, 1, 2))
    assert abs(float(circle[0, 0, 0, 1]) - 0.55) < 1e-6


def test_strokes_waver_and_are_no_clean_drawing():
    scenes = draw_scenes(8, generator())
    clean, strokes = (render(scenes, 64, generator(1), brush=brush) for brush in ("clean", "strokes"))
    assert 0.02 < (clean - strokes).abs().mean() < 0.5
