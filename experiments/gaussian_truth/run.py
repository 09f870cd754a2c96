"""Which controllers sample the posterior they claim to sample, where it is one Gaussian known in closed form.

    OMP_NUM_THREADS=1 nice python experiments/gaussian_truth/run.py [NAME ...]    # all methods, or those named
    python experiments/gaussian_truth/run.py --table                              # only the table of README.md

Every method runs at its defaults and at the best setting of a small grid. The grid is tried on another truth, mask and
noise (seed 1) than the one that is reported (seed 0), and the best setting is that of the smallest

    sqrt(bias^2 + log(variance_observed)^2 + log(variance_unobserved)^2).

Every line of tuning.csv and expected.csv is one command: `rbctrl experiment=gaussian_truth WORDS`.
"""

from __future__ import annotations

import argparse
import math
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rbctrl.cli import load_experiment

HERE = Path(__file__).parent
RENOISE = "sampler=renoise sampler/grid=log_snr sampler.n_steps=200 sampler.start=marginal"
SCORES = ["bias", "variance_observed", "variance_unobserved"]
COLUMNS = ["controller", "setting", "words", "samples", *SCORES, "covariance_error", "nfe", "vjp", "alive"]


@dataclass(frozen=True)
class Method:
    """A method: words that its default run needs, those that each setting of the grid adds, settings shown anyway."""

    words: str = ""
    grid: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    samples: int = 4096
    tuning_samples: int = 512


def vary(key: str, *values: object, also: str = "") -> tuple[str, ...]:
    return tuple(f"{also} controller.{key}={value}".strip() for value in values)


DDPM = "sampler=exact sampler.eta=1"
FROZEN, RECOMPUTED = "controller.eps=frozen", "controller.eps=recomputed"
ONE_STEP = "controller.tau=null controller.n_ode=1 controller.s_end=0"

METHODS = {
    "none": Method(),
    "exact_posterior": Method(),
    "doob": Method(grid=("controller.exact_variance=true",)),
    "moment_matching": Method(
        grid=vary("max_steps", 1, 2, 4) + vary("max_steps", 32, also="controller.tol=1e-6"),
        shown=vary("max_steps", 1),
    ),
    "guidance": Method(grid=vary("scale", 0.8, 1.25, 1.5, 2, 2.5)),
    "dps": Method(grid=vary("zeta", 0.03, 0.05, 0.1, 0.2, 0.6, 1, 2)),
    "proximal": Method(grid=vary("weight", 0.5, 2, 4, 8) + vary("weight", 8, 16, 32, 64, also=FROZEN)),
    "ddnm": Method(f"{RENOISE} sampler.eta=0.85", ("sampler.eta=0.5", "sampler.eta=1", DDPM)),
    "ddnm_plus": Method(f"{RENOISE} sampler.eta=0.85", ("sampler.eta=0.5", "sampler.eta=0.95", "sampler.eta=1", DDPM)),
    "ddrm": Method(
        f"{RENOISE} sampler.eta=0.85",
        ("sampler.eta=0.5", "sampler.eta=0.95", "sampler.eta=1", DDPM)
        + vary("eta_b", 0.5)
        + vary("eta_b", 0.5, also=DDPM),
    ),
    "diffpir": Method(
        RENOISE,
        ("sampler.eta=0.7", DDPM) + vary("weight", 1, 3, 15) + vary("weight", 0.5, 1, 2, also="sampler.eta=0.7"),
    ),
    "rb_modulation": Method(grid=vary("lr", 0.01, 0.015, 0.02, 0.03) + vary("lr", 0.1, 0.15, 0.3, also=RECOMPUTED)),
    "rb_modulation_prox": Method(
        grid=vary("strength", 0.01, 0.02, 0.03, 0.05, 0.1) + vary("strength", 0.3, 1, 3, also=RECOMPUTED)
    ),
    "rb_modulation_exact": Method(
        grid=vary("lr", 0.005, 0.01, 0.015, 0.02, 0.03)
        + vary("lr", 0.003, 0.01, also="controller.rule=released")
        + vary("lr", 1e-4, 1e-3, also="cost=gaussian_nll")
    ),
    "shooting": Method(
        "cost=gaussian_nll controller.horizon=4",
        grid=vary("horizon", 1, 2) + vary("lr", 0.03, 0.3),
        samples=1024,
        tuning_samples=128,
    ),
    "red_diff": Method("cost=gaussian_nll cost.sigma_y=1", vary("weight", 1, 4, 16, 64) + vary("lr", 0.03, 0.3)),
    "daps": Method(
        grid=("controller.tau=null", "controller.tau=0.1", ONE_STEP) + vary("lr", 3e-5, 1e-3, also=ONE_STEP)
    ),
    "tds": Method(
        grid=vary("particles", 64) + vary("threshold", 0.5),
        samples=16384,
        tuning_samples=4096,
    ),
    "mcgdiff": Method(
        grid=vary("particles", 256) + vary("kappa", 1e-4) + vary("kappa", 1e-4, also="controller.particles=256"),
        samples=16384,
        tuning_samples=4096,
    ),
}


