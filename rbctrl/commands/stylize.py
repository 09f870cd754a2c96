"""`rbctrl stylize --style ref.png --prompt "a cat, sitting" [key=value ...]`: an image of a text in a picture's style.

It composes the words of an ordinary run and runs them: operator=style on the reference, noise=none, cost=cosine, the
prompt, and the reference of the attention where there is one. So rows, pictures and report are those of `rbctrl`, and
key=value changes whatever it changes there. With --content it is operator=parallel and cost=parts. What you leave open
is controller=rb_modulation, sampler=ddim on a uniform grid, guidance of 5, the size that the prior was trained at, and
references reduced to the size of the previews that costs see. A prompt may hold any characters.

Several pictures, --style a.png b.png, make a style between them, in the middle or by --style-weights 0.7 0.3: the
control follows the weighted mean of their features, and attention=afa the weighted mean of attentions. The first is
the item of the rows, and what a metric with a descriptor of its own compares with.

Examples:
    rbctrl stylize prior=sdxl attention=ip_adapter --style ref.png --prompt "a cat, sitting"
    rbctrl stylize prior=sdxl --style ref.png --content me.png --mask mask.png --prompt "a man" cost.weights.content=0.5
    rbctrl stylize -m prior=sdxl controller=none,rb_modulation 'seed=range(4)' --style ref.png --prompt "a cat"
    rbctrl stylize prior=shapes attention=afa --style a.png b.png --style-weights 0.7 0.3 --prompt "two stars topleft"
    rbctrl stylize prior=sd15 --descriptor gram --style ref.png --prompt "a cat" controller.lr=0.05
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from rbctrl.commands.stylize_options import parse
from rbctrl.config import CONF_DIR, default_option, option_file, options
from rbctrl.data.files import read_picture
from rbctrl.literal import build, quoted
from rbctrl.unwarned import unwarned

# Sides of the images that priors were trained on, in pixels.
TRAINED_AT = {"sd15": 512, "sd21": 768, "sdxl": 1024, "sd3": 1024, "flux": 1024, "cascade": 1024, "shapes": 64}
GUIDANCE = 5.0  # where a prior has none of its own; that of diffusers' pipeline of Stable Diffusion XL
OWN = {"data": "--style", "data.path": "--style", "operator": "--style and --content", "prior.prompt": "--prompt"}


def run(args: list[str]) -> int:
    """Runs what the options mean.

    Returns:
        The exit status of the run.

    Raises:
        FileNotFoundError: a picture, or a file of the descriptor's weights, is not there.
        ValueError: a file is no picture, the prior listens to no prompt, or an option is wrong.
    """
    from rbctrl.commands.run import run as run_words

    given = parse(args, __doc__ or "")
    return run_words([*(["-m"] if given.multirun else []), *words(given)])


def words(given: argparse.Namespace) -> list[str]:
    """The words of the run that the options mean; a setting that the user names is the user's."""
    own = OverridesParser.create().parse_overrides(given.words)
    keys = {str(word.key_or_group) for word in own}
    for key, option in OWN.items():
        if key in keys:
            raise ValueError(f"rbctrl stylize sets {key} itself, by {option}: leave {key}=... out")
    pictures = _pictures(given)
    first = [_first(word) for word in own]
    if "experiment" in keys:
        Composed.of(first).check_preset()
    composed = Composed.of([*first, *_problem(given)])
    made = [*_problem(given), *composed.defaults(), *composed.references(given)]
    made += [*composed.between(given), *composed.descriptor(given.descriptor, keys), *composed.size(given.size)]
    made = [word for word in made if word.lstrip("+").partition("=")[0] not in keys]
    composed = Composed.of([*first, *made])
    composed.check_weights()
    made += composed.as_previews(pictures[0])
    said = {"prior.prompt": given.prompt, "prior.negative_prompt": given.negative_prompt}
    made += [f"{key}={quoted(text)}" for key, text in said.items() if text is not None]
    return [*made, *given.words]


