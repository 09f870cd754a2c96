"""Files of weights are read as tensors only, fit to the last one or are refused, and say where to get them."""

import pickle
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rbctrl.checkpoints import RequiredFile, check_fit, fill, read_tensors, shapes

STATE = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


def file(path):
    return RequiredFile(str(path), "it is at https://example.org/net")


@pytest.mark.parametrize("wrapped", [False, True])
def test_both_formats_and_wrapped_tables_are_read(tmp_path, wrapped):
    torch.save({"state_dict": STATE, "epoch": 3} if wrapped else STATE, tmp_path / "net.pt")
    save_file(STATE, tmp_path / "net.safetensors")
    for name in ("net.pt", "net.safetensors"):
        read = read_tensors(file(tmp_path / name))
        assert read.keys() == STATE.keys() and all(read[k].equal(STATE[k]) for k in STATE)


def test_checkpoints_of_the_old_format_are_read(tmp_path):
    torch.save(STATE, tmp_path / "net.pt", _use_new_zipfile_serialization=False)
    assert read_tensors(file(tmp_path / "net.pt"))["weight"].equal(STATE["weight"])


def test_what_lightning_leaves_behind_is_passed_over(tmp_path, monkeypatch):
    """The published latent diffusion checkpoints hold a callback's class as a key, which is no tensor and no code."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save({"state_dict": STATE, "callbacks": {module.ModelCheckpoint: {"best": 0.5}}}, tmp_path / "net.ckpt")
    monkeypatch.delitem(sys.modules, module.__name__)
    assert read_tensors(file(tmp_path / "net.ckpt")).keys() == STATE.keys()


class Bomb:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_code_in_a_pickle_is_never_run(tmp_path, capsys):
    torch.save({"state_dict": STATE, "bomb": Bomb()}, tmp_path / "net.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps({"ema": Bomb()}))
    for name in ("net.pt", "bare.pkl"):
        with pytest.raises(ValueError, match="holds more than tensors.*safetensors"):
            read_tensors(file(tmp_path / name))
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_a_damaged_file_is_named(tmp_path, name):
    torch.save(STATE, tmp_path / "net.pt")
    save_file(STATE, tmp_path / "net.safetensors")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name} is"):
        read_tensors(file(tmp_path / name))


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"steps": 3}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="no table of named tensors"):
        read_tensors(file(tmp_path / "net.pt"))


def test_a_missing_file_says_where_it_is_published_and_where_to_put_it(tmp_path):
    absent = file(tmp_path / "net.pt")
    assert not absent.present() and absent.fingerprint() == ""
    with pytest.raises(FileNotFoundError, match=r"net.pt: it is at https://example.org/net; put it there, or say"):
        read_tensors(absent)


def test_a_repository_of_the_hub_is_there_when_it_is_cached(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert not RequiredFile("google/ddpm", "").present()
    (tmp_path / "models--google--ddpm" / "snapshots" / "abc").mkdir(parents=True)
    assert RequiredFile("google/ddpm", "").present()
    assert not RequiredFile("./google/ddpm", "").present()


def test_fingerprint_follows_the_content(tmp_path):
    first, second = file(tmp_path / "a"), file(tmp_path / "b")
    first.path.write_bytes(b"x" * 5_000_000)
    second.path.write_bytes(b"x" * 4_999_999 + b"y")
    assert len(first.fingerprint()) == 16 and first.fingerprint() != second.fingerprint()


def test_fill_is_strict_and_gives_fp32():
    with torch.device("meta"):
        net = nn.Linear(3, 2)
    filled = fill(net, {name: value.half() for name, value in STATE.items()}, "net.pt")
    assert filled.weight.dtype == torch.float32 and filled(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": STATE["weight"]}, r"of 2 tensors 1 missing \(bias\)"),
        (STATE | {"ema.a": STATE["bias"], "ema.b": STATE["bias"]}, r"2 unknown \(ema.a, ema.b\)"),
        (STATE | {"weight": torch.ones(3, 2)}, r"1 of another shape \(weight is \[3, 2\], not \[2, 3\]\)"),
    ],
)
def test_what_does_not_fit_is_named(state, words):
    with pytest.raises(ValueError, match=r"net.pt does not fit Linear: .*" + words):
        fill(nn.Linear(3, 2), state, "net.pt")
    with pytest.raises(ValueError, match=words):
        check_fit("net.pt", "Linear", shapes(STATE), shapes(state))


def test_nothing_stays_on_the_meta_device():
    class WithTable(nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.register_buffer("table", torch.ones(2), persistent=False)

    with torch.device("meta"):
        net = WithTable()
    with pytest.raises(ValueError, match="leaves table of WithTable without values"):
        fill(net, STATE, "net.pt")
