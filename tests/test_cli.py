"""The command line on a stub laboratory: a config folder and a module in the current folder, as a user has them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rbctrl.cli import CONF_DIR, load_experiment, main
from rbctrl.commands.check import expand
from rbctrl.commands.errors import explain
from rbctrl.commands.groups import groups, nearest, summary
from rbctrl.commands.help import EXAMPLES
from rbctrl.commands.run import compose

LAB = """
from pathlib import Path


class Method:
    def __init__(self, zeta=1.0, fails=None):
        self.zeta = zeta
        if zeta < 0:
            raise ValueError(f"zeta is at least 0, got {zeta}")
        if zeta > 1e6:
            raise RuntimeError("a bug in a constructor")


class Other:
    pass


class Experiment:
    def __init__(self, controller, sampler, study, seed, skipped):
        self.controller, self.sampler, self.seed, self.problems = controller, sampler, seed, list(skipped)

    def run(self, out_dir, record, progress, wait):
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        if self.seed == 13:
            raise ValueError("seed 13 brings\\nbad luck")
        if self.seed == 14:
            return 1 / 0
        if self.seed == 15:
            raise KeyboardInterrupt
        if self.seed == 16:
            return None + 1
        if self.seed == 17:
            open("absent.png")
        if self.seed == 18:
            raise ImportError("No module named 'diffusers'", name="diffusers")
        if self.seed == 19:
            self.sampler(1)
        written = " ".join(str(record[name]) for name in ("choices", "overrides", "config"))
        Path(out_dir, "record.txt").write_text(f"{self.seed} {written}")
        return 2.0 * self.seed


def sampler(prior, n_steps):
    return prior
"""

CONFIGS = {
    "stub": """
_target_: rbctrl_stub_lab.Experiment
defaults:
  - controller: method
  - sampler: plain
  - _self_
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
study: first
seed: 0
skipped: []
hydra:
  run: {dir: 'outputs/${study}'}
  sweep: {dir: 'outputs/${study}', subdir: '${hydra:job.num}'}
""",
    "controller/method": "_target_: rbctrl_stub_lab.Method\nzeta: 1.0\n",
    "controller/other": "_target_: rbctrl_stub_lab.Other\n",
    "controller/custom": "_target_: ???\n",
    "sampler/plain": "_target_: rbctrl_stub_lab.sampler\n_partial_: true\nn_steps: 3\n",
    "sweep/seeds": "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 1,2\n",
}
HYDRA = ["--config-dir", "conf", "--config-name", "stub"]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a module and a config folder; what the command line puts on sys.path is taken off again."""
    for name, text in CONFIGS.items():
        file = tmp_path / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "rbctrl_stub_lab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("RBCTRL_TRACEBACK", raising=False)
    yield tmp_path
    sys.modules.pop("rbctrl_stub_lab", None)


