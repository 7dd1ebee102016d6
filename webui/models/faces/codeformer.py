"""CodeFormer: a face is described by entries of a learnt codebook, which a transformer picks, and drawn from them.

Written after the paper, for weights in the layout of its authors' files. Source: Zhou et al. 2022, arXiv:2206.11253.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from webui.core.errors import BadModelFile
from webui.models.weights import WeightsFile


@dataclass(frozen=True)
class CodeFormerLayout:
    """What the sizes of a file's tensors tell. width: channels of the first level. multipliers: of each level's.

    embedding: of the transformer; heads: of its attention. fused: sides at which the encoder's features come in.
    """

    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 2, 4, 4, 8)
    latent: int = 256
    codes: int = 1024
    embedding: int = 512
    heads: int = 8
    layers: int = 9
    side: int = 512
    attended: tuple[int, ...] = (16,)
    fused: tuple[int, ...] = (32, 64, 128, 256)


class CodeFormer(nn.Module):
    """weight 0 draws from the codebook alone, 1 keeps closest to the picture."""

    def __init__(self, layout: CodeFormerLayout) -> None:
        super().__init__()
        self.layout = layout
        side = layout.side >> (len(layout.multipliers) - 1)
        self.encoder = _Blocks(_encoder_blocks(layout))
        self.generator = _Blocks(_generator_blocks(layout))
        self.quantize = _Codebook(layout)
        self.position_emb = nn.Parameter(torch.zeros(side * side, layout.embedding))
        self.feat_emb = nn.Linear(layout.latent, layout.embedding)
        self.ft_layers = nn.Sequential(*(_Layer(layout.embedding, layout.heads) for _ in range(layout.layers)))
        self.idx_pred_layer = nn.Sequential(
            nn.LayerNorm(layout.embedding), nn.Linear(layout.embedding, layout.codes, bias=False)
        )
        channels = _channels_by_side(layout)
        self.fuse_convs_dict = nn.ModuleDict({str(side): _Fuse(channels[side]) for side in layout.fused})

    def forward(self, x: Tensor, weight: float) -> Tensor:
        """x: (1, 3, side, side) in [-1, 1]. Returns: the same shape."""
        kept: dict[int, Tensor] = {}
        for index, block in enumerate(self.encoder.blocks):
            x = block(x)
            following = self.encoder.blocks[index + 1 : index + 2]
            if x.shape[-1] in self.layout.fused and (not following or isinstance(following[0], _Down)):
                kept[x.shape[-1]] = x
        count, _, height, width = x.shape
        query = self.feat_emb(x.flatten(2).permute(2, 0, 1))
        position = self.position_emb[:, None].expand(-1, count, -1)
        for layer in self.ft_layers:
            query = layer(query, position)
        best = self.idx_pred_layer(query).argmax(-1).T
        codes = self.quantize.embedding(best).permute(0, 2, 1).reshape(count, -1, height, width)
        x = _restyled(codes, x)
        for index, block in enumerate(self.generator.blocks):
            x = block(x)
            before_up = isinstance(self.generator.blocks[index - 1], _Up) if index else False
            if weight > 0 and before_up and x.shape[-1] in kept:
                x = self.fuse_convs_dict[str(x.shape[-1])](kept[x.shape[-1]], x, weight)
        return x


def layout_of(file: WeightsFile) -> CodeFormerLayout | None:
    """None for a file of another network. Raises: BadModelFile for a CodeFormer of unknown proportions."""
    shapes = file.shapes
    wanted = ("position_emb", "quantize.embedding.weight", "encoder.blocks.0.weight", "idx_pred_layer.1.weight")
    if any(name not in shapes for name in wanted):
        return None
    codes, latent = shapes["quantize.embedding.weight"]
    tokens, embedding = shapes["position_emb"]
    layers = len({name.split(".")[1] for name in shapes if name.startswith("ft_layers.")})
    fused = sorted({int(name.split(".")[1]) for name in shapes if name.startswith("fuse_convs_dict.")})
    width = shapes["encoder.blocks.0.weight"][0]
    found = CodeFormerLayout(width, latent=latent, codes=codes, embedding=embedding, layers=layers, fused=tuple(fused))
    if tokens != (found.side >> 5) ** 2 or embedding % found.heads:
        raise BadModelFile(f"{file.path.name} is a CodeFormer of other proportions than are known here.")
    return found


def load_codeformer(file: WeightsFile, layout: CodeFormerLayout) -> CodeFormer:
    """On the CPU in single precision. Raises: BadModelFile when tensors are missing or of other sizes."""
    with torch.device("meta"):
        network = CodeFormer(layout)
    names = network.state_dict().keys()
    missing = [name for name in names if name not in file.shapes]
    if missing:
        raise BadModelFile(f"{file.path.name} lacks {len(missing)} tensors of a CodeFormer, such as {missing[0]}.")
    try:
        network.load_state_dict({name: file.tensor(name).float().clone() for name in names}, assign=True)
    except RuntimeError as error:
        raise BadModelFile(f"{file.path.name} can't be loaded: {str(error).splitlines()[-1].strip()[:200]}") from error
    return network.eval().requires_grad_(False)


def _channels_by_side(layout: CodeFormerLayout) -> dict[int, int]:
    return {layout.side >> level: layout.width * many for level, many in enumerate(layout.multipliers)}


class _Codebook(nn.Module):
    def __init__(self, layout: CodeFormerLayout) -> None:
        super().__init__()
        self.embedding = nn.Embedding(layout.codes, layout.latent)


class _Blocks(nn.Module):
    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)


def _encoder_blocks(layout: CodeFormerLayout) -> list[nn.Module]:
    blocks: list[nn.Module] = [nn.Conv2d(3, layout.width, 3, padding=1)]
    inner, side, last = layout.width, layout.side, len(layout.multipliers) - 1
    for level, many in enumerate(layout.multipliers):
        for _ in range(2):
            blocks.append(_Residual(inner, layout.width * many))
            inner = layout.width * many
            if side in layout.attended:
                blocks.append(_Attention(inner))
        if level < last:
            blocks.append(_Down(inner))
            side //= 2
    blocks += [_Residual(inner, inner), _Attention(inner), _Residual(inner, inner)]
    return [*blocks, _norm(inner), nn.Conv2d(inner, layout.latent, 3, padding=1)]


def _generator_blocks(layout: CodeFormerLayout) -> list[nn.Module]:
    last = len(layout.multipliers) - 1
    inner, side = layout.width * layout.multipliers[-1], layout.side >> last
    blocks: list[nn.Module] = [nn.Conv2d(layout.latent, inner, 3, padding=1)]
    blocks += [_Residual(inner, inner), _Attention(inner), _Residual(inner, inner)]
    for level in range(last, -1, -1):
        for _ in range(2):
            outer = layout.width * layout.multipliers[level]
            blocks.append(_Residual(inner, outer))
            inner = outer
            if side in layout.attended:
                blocks.append(_Attention(inner))
        if level:
            blocks.append(_Up(inner))
            side *= 2
    return [*blocks, _norm(inner), nn.Conv2d(inner, 3, 3, padding=1)]


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class _Residual(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2, self.conv2 = _norm(outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.conv_out = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(made))) + self.conv_out(x)


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (project(normed).flatten(2).transpose(1, 2) for project in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(seen)


class _Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class _Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Layer(nn.Module):
    """One layer of the transformer; the positions are added to what is compared, not to what is gathered."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, width * 2), nn.Linear(width * 2, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        normed = self.norm1(x)
        where = normed + position
        x = x + self.self_attn(where, where, normed, need_weights=False)[0]
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class _Fuse(nn.Module):
    """Lets the encoder's features scale and shift the generator's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encode_enc = _Residual(channels * 2, channels)
        self.scale, self.shift = (
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
            for _ in range(2)
        )

    def forward(self, kept: Tensor, x: Tensor, weight: float) -> Tensor:
        seen = self.encode_enc(torch.cat([kept, x], 1))
        return x + weight * (x * self.scale(seen) + self.shift(seen))


def _restyled(content: Tensor, style: Tensor) -> Tensor:
    """`content` with each channel's mean and spread of `style`. Source: Huang and Belongie 2017, arXiv:1703.06868."""
    dims = (2, 3)
    spread, wanted = (((x.var(dims, keepdim=True) + 1e-5).sqrt()) for x in (content, style))
    return (content - content.mean(dims, keepdim=True)) / spread * wanted + style.mean(dims, keepdim=True)
