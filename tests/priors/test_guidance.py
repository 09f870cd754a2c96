"""Guidance: the published formulas written out, per image."""

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from rbctrl.priors.guidance import Guidance


@pytest.fixture
def branches():
    """Outputs under the prompt and under the negative prompt, of three images of very different size."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([0.1, 1.0, 10.0]).view(3, 1, 1, 1)
    return [size * torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2)]


def guided(guidance, branches):
    """The output, and how many rows each evaluation had; the condition of a row says which branch it is."""
    rows, choose = [], torch.arange(3).repeat(2)

    def evaluate(x_t, which):
        rows.append(len(x_t))
        return torch.stack([branches[int(which[k])][choose[k]] for k in range(len(x_t))])

    x_t = torch.zeros(3, 4, 8, 8)
    return guidance(evaluate, x_t, (torch.zeros(3),), (torch.ones(3),)), rows


@pytest.mark.parametrize(("mode", "rows"), [("batched", [6]), ("separate", [3, 3])])
def test_output_is_led_from_the_negative_prompt_to_the_prompt(mode, rows, branches):
    wanted, unwanted = branches
    out, seen = guided(Guidance(7.5, branches=mode), branches)
    torch.testing.assert_close(out, unwanted + 7.5 * (wanted - unwanted))
    assert seen == rows and not torch.allclose(out, wanted + 7.5 * (unwanted - wanted))


@pytest.mark.parametrize("phi", [0.3, 1.0])
def test_rescaling_is_the_published_one_of_each_image(phi, branches):
    wanted, unwanted = branches
    plain = unwanted + 3.0 * (wanted - unwanted)
    out, _ = guided(Guidance(3.0, phi), branches)
    torch.testing.assert_close(out, rescale_noise_cfg(plain, wanted, guidance_rescale=phi))
    for k in range(3):
        factor = wanted[k].std() / plain[k].std()
        torch.testing.assert_close(out[k], (phi * factor + 1 - phi) * plain[k])
    over_the_batch = (phi * wanted.std() / plain.std() + 1 - phi) * plain
    assert not torch.allclose(out, over_the_batch, rtol=1e-3)
    alone, _ = guided(Guidance(3.0, phi), [branch[:1].expand(3, -1, -1, -1) for branch in branches])
    torch.testing.assert_close(alone[0], out[0])


def test_one_branch_is_enough_where_the_other_counts_nothing():
    assert Guidance(1.0).single(same=False) == "prompt" and Guidance(7.5).single(same=True) == "prompt"
    assert Guidance(0.0).single(same=False) == "negative" and Guidance(7.5).single(same=False) is None


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"rescale lies in \[0, 1\], got 1.5"):
        Guidance(3.0, rescale=1.5)
    with pytest.raises(ValueError, match="'both'"):
        Guidance(3.0, branches="both")