def fails(capsys, *words: str) -> str:
    """The one line on stderr of a command that must fail without a traceback."""
    status, captured = main([*words, *HYDRA]), capsys.readouterr()
    assert status == 1
    assert captured.err.startswith("rbctrl: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_help_lists_every_group_and_verb(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for group, options in groups().items():
        assert group in text
        assert all(option in text for option in options)
    assert all(f"rbctrl {verb}" in text for verb in ("report", "train", "list", "show", "check"))


@pytest.mark.parametrize("example", [example for example in EXAMPLES if "report" not in example])
def test_every_example_of_the_help_composes(example):
    words = [word for word in shlex.split(example)[1:] if word != "-m"]
    config = compose([re.sub(r"=(\w+),.*", r"=\1", word) for word in words if "range" not in word])
    assert config.controller._target_.startswith("rbctrl.controllers.")


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "operator"]])
def test_help_and_list_import_neither_torch_nor_hydra(words):
    code = (
        "import sys; from rbctrl.cli import main; status = main(sys.argv[1:]);"
        "sys.exit(status or [m for m in ('torch', 'hydra', 'pandas', 'matplotlib') if m in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_list_names_options_with_a_line_on_each(capsys):
    assert main(["list", "operator"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f"operator={name}" for name in groups()["operator"]]
    silent = [f"{group}={name}" for group, names in groups().items() for name in names if not _has_line(group, name)]
    assert not [option for option in silent if option.startswith(("operator", "controller", "cost"))]


def _has_line(group: str, option: str) -> str:
    return summary(CONF_DIR / group / f"{option}.yaml")


def test_list_names_the_nearest_group(capsys):
    assert main(["list", "operatr"]) == 1
    assert "'operatr' is no group (did you mean operator?)" in capsys.readouterr().err


def test_unknown_verb_names_the_nearest(capsys):
    assert main(["raport"]) == 1
    assert "'raport' is no verb (did you mean report?)" in capsys.readouterr().err


def test_unknown_flag_names_the_nearest(capsys):
    assert main(["--multrun"]) == 1
    assert "'--multrun' (did you mean --multirun" in capsys.readouterr().err


def test_one_cell_runs_with_its_record(lab, capsys):
    assert main(["seed=3", *HYDRA]) == 0
    text = Path("outputs/first/record.txt").read_text()
    assert text.startswith("3 {'controller': 'method', 'sampler': 'plain'} ['seed=3'] {")
    assert "'zeta': 1.0" in text
    assert "hydra" not in text
    assert capsys.readouterr().err == ""


def test_multirun_goes_on_after_a_failing_cell(lab, capsys):
    assert main(["-m", "seed=1,13,2,14,3", *HYDRA]) == 1
    captured = capsys.readouterr()
    finished = sorted(file.parent.name for file in Path("outputs/first").glob("*/record.txt"))
    assert finished == ["0", "2", "4"]
    assert "rbctrl: cell 1 (seed=13): seed 13 brings bad luck" in captured.err
    assert "cell 3 (seed=14): ZeroDivisionError" in captured.err
    assert captured.err.count("Traceback") == 1
    assert "cell 4 (seed=3): 6" in captured.out


def test_multirun_without_failure_exits_with_zero(lab):
    assert main(["-m", "+sweep=seeds", *HYDRA]) == 0
    assert len(list(Path("outputs/first").glob("*/record.txt"))) == 2


def test_sweep_with_an_impossible_cell_starts_no_cell(lab, capsys):
    sentence = fails(capsys, "-m", "controller=method,other", "controller.zeta=2")
    assert "controller (rbctrl_stub_lab.Other) has no key 'zeta'" in sentence
    assert not list(Path("outputs").glob("first/*/record.txt"))


def test_what_wandb_refuses_is_one_sentence():
    refused = type("UsageError", (Exception,), {"__module__": "wandb.errors.errors"})("No API key configured.")
    assert explain(refused) == (
        "logger=wandb: No API key configured.; WANDB_MODE=offline needs no account, and logger=csv no wandb"
    )
    assert explain(type("UsageError", (Exception,), {})("No API key configured.")) is None


def test_skipped_inputs_are_named_and_make_the_status_non_zero(lab, capsys):
    assert main(["skipped=['a.png is no image']", "seed=2", *HYDRA]) == 1
    assert capsys.readouterr().err == "rbctrl: a.png is no image\n"
    assert Path("outputs/first/record.txt").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["controller=methd"], "controller has no option 'methd' (did you mean method?); it has "),
        (["controler=method"], "there is no group or key 'controler' (did you mean controller?)"),
        (["controller.zetta=1"], "has no key 'zetta' (did you mean zeta?); its keys are zeta"),
        (["sed=1"], "there is no group or key 'sed' (did you mean seed"),
        (["+controller.zetta=1"], "controller: Method has no argument 'zetta' (did you mean zeta?)"),
        (["controller.zeta=null", "controller=null"], "a group takes the name of one of its options, group=option"),
        (["controller.zeta=-1"], "controller: zeta is at least 0, got -1"),
        (["controller=custom"], "controller._target_ has no default: add controller._target_=..."),
        (["controller=rbctrl_stub_lab.Other"], "is controller=custom controller._target_=rbctrl_stub_lab.Other"),
        (["controller=custom", "controller._target_=no_lab.C"], "controller: cannot import no_lab.C: No module named"),
        (
            ["controller=custom", "controller._target_=rbctrl_stub_lab.Methd"],
            "rbctrl_stub_lab has no Methd (did you mean Method?)",
        ),
        (["seed=1,2"], "'seed=1,2' has several values: add -m"),
        (["seed=range(3)"], "'seed=range(3)' has several values: add -m"),
        (["seed=[1"], "cannot read 'seed=[1'"),
        (["controller.zeta=${nowhere}"], "nowhere"),
        (["sweep=seeds"], "sweep is not part of the defaults: write +sweep=seeds"),
        (["seed=13"], "seed 13 brings bad luck"),
        (["seed=17"], "No such file or directory: absent.png"),
        (["seed=18"], "it comes with pip install 'rbctrl[diffusers]'"),
        (["+sampler.foo=1", "seed=19"], "unexpected keyword argument 'foo'"),
    ],
)
def test_error_of_the_user_is_one_sentence(lab, capsys, words, sentence):
    assert sentence in fails(capsys, *words)


@pytest.mark.parametrize("word", ["seed=14", "seed=16", "controller.zeta=1e7"])
def test_any_other_error_keeps_its_traceback(lab, capsys, word):
    assert main([word, *HYDRA]) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "rbctrl_stub_lab.py" in text


