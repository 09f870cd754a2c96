"""The table in LaTeX, with the commands of the package booktabs.

Problems (operator, noise, data) become groups of columns, methods become lines. The best entry of a problem is bold
only where a paired bootstrap over images says that it beats every other method of it (`rbctrl.report.compare`).
Entries of one metric have the same number of decimals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rbctrl.report.compare import Comparisons, part
from rbctrl.report.text import method_name

_DECIMALS = {"psnr": 2, "ssim": 3, "lpips": 3, "fid": 1, "kid": 4, "nfe": 0, "vjp": 0, "seconds_per_image": 1}
_TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "fid": "FID", "kid": "KID", "nfe": "NFE", "vjp": "VJP"}
_TITLES |= {"seconds_per_image": "seconds", "chi2": r"$\chi^2$"}
_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {char: f"\\{char}" for char in "&%$#_{}"}


def to_latex(compared: Comparisons, caption: str, footnote: str, name: str, command: str) -> str:
    """A `table` environment for a document that uses the package booktabs.

    Args:
        compared: the values and who won.
        caption: plain text.
        footnote: plain text, below the table.
        name: of the label, `tab:NAME`.
        command: how the table was made, for a comment in its first line.
    """
    units = compared.units
    problems = _ordered(part(line, units.by, True) for line in units.lines)
    methods = _ordered(method_name(line, units.by) for line in units.lines)
    place = {(part(line, units.by, True), method_name(line, units.by)): k for k, line in enumerate(units.lines)}
    decimals = {metric: _decimals(compared, metric) for metric in units.metrics}
    cells = [(problem, metric) for problem in problems for metric in units.metrics]
    body = [
        [escaped(method), *(_entry(compared, place.get((p, method)), m, decimals[m]) for p, m in cells)]
        for method in methods
    ]
    header = _header([" ".join(p) for p in problems], [_title(m, compared.directions) for m in units.metrics])
    return "\n".join(
        [
            f"% made by: {' '.join(command.split())}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{l{'r' * len(problems) * len(units.metrics)}}}",
            r"\toprule",
            *header,
            r"\midrule",
            *_lines(body),
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            rf"{{\footnotesize {escaped(footnote)}\par}}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Plain text with LaTeX's special characters written out."""
    return (
        "".join(_SPECIAL.get(char, char) for char in text)
        .replace("±", r"$\pm$")
        .replace("×", r"$\times$")
        .replace("†", r"$\dagger$")
    )


def _ordered(values: Sequence) -> list:
    return list(dict.fromkeys(values))


def _header(problems: Sequence[str], metrics: Sequence[str]) -> list[str]:
    columns = " & ".join(["method", *(list(metrics) * len(problems))]) + r" \\"
    if problems == [""]:
        return [columns]
    n = len(metrics)
    spans = " & ".join(["", *(rf"\multicolumn{{{n}}}{{c}}{{{escaped(problem)}}}" for problem in problems)]) + r" \\"
    rules = " ".join(rf"\cmidrule(lr){{{2 + k * n}-{1 + (k + 1) * n}}}" for k in range(len(problems)))
    return [spans.strip(), rules, columns]


def _title(metric: str, directions: Mapping[str, str]) -> str:
    return _TITLES.get(metric, escaped(metric)) + _ARROWS.get(directions.get(metric, ""), "")


def _entry(compared: Comparisons, k: int | None, metric: str, decimals: int) -> str:
    if k is None:
        return "--"
    units = compared.units
    values = units.of_line(k, metric)
    lost = int(units.diverged[k] + units.failed[k] + units.nonfinite.loc[k, metric])
    mark = (r"$^\dagger$" if k in compared.untuned else "") + (rf"$^{{({lost})}}$" if lost else "")
    if not len(values):
        return f"--{mark}"
    text = f"{values.mean():.{decimals}f}"
    text = rf"\textbf{{{text}}}" if (k, metric) in compared.winners else text
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return text + (rf" {{\scriptsize$\pm$ {error:.{decimals}f}}}" if error > 0 else "") + mark


def _decimals(compared: Comparisons, metric: str) -> int:
    """Decimals that show four digits of the largest entry, if the metric has no custom of its own."""
    if metric in _DECIMALS:
        return _DECIMALS[metric]
    means = [compared.units.of_line(k, metric).mean() for k in range(len(compared.units.lines))]
    largest = max((abs(mean) for mean in means if math.isfinite(mean)), default=1.0)
    return min(6, max(0, 3 - math.floor(math.log10(largest)))) if largest > 0 else 3


def _lines(body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[k]) for line in body) for k in range(len(body[0]))]
    return [" & ".join(cell.ljust(width) for cell, width in zip(line, widths)) + r" \\" for line in body]
