"""outputs/latest names the newest run, whatever starts beside it."""

import threading

import pytest

from rbctrl.commands.latest import follow, point_to


def folders(outputs, *names):
    made = [outputs / name for name in names]
    for folder in made:
        folder.mkdir(parents=True)
    return made


def test_the_pointer_is_a_link_to_the_newest_folder(tmp_path):
    outputs = tmp_path / "outputs"
    first, second = folders(outputs, "a/one", "b")
    for folder in (first, second, first):
        point_to(folder, outputs)
        assert (outputs / "latest").is_symlink() and (outputs / "latest").resolve() == folder
        assert follow(outputs / "latest") == outputs / "latest"
    assert sorted(p.name for p in outputs.iterdir()) == ["a", "b", "latest"]
    moved = tmp_path / "elsewhere"
    outputs.rename(moved)
    assert (moved / "latest").resolve() == moved / "a" / "one"  # relative: it survives a move of the results


def test_without_links_the_pointer_is_a_text_file_that_report_follows(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links on this file system")

    outputs = tmp_path / "outputs"
    first, second = folders(outputs, "a/one", "b")
    point_to(second, outputs)
    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    point_to(first, outputs)
    assert (outputs / "latest").read_text() == "a/one\n"
    assert follow(outputs / "latest") == first and follow(first) == first


def test_what_is_not_ours_is_left_alone(tmp_path):
    outputs = tmp_path / "outputs"
    (run,) = folders(outputs, "a")
    point_to(*folders(tmp_path, "elsewhere"), outputs=outputs)
    assert not (outputs / "latest").exists()
    (outputs / "latest" / "precious").mkdir(parents=True)
    point_to(run, outputs)
    assert (outputs / "latest" / "precious").is_dir() and not (outputs / "latest").is_symlink()


def test_runs_that_start_at_once_leave_one_whole_pointer(tmp_path):
    outputs = tmp_path / "outputs"
    made = folders(outputs, *(f"run{k}" for k in range(8)))
    errors = []

    def run(folder):
        try:
            for _ in range(25):
                point_to(folder, outputs)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(folder,)) for folder in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and (outputs / "latest").resolve() in made
    assert sorted(p.name for p in outputs.iterdir()) == ["latest", *sorted(f.name for f in made)]


@pytest.mark.parametrize("sweep", [False, True], ids=["run", "sweep"])
def test_the_command_points_to_its_run_or_to_the_whole_sweep(tmp_path, monkeypatch, sweep):
    from rbctrl.cli import main

    monkeypatch.chdir(tmp_path)
    words = "prior=gmm2d data=gmm data.n=1 operator=matrix controller=none metrics=likelihood sampler=exact".split()
    words = [*(["-m", "seed=0,1"] if sweep else []), *words, "sampler.n_steps=2", "study=try"]
    assert main(words) == 0
    cells = list((tmp_path / "outputs" / "latest").rglob("rows.csv"))
    assert len(cells) == (2 if sweep else 1)
    study = tmp_path / "outputs" / "try"
    assert (tmp_path / "outputs" / "latest").resolve() in ([study] if sweep else study.iterdir())
    assert main(["report", "outputs/latest"]) == 0
