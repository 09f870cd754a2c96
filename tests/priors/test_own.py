"""Networks of one's own: strict weights from safetensors, EDM's preconditioning, class labels."""

import math
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rbctrl.priors.own import Preconditioned, class_conditional, edm
from rbctrl.schedules import VE, VP

CONVENTIONS = {"parameterization": "eps", "time_input": "t", "network_schedule": VP(), "value_range": (-1, 1)}
T = torch.tensor(0.4, dtype=torch.float64)


class Raw(nn.Module):
    """F(x, time, class_labels): linear in x, the time and the one-hot or integer label."""

    def __init__(self, classes=0):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.offset = nn.Parameter(torch.arange(1.0, classes + 1)) if classes else None

    def forward(self, x, time, class_labels=None):
        out = self.conv(x) + time.view(-1, 1, 1, 1)
        if class_labels is None:
            return out
        chosen = class_labels @ self.offset if class_labels.is_floating_point() else self.offset[class_labels]
        return out + chosen.view(-1, 1, 1, 1)


def saved(tmp_path, classes=0):
    network = Raw(classes).requires_grad_(False)
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    return network, str(tmp_path / "net.safetensors")


def images():
    return torch.linspace(-2, 2, 2 * 48).sin().view(2, 3, 4, 4)


@pytest.mark.parametrize("label", [None, 2])
def test_edm_preconditioning_is_the_published_table(tmp_path, label):
    classes = None if label is None else 4
    network, path = saved(tmp_path, classes or 0)
    prior = edm(partial(Raw, classes or 0), path, preconditioning="edm", label=label, classes=classes)
    prior.load()
    x_t = images()
    alpha, sigma = (float(v) for v in VP().levels(T))
    x, s = x_t / alpha, sigma / alpha
    c_skip, c_out = 0.25 / (s**2 + 0.25), s * 0.5 / math.sqrt(s**2 + 0.25)
    one_hot = None if label is None else torch.eye(4)[[label, label]]
    f = network(x / math.sqrt(s**2 + 0.25), torch.full((2,), math.log(s) / 4), one_hot)
    torch.testing.assert_close(prior.predict(x_t, T).x0_hat, c_skip * x + c_out * f, rtol=0, atol=1e-5)
    included = edm(partial(Raw, classes or 0), path, preconditioning="included", label=label, classes=classes)
    included.load()
    plain = network(x, torch.full((2,), s), one_hot)
    torch.testing.assert_close(included.predict(x_t, T).x0_hat, plain, rtol=0, atol=1e-5)
    assert not torch.allclose(plain, c_skip * x + c_out * f, atol=1e-2)


def test_preconditioned_network_is_the_identity_at_no_noise():
    x = images()
    out = Preconditioned(Raw())(x, torch.full((2,), 1e-6))
    torch.testing.assert_close(out, x, rtol=0, atol=1e-4)


def test_class_label_reaches_the_network_as_it_wants_it(tmp_path):
    network, path = saved(tmp_path, 5)
    alpha, sigma = (float(v) for v in VP().levels(T))
    for label, form in ((0, "index"), (3, "index"), (3, "one_hot")):
        prior = class_conditional(partial(Raw, 5), path, label=label, classes=5, label_form=form, **CONVENTIONS)
        prior.load()
        expected = network(images(), torch.full((2,), 0.4), torch.full((2,), label))
        torch.testing.assert_close(prior.predict(images(), T).eps_hat, expected, rtol=0, atol=1e-5)


def test_weights_fit_to_the_last_tensor_or_are_refused(tmp_path):
    _, path = saved(tmp_path)
    prior = class_conditional(partial(Raw, 5), path, label=1, classes=5, **CONVENTIONS)
    with pytest.raises(ValueError, match=r"1 missing \(offset\)"):
        prior.load()
    assert prior.network is None


@pytest.mark.parametrize("path", ["net.pkl", "net.pt", "net.ckpt"])
def test_pickles_are_refused_before_they_are_looked_for(path):
    with pytest.raises(ValueError, match="no safetensors file.*convert it"):
        edm(Raw, path, preconditioning="included")
    with pytest.raises(ValueError, match="no safetensors file.*convert it"):
        class_conditional(Raw, path, label=None, classes=None, **CONVENTIONS)


def test_what_cannot_be_is_refused(tmp_path):
    _, path = saved(tmp_path)
    for settings, word in (
        ({"preconditioning": "vp"}, "preconditioning is"),
        ({"preconditioning": "edm", "label": 3}, "needs label and classes"),
        ({"preconditioning": "edm", "label": 3, "classes": 3}, "0 to 2"),
    ):
        with pytest.raises(ValueError, match=word):
            edm(Raw, path, **settings)
    with pytest.raises(ValueError, match="form is"):
        class_conditional(Raw, path, label=0, classes=2, label_form="text", **CONVENTIONS)
    with pytest.raises(ValueError, match="no torch.nn.Module"):
        edm(lambda: 3, path, preconditioning="edm").load()
    absent = edm(Raw, str(tmp_path / "absent.safetensors"), preconditioning="edm")
    with pytest.raises(FileNotFoundError, match="own.py says how to convert"):
        absent.load()
    assert not absent.files()[0].present()


def test_process_of_any_schedule_and_trained_range():
    prior = edm(Raw, "net.safetensors", preconditioning="edm", sigma_max=5.0, schedule=VE(80.0))
    with pytest.raises(ValueError, match="above all that this network was trained for"):
        prior._level(torch.tensor(1.0, dtype=torch.float64))
