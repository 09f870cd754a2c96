"""Photographs that come with scikit-image, scikit-learn and matplotlib: found by path, nothing is downloaded.

HELD_OUT are the photographs every reported number is measured on. No network here was trained on them and no setting
was chosen on them; TRAINING and GRAY are what `rbctrl train` and the tuning of settings may see.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_FOLDERS = {
    "skimage": "data",
    "sklearn": "datasets/images",
    "matplotlib": "mpl-data",
}

HELD_OUT = {
    "astronaut": ("skimage", "astronaut.png"),
    "coffee": ("skimage", "coffee.png"),
    "chelsea": ("skimage", "chelsea.png"),
    "flower": ("sklearn", "flower.jpg"),
}
TRAINING = {
    "china": ("sklearn", "china.jpg"),
    "grace_hopper": ("matplotlib", "sample_data/grace_hopper.jpg"),
    "rocket": ("skimage", "rocket.jpg"),
    "motorcycle_left": ("skimage", "motorcycle_left.png"),
    "motorcycle_right": ("skimage", "motorcycle_right.png"),
    "hubble": ("skimage", "hubble_deep_field.jpg"),
    "retina": ("skimage", "retina.jpg"),
    "ihc": ("skimage", "ihc.png"),
}
GRAY = {
    name: ("skimage", f"{name}.png")
    for name in ("camera", "brick", "grass", "gravel", "coins", "moon", "clock_motion", "text", "page")
}


def photo_path(name: str) -> Path:
    """The file of a bundled photograph.

    Raises:
        ValueError: the name is not one of HELD_OUT, TRAINING and GRAY.
        FileNotFoundError: the package that carries it is not installed, or no longer carries it.
    """
    known = HELD_OUT | TRAINING | GRAY
    if name not in known:
        raise ValueError(f"no bundled photograph is named {name!r}; there are {', '.join(sorted(known))}")
    package, file = known[name]
    spec = find_spec(package)  # finds the folder without importing the package
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the photograph {name!r} comes with {package}, which is not installed")
    path = Path(spec.origin).parent / _FOLDERS[package] / file
    if not path.is_file():
        raise FileNotFoundError(f"the installed {package} no longer carries {file} (looked for {path})")
    return path
