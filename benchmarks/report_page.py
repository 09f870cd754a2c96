"""How fast the page of a report is made, opened, filtered and sorted in a headless Chromium.

    python benchmarks/report_page.py [--rows 10,5000] [--repeats 5] [--keep DIR]

A study of that many rows is written by `rbctrl.results.ResultStore`: 5 methods x 5 operators on rows / 25 images of
64 px, with their pictures. Opening is from the navigation to the first frame after the script has filled the page;
filtering and sorting are from the event to the second frame after it. Medians, and the largest in brackets: on the
clock, and of the CPU by the main thread of the page, which other work on the machine lengthens less. Needs Chromium,
its driver and selenium (`tests/chromium.py` says how to get them).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from chromium import browser, missing

from rbctrl.report import report
from rbctrl.report.publish import publish
from rbctrl.results import ResultStore

OPERATORS = ("sr4", "deblur_gauss", "inpaint_box", "inpaint_random", "deblur_motion")
CONTROLLERS = ("tv", "dps", "proximal", "rb_modulation", "daps")
TIMED = """
const done = arguments[arguments.length - 1], begin = performance.now();
ACTION
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begin)));
"""
FILTER = "const f = document.getElementById('row-filter'); f.value = 'TEXT'; f.dispatchEvent(new Event('input'));"
SORT = "document.querySelectorAll('#row-table th')[6].click();"


def write_study(folder: Path, n_rows: int) -> None:
    """25 cells on n_rows / 25 images, or one cell of n_rows images."""
    rng, cells = np.random.default_rng(0), [(o, c) for o in OPERATORS for c in CONTROLLERS]
    cells = cells if n_rows >= len(cells) else cells[:1]
    for operator, controller in cells:
        store = ResultStore(folder / f"{operator}-{controller}")
        choices = {"operator": operator, "controller": controller, "noise": "gaussian", "data": "folder"}
        config = {name: {"_target_": option} for name, option in choices.items()} | {"seed": 0}
        config["noise"]["sigma_y"] = 0.05
        words = [f"operator={operator}", f"controller={controller}"]
        store.save_config({"choices": choices, "overrides": words, "config": config}, {})
        rows = []
        for k in range(n_rows // len(cells)):
            item, level = f"{k:05d}.png", rng.normal()
            values = {"psnr": 25 + level, "ssim": 0.8 + 0.05 * level, "chi2": 1.0, "nfe": 100, "vjp": 0}
            rows.append({"item": item, "sample": 0, "seed": 0, "alive": True, "seconds_per_image": 1.0} | values)
            for kind in ("truth", "measurement", "image"):
                image = torch.from_numpy(rng.uniform(-1, 1, (3, 8, 8)).astype("float32"))
                store.save_image(item, 0, kind, image.repeat_interleave(8, 1).repeat_interleave(8, 2))
        store.write(rows)
        store.close()


def measure(page: Path, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each thing a reader does; CPU is that of the page's main thread."""
    actions = {
        "filter by a word": FILTER.replace("TEXT", "proximal"),
        "filter by a number": FILTER.replace("TEXT", "psnr>25 controller=dps"),
        "sort": SORT,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("open", *actions)}
    with browser() as driver:
        driver.set_script_timeout(60)
        driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        for _ in range(repeats):
            driver.get(page.with_name("absent.html").resolve().parent.as_uri())  # a local page: the same process
            begin = busy(driver)
            driver.get(page.resolve().as_uri())
            opened = "const done = arguments[0]; requestAnimationFrame(() => done(performance.now()));"
            found["open"].append((driver.execute_async_script(opened) / 1000, busy(driver) - begin))
            for name, action in actions.items():
                begin = busy(driver)
                wall = driver.execute_async_script(TIMED.replace("ACTION", action)) / 1000
                found[name].append((wall, busy(driver) - begin))
        errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        if errors:
            raise RuntimeError(f"the console has errors: {errors}")
    return found


def busy(driver: object) -> float:
    """CPU seconds that the main thread of the page has worked."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10,5000")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="where to leave the studies and their pages")
    given = parser.parse_args()
    if missing():
        sys.exit(missing())
    root = given.keep or Path(tempfile.mkdtemp(prefix="rbctrl-report-"))
    for n_rows in map(int, given.rows.split(",")):
        folder = root / str(n_rows)
        if not folder.is_dir():
            write_study(folder, n_rows)
        begin = time.perf_counter()
        page = publish(report([folder]), folder, f"{n_rows} rows", "benchmarks/report_page.py")
        print(f"{n_rows} rows: made in {time.perf_counter() - begin:.1f} s, {page.stat().st_size / 1e6:.2f} MB")
        for name, times in measure(page, given.repeats).items():
            wall, cpu = zip(*times)
            shown = f"{statistics.median(wall):.3f} s ({max(wall):.3f})"
            print(f"  {name:<20} {shown}, CPU {statistics.median(cpu):.3f} s ({max(cpu):.3f})")


if __name__ == "__main__":
    main()
