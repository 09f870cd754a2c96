"""The rows of one cell that are missing, and how they are computed.

Batches are always formed from the full list of rows, by position, and of each the missing rows are computed. A batch
reaches the disk as a whole or not at all, so a killed run that is repeated forms the batches it would have formed, and
its rows are the same bit for bit. Where a command asks for more rows than an earlier one, only those are computed, in
batches of another composition: equal to 1e-5 in fp32, as for any other batch size.

The mean of an image needs all its samples. A batch that leaves an image incomplete is therefore saved exactly, in
partial/, until the image is complete. An image whose samples were completed earlier and that gets more of them is read
back where `images: exact` was set; otherwise its samples are computed once more, for the mean alone.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from rbctrl.data.base import Batch
from rbctrl.pictures import image_path, is_picture, load_exact, replace_file, save_exact
from rbctrl.posterior_mean import ItemSamples
from rbctrl.results import ResultStore
from rbctrl.solution import Solution

USUAL = ((), ("style",), ("content", "style"))  # roles of references that their number tells apart


@dataclass(frozen=True)
class Wanted:
    """What a run wants of a cell.

    Args:
        n_samples: of each image.
        seed: of the rows.
        singles: a row of every sample.
        means: a row of the mean of every image.
        exact: every image as it was computed, too.
    """

    n_samples: int
    seed: int
    singles: bool = True
    means: bool = False
    exact: bool = False

    def rows(self, n_items: int) -> int:
        """How many rows that is."""
        return n_items * (self.n_samples * self.singles + self.means)


@dataclass(eq=False)
class Work:
    """What is there of a cell and what is missing.

    Args:
        store: of the cell.
        wanted: by this run.
        cloud: samples that are computed together or not at all (`Controller.population`).
    """

    store: ResultStore
    wanted: Wanted
    cloud: int = 1
    _open: dict[str, ItemSamples] = field(default_factory=dict)
    _contents: dict[str, str] = field(default_factory=dict)
    _files: dict[Path, set[str]] = field(default_factory=dict)
    _saved: dict[str, dict] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        for file in sorted(self._folder.glob("*.pt")):
            saved = torch.load(file, map_location="cpu", weights_only=True)
            self._files[file] = {row["item"] for row, _ in saved["samples"]}
            for row, image in saved["samples"]:
                self._saved[row["item"]][int(row["sample"])] = (row, image, tuple(saved["reported"]))

    def missing(self, batch: Batch) -> list[int]:
        """The positions of the rows that have to be computed."""
        for k, (item, _) in enumerate(batch.rows):
            if item not in self._contents:
                self._contents[item] = content_of(batch, k)
        needed = {(item, sample // self.cloud) for item, sample in batch.rows if self._is_missing(item, sample)}
        return [k for k, (item, sample) in enumerate(batch.rows) if (item, sample // self.cloud) in needed]

    def content(self, item: str) -> str:
        """The hash of an item that was seen."""
        return self._contents[item]

    def has_mean(self, item: str) -> bool:
        """Whether the mean of an image is there, over enough samples."""
        row = self.store.row(item, "mean", self.wanted.seed)
        return self._is_done(item, row) and (row["n_samples"] or 0) >= self.wanted.n_samples  # type: ignore[index, operator]

    def complete(self, item: str) -> bool:
        """Whether all samples of an image are at hand, and its mean is wanted."""
        return self._wants_mean(item) and len(self.samples(item)) == self.wanted.n_samples

    def samples(self, item: str) -> ItemSamples:
        """The samples of an image that are at hand: of this run, and what earlier ones saved exactly."""
        if item not in self._open:
            self._open[item] = samples = ItemSamples(item, self.cloud)
            for sample, (row, image, reported) in sorted(self._restored(item).items()):
                if sample < self.wanted.n_samples:
                    samples.add(row, image)
                    samples.reported = reported
        return self._open[item]

    def take(self, rows: Sequence[Mapping[str, object]], solution: Solution, truth: Tensor | None) -> None:
        """Gathers computed samples whose mean is wanted, and saves them if their images are not complete yet."""
        taken = []
        for k, row in enumerate(rows):
            item = str(row["item"])
            if not self._wants_mean(item):
                continue
            samples = self.samples(item)
            samples.add(row, solution.image[k])
            samples.reported = solution.reported
            if samples.obs is None:
                samples.obs = solution.obs.take(torch.tensor([k]))
                samples.truth = None if truth is None else truth[k]
            taken.append((dict(row), solution.image[k].cpu()))
        if any(not self.complete(str(row["item"])) for row, _ in taken):
            self._save(taken, solution.reported)

    def new_rows(self, rows: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
        """Those of the computed rows that are wanted and not there, with the content of their items."""
        return [
            {**row, "content": self.content(str(row["item"]))}
            for row in rows
            if self.wanted.singles and not self._has_row(str(row["item"]), int(row["sample"]))  # type: ignore[call-overload]
        ]

    def save_exact(self, rows: Sequence[Mapping[str, object]], images: Tensor) -> None:
        """Saves the images of computed rows exactly, if that is wanted."""
        if self.wanted.exact and self.wanted.singles:
            for row, image in zip(rows, images):
                save_exact(self._exact_path(str(row["item"]), int(row["sample"])), image)  # type: ignore[call-overload]

    def forget(self, items: Iterable[str]) -> None:
        """Drops the samples of images whose means are on the disk."""
        for item in items:
            self._open.pop(item, None)
            self._saved.pop(item, None)
        for file, held in list(self._files.items()):
            if all(item in self._contents and self.has_mean(item) for item in held):
                file.unlink(missing_ok=True)
                del self._files[file]

    @property
    def _folder(self) -> Path:
        return self.store.folder / "partial"

    def _is_missing(self, item: str, sample: int) -> bool:
        if self.wanted.singles and not self._has_row(item, sample):
            return True
        return self._wants_mean(item) and sample not in self.samples(item)

    def _has_row(self, item: str, sample: int) -> bool:
        done = self._is_done(item, self.store.row(item, sample, self.wanted.seed))
        return done and (not self.wanted.exact or self._exact_path(item, sample).is_file())

    def _wants_mean(self, item: str) -> bool:
        return self.wanted.means and not self.has_mean(item)

    def _is_done(self, item: str, row: Mapping[str, object] | None) -> bool:
        return row is not None and row.get("alive") is not None and row.get("content") == self.content(item)

    def _restored(self, item: str) -> dict:
        """Sample to (row, image, names of the controller's columns)."""
        held = {k: v for k, v in self._saved.get(item, {}).items() if v[0]["content"] == self.content(item)}
        for sample in range(self.wanted.n_samples):
            row, path = self.store.row(item, sample, self.wanted.seed), self._exact_path(item, sample)
            if sample not in held and self._is_done(item, row) and path.is_file():
                held[sample] = (row, load_exact(path), ())
        return held

    def _exact_path(self, item: str, sample: int) -> Path:
        return image_path(self.store.folder, item, sample, "image").with_suffix(".npy")

    def _save(self, taken: Sequence[tuple[dict, Tensor]], reported: Sequence[str]) -> None:
        samples = [(row | {"content": self.content(row["item"])}, image) for row, image in taken]
        name = hashlib.blake2b(repr([(row["item"], row["sample"]) for row, _ in taken]).encode(), digest_size=8)
        path, content = self._folder / f"{name.hexdigest()}.pt", io.BytesIO()
        torch.save({"samples": samples, "reported": list(reported)}, content)
        replace_file(path, lambda file: (file.write(content.getvalue()), file.flush(), os.fsync(file.fileno())))
        self._files[path] = {row["item"] for row, _ in samples}


def rows_of(batch: Batch, rows: Sequence[int] | slice) -> Batch:
    """Some rows of a batch."""
    index = range(len(batch.rows))[rows] if isinstance(rows, slice) else rows
    image, y = (None if v is None else v[list(index)] for v in (batch.image, batch.y))
    prompts = None if batch.prompts is None else tuple(batch.prompts[k] for k in index)
    references = {kind: pictures[list(index)] for kind, pictures in batch.references.items()}
    return Batch(tuple(batch.rows[k] for k in index), image, y, prompts, references)


def has_picture(x: Tensor | None) -> bool:
    """Whether there is something that can be saved as a picture."""
    return x is not None and is_picture(x)


def content_of(batch: Batch, k: int) -> str:
    """A hash of what row k brings along: image, measurement, prompt and references with their roles.

    What is brought along twice, as the reference of style that is measured, too, is read once. Roles are written out
    unless they are `USUAL`, so that rows from before they were keep their content.
    """
    hashed, read = hashlib.blake2b(digest_size=8), []
    roles = tuple(sorted(batch.references))
    if roles not in USUAL:
        hashed.update(repr(("roles", *roles)).encode())
    for part in (batch.image, batch.y, *(batch.references[role] for role in roles)):
        if part is None:
            continue
        row = part[k].detach().cpu().contiguous()
        earlier = next((place for place, other in enumerate(read) if _equal(row, other)), None)
        if earlier is None:
            hashed.update(repr((row.dtype, tuple(row.shape))).encode())
            hashed.update(row.numpy().tobytes())
        else:
            hashed.update(repr(("as part", earlier)).encode())
        read.append(row)
    if batch.prompts is not None:
        hashed.update(batch.prompts[k].encode())
    return hashed.hexdigest()


def _equal(row: Tensor, other: Tensor) -> bool:
    return row.dtype == other.dtype and torch.equal(row, other)
