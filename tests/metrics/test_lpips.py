import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from rbctrl.metrics import LPIPS
from rbctrl.metrics import lpips as module
from rbctrl.noise import GaussianNoise
from rbctrl.observation import given
from rbctrl.operators import Operator

WITHOUT = [name for name in ("lpips", "torchvision") if find_spec(name) is None]


class Whole(Operator):
    def forward(self, image):
        return image


def test_missing_packages_are_named_with_the_command_that_brings_them(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "torchvision" else object())
    with pytest.raises(
        ImportError, match=r"needs torchvision, not installed here: run `pip install \"rbctrl\[lpips\]\""
    ):
        LPIPS()


def test_missing_weights_are_named_with_their_address(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"checkpoints/alexnet-owt.*https://download.pytorch.org"):
        LPIPS()
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth.*vgg16-397923af\.pth"):
        LPIPS("vgg", str(tmp_path / "nowhere.pth"))


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match="'resnet' is unknown: use alex or vgg"):
        LPIPS("resnet")


def test_importing_the_metrics_is_cheap():
    code = "import sys, rbctrl.metrics; print({'lpips', 'torchvision', 'torchmetrics'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.skipif(bool(WITHOUT), reason=f"the optional packages {WITHOUT} are not installed")
@pytest.mark.filterwarnings("ignore")  # those of torchvision and lpips
def test_lpips_runs_the_backbone_of_the_file(tmp_path):
    from torchvision.models import alexnet

    torch.save(alexnet(weights=None).state_dict(), tmp_path / "alex.pth")
    metric = LPIPS("alex", str(tmp_path / "alex.pth"))
    truth = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image = torch.stack([truth[0], -truth[1]])
    scores = metric(image, truth, given(Whole(), GaussianNoise(0.1), truth))
    assert scores[0] == 0 and scores[1] > 0
    assert metric(image[1:], truth[1:], given(Whole(), GaussianNoise(0.1), truth[1:])).equal(scores[1:])
    saved = torch.load(tmp_path / "alex.pth", weights_only=True)
    assert metric.model.net.state_dict()["slice2.3.bias"].equal(saved["features.3.bias"])
