"""Whether the values of a configuration are of the kinds that its constructors take, said before one is called.

    sampler.n_steps has to be a whole number, got 2.5

The kinds are the annotations: numbers, whole numbers, true or false, text, and lists and tables of them. On whatever
else an argument may be its constructor has the say, and on the range of a number.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Union, get_args, get_origin

_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "null"}
_MISSING = "???"


def check_kinds(node: object, key: str = "") -> None:
    """Checks the arguments of every `_target_` below a node of a resolved configuration.

    Args:
        node: the whole configuration, or a part.
        key: of the node.

    Raises:
        ValueError: names the first value of another kind than its argument has.
    """
    if isinstance(node, Mapping):
        kinds = _kinds(node["_target_"]) if isinstance(node.get("_target_"), str) else {}
        for name, value in node.items():
            place = f"{key}.{name}" if key else str(name)
            if name in kinds and value != _MISSING and not _fits(value, kinds[name]):
                raise ValueError(f"{place} has to be {_named(kinds[name])}, got {value!r}")
            check_kinds(value, place)
    elif isinstance(node, list | tuple):
        for k, part in enumerate(node):
            check_kinds(part, f"{key}.{k}")


@cache
def _kinds(target: str) -> dict[str, Any]:
    """The annotations of a constructor's arguments; none of one that cannot be imported, which others say."""
    module, _, name = target.rpartition(".")
    try:
        made = getattr(import_module(module), name)
        parameters = inspect.signature(made).parameters
    except Exception:  # an import may raise anything
        return {}
    owner = made.__init__ if inspect.isclass(made) else made
    names = getattr(owner, "__globals__", {})
    return {name: _evaluated(parameter.annotation, names) for name, parameter in parameters.items()}


def _evaluated(annotation: object, names: Mapping[str, object]) -> object:
    """An annotation that may be written as text; `object` where it names what is imported for type checkers only."""
    try:
        return eval(annotation, dict(names)) if isinstance(annotation, str) else annotation  # noqa: S307
    except Exception:  # names that are not there
        return object


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if kind in _FITS:
        return _FITS[kind](value)
    if origin is Mapping and inner[0] is str:
        return isinstance(value, Mapping) and all(_fits(part, inner[1]) for part in value.values())
    if origin in (Sequence, list) or (origin is tuple and inner[-1] is Ellipsis):
        return isinstance(value, list | tuple) and all(_fits(part, inner[0]) for part in value)
    return True


def _named(kind: Any) -> str:  # noqa: ANN401
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_named, inner)))
    if origin is Mapping:
        return f"a table {{name: {_named(inner[1]).removeprefix('a ')}}}"
    if origin in (Sequence, list, tuple):
        return f"a list of {_named(inner[0]).removeprefix('a ').replace('number', 'numbers')}"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


_FITS: dict[Any, Callable[[object], bool]] = {
    float: _is_number,
    int: lambda value: isinstance(value, int) and not isinstance(value, bool),
    bool: lambda value: isinstance(value, bool),
    str: lambda value: isinstance(value, str | int | float),  # a folder may be named 2026
    type(None): lambda value: value is None,
}
