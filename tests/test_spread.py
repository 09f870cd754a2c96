"""The images of one cell spread over processes."""

import pytest
from test_resume import written

from rbctrl.cli import main
from rbctrl.results import read_rows

WORLD = "prior=gmm2d operator=matrix data=gmm data.n=3 metrics=likelihood sampler=exact sampler.n_steps=4".split()
MEASURED = ("seconds_per_image", "peak_memory")


def rows(study):
    (cell,) = [path.parent for path in study.glob("*/journal")]
    return {(r["item"], r["sample"]): {k: v for k, v in r.items() if k not in MEASURED} for r in read_rows(cell)[0]}


@pytest.mark.slow  # starts two processes
@pytest.mark.parametrize("keep", ["samples", "means"])
def test_two_processes_give_the_rows_of_one_bit_for_bit(tmp_path, monkeypatch, keep):
    """Images of three samples in batches of two: their means need what several processes computed."""
    monkeypatch.chdir(tmp_path)
    words = [*WORLD, "n_samples=3", "batch_size=2", "device=cpu", f"keep={keep}"]
    assert main([*words, "study=one"]) == 0
    assert main([*words, "study=two", "devices=2"]) == 0
    one, two = tmp_path / "outputs" / "one", tmp_path / "outputs" / "two"
    assert rows(one) == rows(two) and len(written(two)) == len(set(written(two)))
    assert len(list(two.glob("*/journal/*.jsonl"))) >= 2 and not list(two.glob("*/partial/*"))
