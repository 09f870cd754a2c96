"""The networks of guided-diffusion and latent diffusion, written plainly, with tensors under their published names."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Group(nn.GroupNorm):
    """GroupNorm of 32 groups (eps 1e-5), and SiLU where the original has one behind it."""

    def __init__(self, channels, groups=32, eps=1e-5):
        super().__init__(groups, channels, eps=eps)


class Res(nn.Module):
    """Normalise, SiLU, (resample,) convolve; add or scale-and-shift by the time; normalise, SiLU, convolve; skip."""

    def __init__(self, width, out, emb, scale_shift, change=None):
        super().__init__()
        self.scale_shift, self.change = scale_shift, change
        self.in_layers = nn.ModuleDict({"0": Group(width), "2": nn.Conv2d(width, out, 3, padding=1)})
        self.emb_layers = nn.ModuleDict({"1": nn.Linear(emb, 2 * out if scale_shift else out)})
        self.out_layers = nn.ModuleDict({"0": Group(out), "3": nn.Conv2d(out, out, 3, padding=1)})
        if width != out:
            self.skip_connection = nn.Conv2d(width, out, 1)

    def forward(self, x, emb):
        h = F.silu(self.in_layers["0"](x))
        if self.change == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        if self.change == "up":
            h, x = (v.repeat_interleave(2, -1).repeat_interleave(2, -2) for v in (h, x))
        h = self.in_layers["2"](h)
        e = self.emb_layers["1"](F.silu(emb))[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.out_layers["0"](h) * (1 + scale) + shift
        else:
            h = self.out_layers["0"](h + e)
        h = self.out_layers["3"](F.silu(h))
        return h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class Attention(nn.Module):
    """Self-attention over pixels; rows of qkv are [head][q|k|v] (legacy) or [q|k|v][head] (new)."""

    def __init__(self, width, head, order="legacy"):
        super().__init__()
        self.head, self.order = head, order
        self.norm, self.qkv, self.proj_out = Group(width), nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x):
        b, c, *_ = x.shape
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat))
        mixed = torch.empty_like(flat)
        for n in range(c // self.head):
            if self.order == "legacy":
                rows = [slice((3 * n + part) * self.head, (3 * n + part + 1) * self.head) for part in range(3)]
            else:
                rows = [slice(part * c + n * self.head, part * c + (n + 1) * self.head) for part in range(3)]
            q, k, v = (qkv[:, r] for r in rows)
            weights = (q.transpose(1, 2) @ k / math.sqrt(self.head)).softmax(-1)
            mixed[:, n * self.head : (n + 1) * self.head] = v @ weights.transpose(1, 2)
        return (flat + self.proj_out(mixed)).view_as(x)


class Down(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.conv(x.repeat_interleave(2, -1).repeat_interleave(2, -2))


class OriginalUNet(nn.Module):
    """Built block by block from the same numbers as `rbctrl.priors.unet_layout.UNetLayout`."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout
        width, emb = layout.channels, 4 * layout.channels
        resblock = layout.resampling == "resblock"

        def res(i, o, change=None):
            return Res(i, o, emb, layout.scale_shift, change)

        def attention(w):
            return Attention(w, layout.head_channels, layout.qkv_order)

        self.time_embed = nn.ModuleDict({"0": nn.Linear(width, emb), "2": nn.Linear(emb, emb)})
        if layout.classes is not None:
            self.label_emb = nn.Embedding(layout.classes, emb)
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(layout.in_channels, width, 3, padding=1)])])
        skips, ds = [width], 1
        for level, m in enumerate(layout.multipliers):
            for _ in range(layout.blocks):
                block = [res(width, layout.channels * m)]
                width = layout.channels * m
                if ds in layout.attention:
                    block.append(attention(width))
                self.input_blocks.append(nn.ModuleList(block))
                skips.append(width)
            if level + 1 < len(layout.multipliers):
                self.input_blocks.append(nn.ModuleList([res(width, width, "down") if resblock else Down(width)]))
                skips.append(width)
                ds *= 2
        self.middle_block = nn.ModuleList([res(width, width), attention(width), res(width, width)])
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(layout.multipliers))):
            for j in range(layout.blocks + 1):
                block = [res(width + skips.pop(), layout.channels * m)]
                width = layout.channels * m
                if ds in layout.attention:
                    block.append(attention(width))
                if level and j == layout.blocks:
                    block.append(res(width, width, "up") if resblock else Up(width))
                    ds //= 2
                self.output_blocks.append(nn.ModuleList(block))
        self.out = nn.ModuleDict({"0": Group(width), "2": nn.Conv2d(width, layout.out_channels, 3, padding=1)})

    def forward(self, x, t, y=None):
        half = self.layout.channels // 2
        angles = t[:, None] * torch.exp(-math.log(1e4) * torch.arange(half) / half)
        emb = self.time_embed["0"](torch.cat([angles.cos(), angles.sin()], 1))
        emb = self.time_embed["2"](F.silu(emb))
        if y is not None:
            emb = emb + self.label_emb(y)
        h, skips = x, []
        for block in self.input_blocks:
            h = self._run(block, h, emb)
            skips.append(h)
        h = self._run(self.middle_block, h, emb)
        for block in self.output_blocks:
            h = self._run(block, torch.cat([h, skips.pop()], 1), emb)
        return self.out["2"](F.silu(self.out["0"](h)))

    @staticmethod
    def _run(block, h, emb):
        for layer in block:
            h = layer(h, emb) if isinstance(layer, Res) else layer(h)
        return h


@torch.no_grad()
def randomise(network, seed=0):
    """Random tensors, none of them at a start that would hide a mistake (zeros, ones)."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.named_parameters():
        value.copy_(torch.randn(value.shape, generator=generator) * 0.5 / math.sqrt(max(value[0].numel(), 4)))
        if name.endswith("weight") and value.ndim == 1:
            value.add_(1)
    return network.eval()
