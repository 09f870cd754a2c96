"""Hydra's basic sweeper, with cells that are composed quickly.

Hydra reads some thirty files for a cell, and does so twice: before a sweep begins, to find what cannot be composed, and
when the cell runs. Cells of the same options of groups differ in the values that are set last. So the words of a cell
are split,

    options   controller=dps, +cost@cost.terms.mine=custom ...: composed from files, once for all cells that share them
    values    seed=1, controller.zeta=3 ...: set on a copy of that, by Hydra's own function

and the result is what Hydra composes. Where that fails, Hydra composes the cell itself and says why. Before a sweep
begins, one cell is composed of all that differ in plain values (numbers, text) alone: what can be set to 1 can be set
to 2.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from uuid import uuid4

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

_KEPT = 256
# of this process: the same sweep's, in a worker that a launcher reuses
_composed: dict[tuple[str, ...], DictConfig] = {}


class QuickLoader(ConfigLoaderImpl):
    """Composes the cells of one sweep; a launcher may send it to other processes."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._sweep = uuid4().hex
        self._folders: IConfigRepository | None = None

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of a cell."""
        try:
            groups = self._groups(master_config)
            values = [word for word in sweep_overrides if _is_value(word, groups)]
            options = [word for word in sweep_overrides if word not in values]
            config = self._copy(master_config, options)
            _set(config, [_parsed(word) for word in values], sweep_overrides)
            return config
        except (HydraException, OmegaConfBaseException):
            return super().load_sweep_config(master_config, sweep_overrides)

    def kind(self, master_config: DictConfig, words: Sequence[str]) -> tuple[str, ...]:
        """What decides whether a cell can be composed: its words, plain values left out."""
        groups = self._groups(master_config)
        return tuple(_parsed(word).key_or_group if _is_plain(word, groups) else word for word in words)

    def _groups(self, master_config: DictConfig) -> IConfigRepository:
        """Where groups are found, hydra.searchpath included."""
        if self._folders is None:
            name, words = master_config.hydra.job.config_name, list(master_config.hydra.overrides.hydra)
            self._folders = self._parse_overrides_and_create_caching_repo(name, words)[1]
        return self._folders

    def _copy(self, master_config: DictConfig, options: Sequence[str]) -> DictConfig:
        """What the options of groups alone compose to."""
        key = (self._sweep, *options)
        if key not in _composed:
            if len(_composed) >= _KEPT:
                _composed.clear()
            _composed[key] = super().load_sweep_config(master_config, list(options))
        return copy.deepcopy(_composed[key])


class QuickSweeper(Sweeper):
    """The basic sweeper with a `QuickLoader`.

    Args:
        max_batch_size: cells that a launcher is handed at once; None: all.
        params: words of every sweep, by key.
    """

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        self._basic = BasicSweeper(max_batch_size, params)
        self._basic.validate_batch_is_legal = self.validate_batch_is_legal  # type: ignore[method-assign]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's call before `sweep`."""
        loader = QuickLoader(hydra_context.config_loader.get_search_path())
        context = HydraContext(config_loader=loader, callbacks=hydra_context.callbacks)
        self._basic.setup(hydra_context=context, task_function=task_function, config=config)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Hydra's check that all cells can be composed, of one cell of each kind."""
        loader, master = self._basic.hydra_context.config_loader, self._basic.config
        kinds = {loader.kind(master, words): words for words in batch}
        Sweeper.validate_batch_is_legal(self._basic, list(kinds.values()))

    def sweep(self, arguments: list[str]) -> object:
        """Runs all cells; what went wrong in other processes is told to the one that sets the exit status."""
        from rbctrl.commands.run import take_in

        batches = self._basic.sweep(arguments)
        take_in(job.return_value for batch in batches for job in batch)
        return batches


@lru_cache(maxsize=4096)
def _parsed(word: str) -> Override:
    (override,) = OverridesParser.create().parse_overrides([word])
    return override


def _is_value(word: str, groups: IConfigRepository) -> bool:
    override = _parsed(word)
    return not override.is_hydra_override() and not groups.group_exists(override.key_or_group)


def _is_plain(word: str, groups: IConfigRepository) -> bool:
    """Whether a word sets a value without parts, and neither adds nor deletes a key."""
    override = _parsed(word)
    changes_keys = override.is_add() or override.is_force_add() or override.is_delete()
    return _is_value(word, groups) and not changes_keys and not isinstance(override.value(), dict | list)


def _set(config: DictConfig, values: list[Override], words: Sequence[str]) -> None:
    """The values on top of the options, as `ConfigLoaderImpl` has them."""
    ConfigLoaderImpl.validate_sweep_overrides_legal(values, RunMode.RUN, from_shell=True)
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    task = [override for override in map(_parsed, words) if not override.is_hydra_override()]
    config.hydra.overrides.task = [override.input_line for override in task]
    naming = config.hydra.job.config.override_dirname
    with open_dict(config.hydra):
        config.hydra.job.override_dirname = get_overrides_dirname(
            task, naming.exclude_keys, naming.item_sep, naming.kv_sep
        )
