"""Fair tuning: every controller gets the same number of trials on the same images, which are none of the test images.

`space` reads what may vary, `guard` refuses images that are held out, `search` asks and tells (deterministic given a
seed), `trials` runs settings as cells of a study, `preset` writes the winner with its provenance.
"""

from rbctrl.tuning.preset import is_tuned

__all__ = ["is_tuned"]
