"""Errors a user can cause, each as one sentence; anything else keeps its traceback.

Hydra wraps what a constructor raises and reports a typo by what it failed to do. Here the wrapper is taken off, the
config node is named, and so are the names that would have been right.
"""

from __future__ import annotations

import errno
import inspect
import linecache
import os
import re
import sys
import traceback
from pathlib import Path

import hydra
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from rbctrl.commands.groups import groups, nearest
from rbctrl.config import option_file, options

FILE_ERRORS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # full, a limit, a quota
EXTRAS = {
    "diffusers": "diffusers",
    "huggingface_hub": "diffusers",
    "transformers": "diffusers",
    "wandb": "wandb",
    "tensorboard": "tensorboard",
    "optuna": "tune",
    "lpips": "lpips",
    "torchvision": "lpips",
}
_HYDRA_FOLDER = Path(hydra.__file__).parent


def report_error(error: Exception, where: str = "") -> str:
    """Prints one sentence for an expected error, with the traceback before it for any other; returns the sentence."""
    said = sentence(error)
    print(f"rbctrl: {where}{said}", file=sys.stderr)
    return said


def sentence(error: Exception) -> str:
    """One sentence for any error; of one that nobody expects, the traceback is printed."""
    said = explain(error)
    if said is None or os.environ.get("RBCTRL_TRACEBACK") == "1":
        traceback.print_exception(error)
    return f"{type(error).__name__}: {_flat(str(error))}" if said is None else said


