"""`rbctrl report` as a command."""

import io

import pytest
from made_runs import made_run

from rbctrl.commands import report


class Closed(io.StringIO):
    """What `| head` leaves of the output."""

    def write(self, text):
        raise BrokenPipeError


def test_files_are_written_before_anything_is_printed(tmp_path, monkeypatch, capsys):
    made_run(tmp_path / "0", {"a": 20.0, "b": 21.0})
    words = [str(tmp_path), "--latex", str(tmp_path / "t.tex"), "--csv", str(tmp_path / "t.csv")]
    monkeypatch.setattr("sys.stdout", Closed())
    with pytest.raises(BrokenPipeError):
        report.run(words)
    monkeypatch.undo()
    assert all((tmp_path / name).exists() for name in ("t.tex", "t.csv", "report.html", "report.md"))
    assert report.run(words) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [str(tmp_path / n) for n in ("report.html", "t.csv", "t.tex")]
