"""A world of drawings in which content and style are known: renderer, words, networks and how they are trained.

A drawing is a content (shape x count x position) in a style (palette x texture x background). Half of the palettes
have a name; the others can be shown by a reference picture, but not told in words. `rbctrl.priors.shapes` is the
text-to-image prior of this world, `rbctrl.metrics.shapes` reads its drawings with a classifier no method uses.
"""

from rbctrl.shapes.render import render
from rbctrl.shapes.words import describe, parse, to_tokens
from rbctrl.shapes.world import FACTORS, Scenes, draw_scenes

__all__ = ["FACTORS", "Scenes", "describe", "draw_scenes", "parse", "render", "to_tokens"]
