"""What identifies a cell: everything that determines a row besides its item, sample and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rbctrl.pretrained.base import content_hash

DETERMINING = ("prior", "operator", "noise", "cost", "running_cost", "sampler", "controller", "dtype")
WHICH_IMAGES = ("n", "names", "pattern")
LATER = {("prior", "compile"): False}  # options that are younger than results, and what they are at rest


def cell_key(record: Mapping[str, object], weights: str) -> str:
    """Identifies what determines a row besides its item, sample and seed: config of these groups, and the weights.

    Metrics, device, batch size, the number of samples, and which or how many images run are not in it; how an image is
    read (size, path) is. What an image shows is part of each row (`content`), not of the key. What stands in a file
    that the configuration names (a mask, a kernel, a network) is part of it, so a file that changes makes a new cell.
    """
    config = in_use(record.get("config") or {})  # type: ignore[arg-type]
    determining = {name: config.get(name) for name in DETERMINING}
    data: Mapping = config.get("data") or {}  # type: ignore[assignment]
    determining["data"] = {name: value for name, value in data.items() if name not in WHICH_IMAGES}
    if config.get("strength") not in (None, 1):
        determining["strength"] = float(config["strength"])  # type: ignore[arg-type]
    files = sorted(_files({name: node for name, node in determining.items() if name not in ("prior", "data")}))
    text = json.dumps([determining, weights, *([files] if files else [])], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_use(config: Mapping[str, object]) -> dict[str, object]:
    """A configuration without younger options that rest: it then equals the one of results from before them."""
    kept = dict(config)
    for (group, name), rest in LATER.items():
        node = kept.get(group)
        if isinstance(node, Mapping) and name in node and node[name] == rest:
            kept[group] = {key: value for key, value in node.items() if key != name}
    return kept


def _files(node: object) -> Iterator[tuple[str, str]]:
    """The files that a configuration names, with the hash of each."""
    if isinstance(node, Mapping | list):
        for part in node.values() if isinstance(node, Mapping) else node:
            yield from _files(part)
    elif isinstance(node, str) and len(node) < 1000 and (path := Path(node).expanduser()).is_file():
        yield node, content_hash(path)[:16]
