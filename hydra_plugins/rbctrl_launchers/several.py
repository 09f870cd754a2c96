"""Submitit jobs of several cells: `cells_per_job` cells of one prior run in one process, which loads it once.

The launcher is that of hydra-submitit-launcher, job by job, with the difference that a job is a list of cells. What
the cells leave on disk does not depend on it: a job that is killed or requeued finds its finished cells done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

_OF_SUBMITIT = ("folder", "max_num_timeout")
_SHARED = "timeout_min cpus_per_task gpus_per_node tasks_per_node mem_gb nodes name stderr_to_stdout".split()
Cell = tuple[int, list[str]]  # number and words


class SeveralPerJob(Launcher):
    """Several cells per submitit job.

    Args:
        cluster: "slurm", or "local" for one process per job on this machine.
        cells_per_job: at most.
        options: of submitit, such as timeout_min; those of Slurm without their prefix `slurm_`.
    """

    def __init__(self, cluster: str, cells_per_job: int, submitit_folder: str, **options: object) -> None:
        if cells_per_job < 1:
            raise ValueError(f"cells_per_job is at least 1, got {cells_per_job}")
        self.cluster, self.cells_per_job = cluster, cells_per_job
        self.options = {"folder": submitit_folder, **{name: _plain(value) for name, value in options.items()}}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's call before `launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submits all cells, waits for them, and returns what each left, in their order."""
        import submitit

        named = {k if k in (*_SHARED, *_OF_SUBMITIT) else f"{self.cluster}_{k}": v for k, v in self.options.items()}
        own = {k if k == "folder" else f"{self.cluster}_{k}": named.pop(k) for k in _OF_SUBMITIT if k in named}
        executor = submitit.AutoExecutor(cluster=self.cluster, **own)
        executor.update_parameters(**named)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        cells = [(initial_job_idx + k, list(words)) for k, words in enumerate(job_overrides)]
        jobs = executor.map_array(_Job(self), together(cells, self.cells_per_job))
        returned = dict(pair for job in jobs for pair in job.results()[0])
        return [returned[number] for number, _ in cells]


class _Job:
    """What runs in a job; submitit calls `checkpoint` before a job is requeued."""

    def __init__(self, launcher: SeveralPerJob) -> None:
        self.context, self.task, self.config = launcher.hydra_context, launcher.task_function, launcher.config
        self.state = Singleton.get_state()

    def __call__(self, cells: Sequence[Cell]) -> list[tuple[int, JobReturn]]:
        return [(number, self._run(number, words)) for number, words in cells]

    def checkpoint(self, cells: Sequence[Cell]) -> object:
        """The same job again: cells that are done are found done."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, cells)

    def _run(self, number: int, words: list[str]) -> JobReturn:
        import submitit
        from hydra.core.utils import run_job, setup_globals
        from omegaconf import open_dict

        Singleton.set_state(self.state)
        setup_globals()
        config = self.context.config_loader.load_sweep_config(self.config, words)
        with open_dict(config.hydra.job) as job:
            job.id, job.num = submitit.JobEnvironment().job_id, number
        return run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def _plain(value: object) -> object:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def together(cells: Sequence[Cell], at_most: int) -> list[list[Cell]]:
    """The cells in groups of `at_most`, those of one prior together."""
    of_prior: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
    for number, words in cells:
        key = tuple(word for word in words if word.lstrip("+~").partition("=")[0].partition(".")[0] == "prior")
        of_prior[key].append((number, words))
    groups = of_prior.values()
    return [group[k : k + at_most] for group in groups for k in range(0, len(group), at_most)]
