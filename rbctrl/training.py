"""`rbctrl train`: the small networks of the shipped priors, with Lightning; `objectives` says what they minimise.

The learning rate warms up, stays constant and falls to zero over the last
part of training: a run can be prolonged or shortened from any checkpoint of the constant part and equals an
undisturbed one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from rbctrl.objectives import Source, TrainingObjective

log = logging.getLogger(__name__)

STEPS_PER_EPOCH = 500  # an epoch is the unit of logging and of checkpoints


class Batches(Dataset):
    """The batches of one epoch; item k is the whole batch of step first_step + k, whatever epoch that falls into."""

    def __init__(self, source: Source, first_step: int) -> None:
        self.source, self.first_step = source, first_step

    def __len__(self) -> int:
        return STEPS_PER_EPOCH

    def __getitem__(self, k: int) -> Any:
        if k >= len(self):
            raise IndexError(k)
        return self.source.batch(self.first_step + k)


class TrainingData(lightning.LightningDataModule):
    """What a source gives, in the order that the number of the step fixes."""

    def __init__(self, source: Source, workers: int) -> None:
        super().__init__()
        self.source, self.workers = source, workers

    def train_dataloader(self) -> DataLoader:
        # from the step, not the epoch: a resumed Lightning run closes the epoch of its checkpoint with one more batch
        batches = Batches(self.source, self.trainer.global_step)
        return DataLoader(batches, batch_size=None, num_workers=self.workers)


class TrainingModule(lightning.LightningModule):
    """A network, its objective and its optimiser."""

    def __init__(
        self,
        network: nn.Module,
        objective: TrainingObjective,
        lr: float,
        warmup_steps: int,
        max_steps: int,
        decay: float,
        seed: int,
        compiled: bool,
    ) -> None:
        super().__init__()
        self.network, self.objective = network, objective
        self.lr, self.warmup_steps, self.max_steps, self.decay, self.seed = lr, warmup_steps, max_steps, decay, seed
        self.compiled = compiled

    def on_fit_start(self) -> None:
        # of the bound method: a compiled module would register itself, and its weights, a second time
        self._forward = torch.compile(self.network.forward, dynamic=False) if self.compiled else self.network.forward

    def on_train_start(self) -> None:
        # a checkpoint holds the rate of its own max_steps, and this run may have another
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.lr * self.lr_factor(self.global_step)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if isinstance(batch, Tensor):
            batch = batch.contiguous(memory_format=torch.channels_last)
        loss = self.objective.loss(self._forward, batch, self.global_step, self.seed)
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def lr_factor(self, step: int) -> float:
        """Of the peak learning rate: warm-up, constant, then linearly to zero over the last `decay` of all steps."""
        left = (self.max_steps - step) / (self.decay * self.max_steps)
        return min(1.0, (step + 1) / self.warmup_steps, max(left, 0.0))

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.lr, betas=(0.9, 0.99), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def export(checkpoint: Path, network: nn.Module, out: Path, command: str, finish: Callable[[], None]) -> None:
    """Writes the averaged weights of a checkpoint as fp16 safetensors, with the architecture in the metadata.

    `finish` is called between: what the network needs besides training is done to the averaged weights.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): w for name, w in state.items()})  # strict
    finish()
    weights = {name: w.half().contiguous() for name, w in network.state_dict().items()}
    metadata = {name: repr(value) for name, value in network.config.items()} | {"command": command}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, out, metadata)


@dataclass(frozen=True, eq=False)
class Training:
    """One training run; continues from its last checkpoint when there is one.

    Args:
        network: to be trained.
        objective: what it minimises.
        source: what it learns from.
        work_dir: checkpoints, CSV log and what the source keeps go here.
        out: the exported weights, fp16 safetensors.
        max_steps: optimiser steps in all; a multiple of 500.
        decay: the share of steps, at the end, over which the learning rate falls to zero.
        compiled: torch.compile the network (needs a C++ compiler); the numbers change in the last bits only.
    """

    network: nn.Module
    objective: TrainingObjective
    source: Source
    work_dir: str
    out: str
    max_steps: int
    decay: float
    lr: float = 1e-3
    warmup_steps: int = 500
    ema_decay: float = 0.999
    seed: int = 0
    workers: int = 0
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.max_steps % STEPS_PER_EPOCH:
            raise ValueError(f"max_steps is a multiple of {STEPS_PER_EPOCH}, got {self.max_steps}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is a share of the steps in (0, 1], got {self.decay}")

    def run(self, command: str = "rbctrl train") -> Path:
        """Trains and exports; returns the path of the weights."""
        lightning.seed_everything(self.seed, verbose=False)
        folder = Path(self.work_dir)
        self.source.prepare(folder, self.seed)
        network = self.network.to(memory_format=torch.channels_last)
        self.objective.prepare(network, self.source)
        module = TrainingModule(
            network,
            self.objective,
            self.lr,
            self.warmup_steps,
            self.max_steps,
            self.decay,
            self.seed,
            self.compiled,
        )
        trainer = lightning.Trainer(
            max_steps=self.max_steps,
            gradient_clip_val=1.0,
            callbacks=[
                EMAWeightAveraging(decay=self.ema_decay),
                ModelCheckpoint(
                    folder, filename="last", save_last=False, every_n_epochs=1, enable_version_counter=False
                ),
            ],
            logger=CSVLogger(folder, name="log"),  # a version of its own for each start: nothing is overwritten
            reload_dataloaders_every_n_epochs=1,
            log_every_n_steps=STEPS_PER_EPOCH,
            enable_model_summary=False,
        )
        last = folder / "last.ckpt"
        data = TrainingData(self.source, self.workers)
        trainer.fit(module, data, ckpt_path=str(last) if last.is_file() else None, weights_only=False)
        export(last, network, Path(self.out), command, partial(self.objective.finish, network, self.source))
        return Path(self.out)
