"""The three networks of an SD 1.x checkpoint, in the sizes of a preset."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from .config import NetworkSizes

VOCABULARY = 49408  # CLIP's; 49406 begins a text, 49407 ends and pads it
BEGIN, END = 49406, 49407
TOKENS = 77


def build_unet(sizes: NetworkSizes) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=sizes.unet,
        layers_per_block=2,
        cross_attention_dim=sizes.text,
        attention_head_dim=sizes.unet_heads,  # for this family diffusers reads it as the number of heads
        norm_num_groups=sizes.unet_groups,
    )


def build_vae(sizes: NetworkSizes) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=sizes.vae,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=sizes.vae_groups,
    )


@torch.no_grad()
def start_as_skip(network: AutoencoderKL | UNet2DConditionModel) -> None:
    """Start every residual branch at 0 and every resampler near the identity.

    The fresh network is then a shallow, nearly linear map: it finds colours within a few hundred steps, and the depth
    joins in later.
    """
    silent: list[nn.Module] = []
    if isinstance(network, AutoencoderKL):
        network.quant_conv.bias[4:] = -6.0  # a posterior far narrower than the latent's spread
        silent += [half.mid_block.attentions[0].to_out[0] for half in (network.encoder, network.decoder)]
    else:
        silent.append(network.conv_out)
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            silent.append(module.conv2)
        elif isinstance(module, Transformer2DModel):
            silent.append(module.proj_out)
        elif isinstance(module, Downsample2D):
            module.conv.weight[:, :, :2, :2] += 0.25 * torch.eye(len(module.conv.weight))[:, :, None, None]
        elif isinstance(module, Upsample2D):
            module.conv.weight[:, :, 1, 1] += torch.eye(len(module.conv.weight))
    for module in silent:
        module.weight.zero_()
        module.bias.zero_()


def build_text(sizes: NetworkSizes, vocabulary: int = VOCABULARY) -> CLIPTextModel:
    """vocabulary: rows of the token table; training uses a packed table, see `tokens.PackedTokens`."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=sizes.text,
            intermediate_size=4 * sizes.text,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=sizes.text_heads,
            max_position_embeddings=TOKENS,
            hidden_act="quick_gelu",
            projection_dim=sizes.text,
            bos_token_id=None if vocabulary < VOCABULARY else BEGIN,
            eos_token_id=2 if vocabulary < VOCABULARY else END,  # only the pooled vector, which SD 1.x ignores, asks
            pad_token_id=None if vocabulary < VOCABULARY else END,
        )
    )


def pick_device() -> torch.device:
    """The accelerator where there is one, its faster kernels chosen."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")