def explain(error: BaseException) -> str | None:
    """One sentence on an error that a user can cause and mend; None for any other."""
    if "Config group override must be a string or a list" in str(error):  # Hydra does not say of which
        return "a group takes the name of one of its options, group=option (rbctrl list shows them), no number or null"
    if isinstance(error, InstantiationException):
        return _instantiation(error)
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        quoting = "quote values with commas, spaces, = or letters beyond a-z, as in 'key=\"value\"'"
        return f"cannot read {error.override!r}: write key=value, and {quoting}"
    if isinstance(error, HydraException):
        return _composition(error)
    if isinstance(error, OmegaConfBaseException):
        return _value(error)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}; what is finished is kept: make room, and run the same command again"
    if isinstance(error, FILE_ERRORS):
        return _flat(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    if isinstance(error, ImportError):
        return _import(error)
    if "No working C++ compiler found" in str(error):  # inductor's, in wrappers of dynamo
        return "torch.compile found no C++ compiler: install g++, name one in CXX, or do without (prior.compile=false)"
    if type(error).__module__.startswith("wandb.errors"):  # no account, no network, no such project
        return _flat(f"logger=wandb: {error}; WANDB_MODE=offline needs no account, and logger=csv no wandb")
    if isinstance(error, (ValueError, TypeError)) and _deliberate(error):
        return _flat(str(error))
    return None


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _deliberate(error: BaseException) -> bool:
    """Raised by a `raise`, to be read; or a call that does not fit the signature, made by Hydra."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return True
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
    return line.startswith("raise") or _HYDRA_FOLDER in Path(frames[-1].filename).parents


def _instantiation(error: InstantiationException) -> str | None:
    """The cause, with the config node; a constructor that fails for a reason of its own is not explained away."""
    text, cause = str(error), error.__cause__
    key = re.search(r"full_key: (\S+)", text)
    target = re.search(r"target '([\w.]+)'", text)
    node = f"{key[1]}: " if key else ""
    if cause is None:
        return node + _flat(text.partition("\nfull_key")[0])
    if text.startswith("Error locating target"):
        return f"{node}{_not_found(target[1] if target else '', cause)}"
    unknown = re.search(r"got an unexpected keyword argument '(\w+)'", str(cause))
    if isinstance(cause, TypeError) and unknown and target:
        known = list(inspect.signature(get_object(target[1])).parameters)
        name = target[1].rpartition(".")[2]
        return f"{node}{name} has no argument {unknown[1]!r}{nearest(unknown[1], known)}; it takes {', '.join(known)}"
    if isinstance(cause, (ValueError, TypeError)):
        return node + _flat(str(cause))
    inner = explain(cause)
    return None if inner is None else node + inner


def _not_found(path: str, error: BaseException) -> str:
    """A dotted path that leads nowhere: the module is absent, fails, or has no such name."""
    module, _, name = path.rpartition(".")
    if module in sys.modules:
        return f"{module} has no {name}{nearest(name, dir(sys.modules[module]))}"
    return f"cannot import {path}: {_flat(str(error.__cause__ or error))} (the current folder is searched, too)"


def _missing_option(error: MissingConfigException) -> str:
    """An option, a group or a config file that does not exist."""
    path, known = error.missing_cfg_file or "", list(error.options or [])
    group, _, option = path.rpartition("/")
    if not group:
        return _flat(str(error).partition("\nSearch path")[0])
    if "." in option:
        return f"{group} has no option {option!r}: a class of your own is {group}=custom {group}._target_={option}"
    if not known:
        return f"there is no {path!r}, and no option at all in a group {group!r}"
    return f"{group} has no option {option!r}{nearest(option, known)}; it has {', '.join(known)}"


def _composition(error: HydraException) -> str:
    cause, text = error.__cause__, _flat(str(error))
    if isinstance(cause, OmegaConfBaseException):
        return _value(cause)
    several = re.match(r"Ambiguous value for argument '(.+?)' 1\.|Sweep parameters '(.+?)' requires", text)
    if several:
        return f"{several[1] or several[2]!r} has several values: add -m to run all of them, or write [a,b] for a list"
    preset = re.match(r"In '(\S+)': Could not override '(\S+)'\. No match in the defaults list", text)
    if preset:
        name = preset[1].replace("/", "=", 1)
        group = preset[2].partition("/")[0]
        return f"{name} sets {preset[2]}, which the chosen {group} does not have: leave {name} or {group}=... out"
    unmatched = re.match(r"Could not override '(\w+)'\. No match in the defaults list.* use (\+\S+)", text)
    if unmatched:
        return f"{unmatched[1]} is not part of the defaults: write {unmatched[2]}"
    return text


def _value(error: OmegaConfBaseException) -> str:
    """A key that does not exist, a value that is missing, or an interpolation that leads nowhere."""
    key, parent = error.full_key, error.parent_node
    if isinstance(error, MissingMandatoryValue):
        return f"{key} has no default: add {key}=..."
    if isinstance(parent, DictConfig) and "is not in struct" in str(error):
        return _unknown_key(str(key), parent)
    return _flat(str(error).partition("\n    object_type")[0])


def _unknown_key(key: str, parent: DictConfig) -> str:
    node, _, name = key.rpartition(".")
    content = OmegaConf.to_container(parent, resolve=False)
    known = (
        [str(k) for k in content if k not in ("_target_", "_partial_", "hydra")] if isinstance(content, dict) else []
    )
    if not node:
        known = sorted({*known, *groups()})
        return f"there is no group or key {name!r}{nearest(name, known)}; there are {', '.join(known)}"
    target = content.get("_target_") if isinstance(content, dict) else None
    owner = f"{node} ({target})" if isinstance(target, str) else node
    takes = f"its keys are {', '.join(known)} (+{key}=... adds one)" if known else "it has no keys"
    others = _bringing(node.replace(".", "/"), name)
    return f"{owner} has no key {name!r}{nearest(name, known)}; {takes}" + (
        f"; {node}={','.join(others)} bring their own, so that a sweep over options needs no word for it"
        if others and not known
        else ""
    )


def _bringing(group: str, name: str) -> list[str]:
    """The options of a group that set a key."""
    found = {option: OmegaConf.load(option_file(group, option)) for option in options(group)}
    return [option for option, node in found.items() if not OmegaConf.is_missing(node, name) and name in node]


def _import(error: ImportError) -> str:
    package = (error.name or "").partition(".")[0]
    extra = f"; it comes with pip install 'rbctrl[{EXTRAS[package]}]'" if package in EXTRAS else ""
    return _flat(str(error)) + extra
