"""The picture: one line per problem and item; measurement, each method, truth side by side.

Pixels are enlarged by whole factors without smoothing, so that what is seen is what was computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rbctrl.report.labels import label, sort_key
from rbctrl.report.runs import Row, RunFolder
from rbctrl.report.text import number
from rbctrl.results import image_path

TILE, GAP, TEXT = 256, 10, 15  # pixels
_INK, _PAPER, _EMPTY = (20, 20, 20), (255, 255, 255), (235, 235, 235)
_PROBLEM = ("operator", "noise", "data")  # settings of these groups make lines, all others make columns


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture, or None where there is none, and the lines below it."""

    picture: Image.Image | None
    caption: tuple[str, ...] = ()


def make_grid(
    rows: Sequence[tuple[RunFolder, Row]], by: Sequence[str], sample: str = "0", n_items: int = 2
) -> Image.Image | None:
    """The grid of the first items; None if no picture was saved.

    Args:
        rows: with their runs; of several seeds the first is shown.
        by: settings that tell all cells apart; those of operator, noise and data make lines, the others columns.
        sample: which sample to show, or "mean".
        n_items: items per problem.
    """
    shown: dict[tuple[tuple[str, ...], str], dict[tuple[str, ...], tuple[RunFolder, Row]]] = {}
    of_line = [name for name in by if name.partition(".")[0] in _PROBLEM]
    of_column = [name for name in by if name not in of_line and name not in ("item", "seed")]
    for run, row in rows:
        if row.sample == sample:
            shown.setdefault((label(run, of_line), row.item), {}).setdefault(label(run, of_column), (run, row))
    lines = _first_items(list(shown), n_items)
    methods = sorted({method for line in lines for method in shown[line]}, key=sort_key)
    tiles = [_line(shown[line], methods) for line in lines]
    if not any(tile.picture for line in tiles for tile in line):
        return None
    headers = ["measurement", *(_title(of_column, method) for method in methods), "truth"]
    return _compose([[*problem, item] for problem, item in lines], headers, tiles)


def _first_items(lines: list[tuple[tuple[str, ...], str]], n_items: int) -> list[tuple[tuple[str, ...], str]]:
    kept: dict[tuple[str, ...], list[str]] = {}
    for problem, item in lines:
        items = kept.setdefault(problem, [])
        if len(items) < n_items:
            items.append(item)
    return [(problem, item) for problem in sorted(kept, key=sort_key) for item in kept[problem]]


def _title(names: Sequence[str], values: Sequence[str]) -> str:
    words = [v if n == "controller" else f"{n.rpartition('.')[2]}={v}" for n, v in zip(names, values, strict=True) if v]
    return " ".join(words) or "image"


def _line(cells: dict[tuple[str, ...], tuple[RunFolder, Row]], methods: Sequence[tuple[str, ...]]) -> list[Tile]:
    images = [_method(*cells[method]) if method in cells else Tile(None, ("not run",)) for method in methods]
    truth, y = (_shared(cells, kind) for kind in ("truth", "measurement"))
    size = next((tile.picture.size for tile in (*images, truth) if tile.picture), None)
    if y.picture is not None and size is not None:  # a small measurement covers the same area as the image
        y = Tile(y.picture.resize(size, Image.Resampling.NEAREST), y.caption)
    return [y, *images, truth]


def _method(run: RunFolder, row: Row) -> Tile:
    picture = _open(image_path(run.folder, row.item, row.sample, "image"))
    return Tile(None if picture is None else _scaled(picture), _caption(row))


def _shared(cells: dict[tuple[str, ...], tuple[RunFolder, Row]], kind: str) -> Tile:
    """Truth or measurement, which all methods share: the first that was saved."""
    for run, row in cells.values():
        picture = _open(image_path(run.folder, row.item, row.sample, kind))  # type: ignore[arg-type]
        if picture is not None:
            caption = (f"{picture.width} x {picture.height}",) if kind == "measurement" else ()
            return Tile(_scaled(picture), caption)
    return Tile(None)


def _caption(row: Row) -> tuple[str, ...]:
    """PSNR; evaluations of the network, pullbacks included, and seconds per image."""
    psnr, seconds = row.values.get("psnr"), row.values.get("seconds_per_image")
    calls = [v for v in (row.values.get("nfe"), row.values.get("vjp")) if v is not None]
    quality = [row.status] if not row.alive else [f"{psnr:.2f} dB"] if psnr is not None else []
    cost = [f"{number(sum(calls))} evaluations"] if calls else []
    cost += [f"{number(seconds, 2)} s"] if seconds is not None else []
    return (*quality, ", ".join(cost))


def _open(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except OSError:  # never saved, or cut by a killed run: the tile stays empty
        return None


def _scaled(picture: Image.Image) -> Image.Image:
    largest = max(picture.size)
    if largest > TILE:
        size = [max(1, round(side * TILE / largest)) for side in picture.size]
        return picture.resize((size[0], size[1]), Image.Resampling.BOX)
    factor = TILE // largest
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def _compose(titles: Sequence[Sequence[str]], headers: Sequence[str], tiles: Sequence[Sequence[Tile]]) -> Image.Image:
    font = ImageFont.load_default(size=TEXT)
    used = [k for k in range(len(headers)) if any(line[k].picture or line[k].caption for line in tiles)]
    row = TEXT + 5
    margin = GAP + max(int(font.getlength(word)) for title in titles for word in title) + GAP
    top = GAP + row * max(len(_wrapped(header, font)) for header in headers)
    height = TILE + 2 * row + 2 * GAP
    page = Image.new("RGB", (margin + len(used) * (TILE + GAP), top + len(tiles) * height), _PAPER)
    draw = ImageDraw.Draw(page)
    for column, k in enumerate(used):
        left = margin + column * (TILE + GAP)
        _write(draw, (left, GAP), _wrapped(headers[k], font), font)
        for line in range(len(tiles)):
            _paste(page, draw, tiles[line][k], left, top + line * height, font)
    for line, title in enumerate(titles):
        _write(draw, (GAP, top + line * height + GAP), title, font)
    return page


def _paste(
    page: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int, font: ImageFont.FreeTypeFont
) -> None:
    if tile.picture is None:
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=_EMPTY)
    else:
        page.paste(tile.picture, (left, top))
    _write(draw, (left, top + TILE + GAP // 2), tile.caption, font)


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], font: ImageFont.FreeTypeFont
) -> None:
    for k, text in enumerate(lines):
        draw.text((place[0], place[1] + k * (TEXT + 5)), text, fill=_INK, font=font)


def _wrapped(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > TILE and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
