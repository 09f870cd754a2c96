"""The first stage of latent diffusion, written plainly, with tensors under their published names."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def norm(width):
    return nn.GroupNorm(32, width, eps=1e-6)


class Res(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.norm1, self.conv1 = norm(width), nn.Conv2d(width, out, 3, padding=1)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        if width != out:
            self.nin_shortcut = nn.Conv2d(width, out, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    """One head over all pixels."""

    def __init__(self, width):
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k / math.sqrt(x.shape[1])).softmax(-1)
        return x + self.proj_out((v @ weights.transpose(1, 2)).view_as(x))


class Mid(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = Res(width, width), Attention(width), Res(width, width)

    def forward(self, h):
        return self.block_2(self.attn_1(self.block_1(h)))


class Conv(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.conv, self.stride = nn.Conv2d(width, width, 3, stride=stride, padding=0 if stride == 2 else 1), stride

    def forward(self, h):
        if self.stride == 2:  # pads right and below only
            return self.conv(F.pad(h, (0, 1, 0, 1)))
        return self.conv(h.repeat_interleave(2, -1).repeat_interleave(2, -2))


class Level(nn.Module):
    def __init__(self, width, out, blocks, change=None):
        super().__init__()
        self.block = nn.ModuleList([Res(width if j == 0 else out, out) for j in range(blocks)])
        if change == "down":
            self.downsample = Conv(out, 2)
        if change == "up":
            self.upsample = Conv(out, 1)

    def forward(self, h):
        for block in self.block:
            h = block(h)
        for change in ("downsample", "upsample"):
            if hasattr(self, change):
                h = getattr(self, change)(h)
        return h


class Encoder(nn.Module):
    def __init__(self, layout):
        super().__init__()
        widths = [layout.channels * m for m in layout.multipliers]
        self.conv_in = nn.Conv2d(3, layout.channels, 3, padding=1)
        self.down = nn.ModuleList()
        width = layout.channels
        for level, out in enumerate(widths):
            self.down.append(Level(width, out, layout.blocks, "down" if level + 1 < len(widths) else None))
            width = out
        self.mid, self.norm_out = Mid(width), norm(width)
        self.conv_out = nn.Conv2d(width, layout.latent_channels, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """`up` is counted from the image, and run from the latent."""

    def __init__(self, layout):
        super().__init__()
        widths = [layout.channels * m for m in layout.multipliers]
        self.conv_in = nn.Conv2d(layout.latent_channels, widths[-1], 3, padding=1)
        self.mid = Mid(widths[-1])
        levels, width = {}, widths[-1]
        for level in reversed(range(len(widths))):
            levels[level] = Level(width, widths[level], layout.blocks + 1, "up" if level else None)
            width = widths[level]
        self.up = nn.ModuleList([levels[level] for level in range(len(widths))])
        self.norm_out, self.conv_out = norm(width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z):
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class OriginalFirstStage(nn.Module):
    """encode is not quantised; decode goes to the nearest code first."""

    def __init__(self, layout):
        super().__init__()
        channels = layout.latent_channels
        self.encoder, self.decoder = Encoder(layout), Decoder(layout)
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(layout.codes, channels)})
        self.quant_conv, self.post_quant_conv = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def encode(self, x):
        return self.quant_conv(self.encoder(x))

    def decode(self, z):
        codes = self.quantize["embedding"].weight
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        nearest = torch.cdist(flat, codes).argmin(1)
        quantised = codes[nearest].view(len(z), *z.shape[2:], -1).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(quantised))