def test_traceback_can_be_asked_for(lab, capsys, monkeypatch):
    monkeypatch.setenv("RBCTRL_TRACEBACK", "1")
    assert main(["seed=13", *HYDRA]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_exits_with_130_and_one_line(lab, capsys):
    assert main(["-m", "seed=1,15,2", *HYDRA]) == 130
    assert capsys.readouterr().err.splitlines() == ["rbctrl: interrupted; what is finished is kept"]
    assert Path("outputs/first/0/record.txt").is_file()


def test_file_of_the_user_does_not_hide_a_library(lab):
    Path("tqdm.py").write_text("raise RuntimeError('the wrong file')")
    code = "import sys; sys.path.pop(0); from rbctrl.cli import main; sys.exit(main(sys.argv[1:]))"
    root = str(Path(__file__).parents[1])
    env = {"PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code, *HYDRA], capture_output=True, text=True, check=False, cwd=lab, env=env
    )
    assert done.returncode == 0, done.stderr


def test_show_prints_the_resolved_config_and_runs_nothing(lab, capsys):
    assert main(["show", "seed=4", "study=s${seed}", *HYDRA]) == 0
    text = capsys.readouterr().out
    assert "seed: 4" in text
    assert "study: s4" in text
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("flags", "shown"), [(["--cfg", "job"], "study: first"), (["--info", "defaults"], "controller")]
)
def test_flags_of_hydra_pass_through(lab, capsys, flags, shown):
    assert main([*flags, *HYDRA]) == 0
    assert shown in capsys.readouterr().out


def test_hydra_help_passes_through(lab, capsys):
    with pytest.raises(SystemExit) as done:
        main(["--hydra-help", *HYDRA])
    assert not done.value.code
    assert "Hydra" in capsys.readouterr().out


def test_environment_is_left_as_it_was(lab, monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    argv = list(sys.argv)
    main(["seed=13", *HYDRA])
    assert sys.argv == argv
    assert "HYDRA_FULL_ERROR" not in __import__("os").environ


def test_nearest_is_silent_when_nothing_is_near():
    assert nearest("zzz", ["operator", "cost"]) == ""
    assert nearest("operater", ["operator", "cost"]) == " (did you mean operator?)"


def test_dotted_path_becomes_a_node_of_its_own():
    words = expand(["operator=my_lab.fog.Fog", "operator.density=2", "cost=residual_norm", "noise.sigma_y=0.05"])
    assert words == [
        "~operator",
        "+operator._target_=my_lab.fog.Fog",
        "++operator.density=2",
        "cost=residual_norm",
        "noise.sigma_y=0.05",
    ]


def test_check_accepts_a_good_operator_and_refuses_a_wrong_transpose(tmp_path, capsys, monkeypatch):
    Path(tmp_path, "rbctrl_stub_fog.py").write_text(
        "from rbctrl.operators.base import LinearOperator\n"
        "class Fog(LinearOperator):\n"
        "    def __init__(self, density=0.5, back=0.5):\n"
        "        super().__init__()\n"
        "        self.density, self.back = density, back\n"
        "    def forward(self, image):\n"
        "        return self.density * image\n"
        "    def adjoint(self, y):\n"
        "        return self.back * y\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["check", "operator=rbctrl_stub_fog.Fog"]) == 0
    assert "operator rbctrl_stub_fog.Fog: passed" in capsys.readouterr().out
    assert main(["check", "operator=rbctrl_stub_fog.Fog", "operator.back=0.6"]) == 1
    assert "rbctrl: operator rbctrl_stub_fog.Fog: FAILED" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "nothing to check: name at least one of operator=..., cost=..."),
        (["noise=gaussian"], "nothing to check"),
        (["operator=no_lab.Fog"], "cannot import no_lab.Fog"),
        (["operator=sr4", "--size=3"], "rbctrl check takes --shape=C,H,W"),
        (["operator=matrix"], "(--shape=C,H,W resizes the test images)"),
    ],
)
def test_check_says_what_it_cannot_do(capsys, words, sentence):
    assert main(["check", *words]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: DIR"),
        (["nowhere"], "there is no folder 'nowhere'"),
        (["study=nowhere"], "there is no folder 'outputs/nowhere'"),
    ],
)
def test_report_says_what_it_cannot_find(capsys, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 1
    assert sentence in capsys.readouterr().err


def test_train_help_shows_what_can_be_overridden(capsys):
    assert main(["train", "--help"]) == 0
    assert capsys.readouterr().out.strip() == (CONF_DIR / "train.yaml").read_text().strip()


@pytest.mark.slow  # imports lightning
def test_train_refuses_a_wrong_number_in_one_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "max_steps=7", "network.channels=[8]"]) == 1
    assert capsys.readouterr().err == "rbctrl: max_steps is a multiple of 500, got 7\n"
    assert not list(tmp_path.iterdir())


def test_experiment_loads_from_python():
    experiment = load_experiment("seed=5", "prior=gmm2d", "operator=matrix", "metrics={}")
    assert experiment.seed == 5


@pytest.mark.parametrize("name", ["ENOSPC", "EFBIG", "EDQUOT"])
def test_a_full_disk_is_one_sentence(name):
    import errno
    import os

    from rbctrl.commands.errors import explain

    number = getattr(errno, name)
    assert explain(OSError(number, os.strerror(number))).startswith(f"{os.strerror(number)}; what is finished is kept")
