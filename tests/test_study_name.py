"""Where results go, and where they do not."""

import pytest

from rbctrl.cli import main
from rbctrl.study_name import check_study

WRONG = ["", " ", "..", "../up", "/abs", "a//b", ".", "a/../..", "latest", "latest/x", "x" * 300, "a\nb"]


@pytest.mark.parametrize("name", [*WRONG, None, 3])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ValueError, match="study="):
        check_study(name)


@pytest.mark.parametrize("name", ["a", "paper/table1", "a b", "ünï", ".hidden", "1"])
def test_any_other_name_is_fine(name):
    check_study(name)


@pytest.mark.parametrize("word", ["study=", "study=..", "study=null", "study=../up"])
def test_it_is_refused_before_any_folder_is_made(tmp_path, monkeypatch, capsys, word):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for words in ([word], ["-m", word, "seed=0,1"]):
        assert main(words) == 1
        assert "study=" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]