@dataclass(frozen=True)
class Composed:
    """A composed run: what it consists of, to find what is still open.

    Attributes:
        cfg: the configuration.
        choices: group to option.
    """

    cfg: Any
    choices: dict[str, str]

    @classmethod
    def of(cls, words: Sequence[str]) -> Composed:
        """The run of these words."""
        with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3"):
            cfg = compose("config", list(words), return_hydra_config=True)
        return cls(cfg, dict(cfg.hydra.runtime.choices))

    @property
    def parts(self) -> list[str]:
        """The nodes of the operator that have a descriptor."""
        return ["operator.parts.style", "operator.parts.content"] if "parts" in self.cfg.operator else ["operator"]

    def defaults(self) -> list[str]:
        """Of groups that neither the user nor a preset has chosen.

        Raises:
            ValueError: the prior listens to no prompt.
        """
        prior, cfg = self.choices["prior"], self.cfg.prior
        if "prompt" not in cfg:
            listening = ", ".join(option for option in options("prior") if _listens(option))
            raise ValueError(f"prior={prior} listens to no prompt: take another one, prior=... of {listening}")
        made = [
            f"{group}={option}"
            for group, option in {"controller": "rb_modulation", "metrics": "style"}.items()
            if self.choices[group] == default_option(group)
        ]
        if self.choices["sampler"] == default_option("sampler"):
            made += ["sampler=ddim", "sampler/grid=uniform", *(["sampler.grid.shift=3"] if prior == "sd3" else [])]
        if "guidance" in cfg and "distilled_guidance" not in cfg and cfg.guidance.scale == 1:
            made.append(f"prior.guidance.scale={GUIDANCE}")
        return made

    def references(self, given: argparse.Namespace) -> list[str]:
        """Those of the attention, if it takes any and has not got them by itself.

        Raises:
            ValueError: it takes one style, and there are several.
        """
        several, taken = len(given.style) > 1, list(self.cfg.attention)
        if several and "style" in taken and "style_weights" not in taken:
            raise ValueError(
                f"attention={self.choices['attention']} takes one style, and --style names {len(given.style)}: "
                "attention=afa mixes several, and attention=none leaves them to the control"
            )
        places = {"style": given.style if several else given.style[0], "content": given.content}
        wanted = {kind: place for kind, place in places.items() if place is not None and kind in taken}
        known = {kind: self.cfg.attention.get(kind) for kind in wanted}  # None where it is missing
        made = [f"attention.{kind}={_value(place)}" for kind, place in wanted.items() if place != known[kind]]
        if several and "style" in taken and given.style_weights is not None:
            made.append(f"attention.style_weights={given.style_weights}")
        return made

    def between(self, given: argparse.Namespace) -> list[str]:
        """Several styles as y of the operator."""
        if len(given.style) == 1:
            return []
        weights = given.style_weights or [1 / len(given.style)] * len(given.style)
        return [f"++{self.parts[0]}.towards={_value(given.style[1:])}", f"++{self.parts[0]}.share={weights[1:]}"]

    def descriptor(self, name: str | None, keys: set[str]) -> list[str]:
        """The choice of the descriptors: the named one; else the prior's own, if it has one.

        Raises:
            ValueError: there is no such descriptor.
        """
        known = options("operator/descriptor")
        if name is None:
            name = self.choices["prior"] if self.choices["prior"] in known else None
        if name is None or any(key.startswith("operator/descriptor") for key in keys):
            return []
        if name not in known:
            raise ValueError(f"there is no descriptor {name!r}; there are {', '.join(known)}")
        if len(self.parts) == 1:
            return [f"operator/descriptor={name}"]
        heads = (name, f"{name}_content" if f"{name}_content" in known else name)
        return [f"operator/descriptor@{part}.descriptor={head}" for part, head in zip(self.parts, heads)]

    def size(self, pixels: int | None) -> list[str]:
        """Side of the image: as asked for, as a preset says, as the prior was trained; else that of the reference."""
        pixels = self.cfg.data.size or TRAINED_AT.get(self.choices["prior"]) if pixels is None else pixels
        return [] if pixels is None else [f"data.size={pixels}", "+data.enlarge=true"]

    def check_preset(self) -> None:
        """Whether a preset leaves the problem open, or poses one of style.

        Raises:
            ValueError: it measures something else.
        """
        operator = self.choices["operator"]
        stylizes = str(self.cfg.operator.get("_target_")).endswith((".Style", ".Parallel"))
        if operator != default_option("operator") and not stylizes:
            raise ValueError(
                f"experiment={self.choices['experiment']} poses a problem of its own, operator={operator}: take a "
                "preset of stylization (rbctrl list experiment), or name what it sets, such as controller=..."
            )

    def check_weights(self) -> None:
        """Whether the descriptors' files are there; what has no ending is a folder, or a repository of the hub.

        Raises:
            FileNotFoundError: one is not.
        """
        with unwarned("rbctrl.descriptors"):  # the run says it
            files = build(self.cfg, "operator").files()
        for file in files:
            if file.path.suffix and not file.present():
                raise FileNotFoundError(f"{file.missing()}; --descriptor gram needs none")

    def as_previews(self, reference: tuple[int, ...]) -> list[str]:
        """References as sharp as what costs see, if that is less than the image.

        Args:
            reference: shape of the picture, [3, H, W].
        """
        side = self.cfg.data.size
        image = (3, side, side) if side else (3, *(length - length % 8 for length in reference[1:]))
        seen = min(build(self.cfg, "prior").codec.decoded_shape(image)[1:])
        return [f"{part}.size={seen}" for part in self.parts] if seen < min(image[1:]) else []


def _problem(given: argparse.Namespace) -> list[str]:
    """The inverse problem: data, operator, noise and cost."""
    made = ["data=folder", f"data.path={quoted(given.style[0])}", "noise=none"]
    if given.content is None:
        return [*made, "operator=style", "cost=cosine"]
    made += ["operator=parallel", "cost=parts", f"operator.parts.content.reference={quoted(given.content)}"]
    return [*made, f"operator.parts.content.mask={quoted(given.mask)}"] if given.mask is not None else made


def _pictures(given: argparse.Namespace) -> list[tuple[int, ...]]:
    """The shapes of the pictures, the reference first."""
    if given.mask is not None and given.content is None:
        raise ValueError("--mask outlines the subject of a content picture: give --content, too")
    named = [*(("--style", path) for path in given.style), ("--content", given.content), ("--mask", given.mask)]
    return [tuple(read_picture(path, name).shape) for name, path in named if path is not None]


def _value(place: str | Sequence[str]) -> str:
    """A path, or a list of some, as the value of a word."""
    return quoted(place) if isinstance(place, str) else f"[{','.join(map(quoted, place))}]"


def _first(word: Any) -> str:  # noqa: ANN401  (an override of Hydra)
    """The first cell's part of a word that may sweep."""
    if not word.is_sweep_override():
        return word.input_line
    return f"{word.get_key_element()}={next(iter(word.sweep_string_iterator()))}"


def _listens(option: str) -> bool:
    return bool(re.search(r"^prompt:", option_file("prior", option).read_text(encoding="utf-8"), re.MULTILINE))