def measure(words: str, samples: int, seed: int) -> dict[str, object]:
    """One cell of the command line: the scores of `samples` samples, and evaluations per sample."""
    cell = f"{words} seed={seed} data.seed={seed} n_samples={samples} batch_size={min(samples, 512)} device=cpu"
    experiment = load_experiment("experiment=gaussian_truth", *shlex.split(cell))
    with tempfile.TemporaryDirectory() as folder:
        experiment.run(Path(folder), {})
        (table,) = Path(folder).glob("*/rows.csv")
        row = pd.read_csv(table).iloc[-1]
    spent = {"nfe": row.nfe / samples, "vjp": row.vjp / samples}
    scores = {name: row[name] for name in (*SCORES, "covariance_error", "alive")}
    return {"words": cell.replace(" device=cpu", ""), "samples": samples} | scores | spent


def distance(row: dict[str, object]) -> float:
    logs = [math.log(max(row[name], 1e-6)) for name in SCORES[1:]]
    value = math.hypot(row["bias"], *logs)
    return value if math.isfinite(value) else math.inf


def run(name: str) -> None:
    method = METHODS[name]
    base = f"controller={name} {method.words}".strip()
    settings = ["", *method.grid]
    chosen = list(method.shown)
    if len(settings) > 1:
        tried = {}
        for setting in settings:
            tried[setting] = measure(f"{base} {setting}".strip(), method.tuning_samples, seed=1)
            print(f"  tuning {name} {setting}: {distance(tried[setting]):.3f}", flush=True)
        write("tuning.csv", name, [{"setting": s or "default"} | row for s, row in tried.items()])
        chosen.append(min(tried, key=lambda s: distance(tried[s])))
    rows = [{"setting": "default"} | measure(base, method.samples, seed=0)]
    for setting in dict.fromkeys(s for s in chosen if s):
        rows.append({"setting": setting} | measure(f"{base} {setting}", method.samples, seed=0))
    write("expected.csv", name, rows)
    for row in rows:
        print(f"{name} {row['setting']}:", *(f"{key} {float(row[key]):.3f}" for key in SCORES), flush=True)


def write(file: str, name: str, rows: list[dict[str, object]]) -> None:
    """Replaces the rows of a method; the others stay."""
    path = HERE / file
    new = pd.DataFrame([{"controller": name} | row for row in rows])[COLUMNS]
    if path.is_file():
        old = pd.read_csv(path)
        new = pd.concat([old[old.controller != name], new], ignore_index=True)
    order = {known: k for k, known in enumerate(METHODS)}
    new = new.sort_values("controller", key=lambda c: c.map(order).fillna(len(order)), kind="stable")
    new.to_csv(path, index=False, float_format="%.4f")


def table() -> str:
    """The rows of expected.csv; 0, 1, 1 is right."""
    lines = [
        "| controller | setting | bias | variance, observed | variance, unobserved | nfe | vjp |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in pd.read_csv(HERE / "expected.csv").itertuples():
        setting = "default" if row.setting == "default" else f"`{row.setting.replace('controller.', '')}`"
        right = row.bias < 0.1 and max(abs(row.variance_observed - 1), abs(row.variance_unobserved - 1)) < 0.05
        name = f"**`{row.controller}`**" if right else f"`{row.controller}`"
        numbers = f"{row.bias:.2f} | {row.variance_observed:.2f} | {row.variance_unobserved:.2f}"
        lines.append(f"| {name} | {setting} | {numbers} | {row.nfe:.0f} | {row.vjp:.0f} |")
    return "\n".join(lines)


def splice(text: str, begin: str, end: str) -> None:
    """Puts a table between two marks of README.md."""
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(f"<!-- {begin} -->")
    _, after = rest.split(f"<!-- {end} -->")
    readme.write_text(f"{before}<!-- {begin} -->\n{text}\n<!-- {end} -->{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(METHODS))
    parser.add_argument("--table", action="store_true", help="write README.md's table from expected.csv and stop")
    given = parser.parse_args()
    if unknown := set(given.names) - set(METHODS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: no such row; there are {', '.join(METHODS)}")
    if not given.table:
        for name in given.names or METHODS:
            run(name)
    splice(table(), "table", "end")


if __name__ == "__main__":
    main()
