"""Stage `export`: write one SD 1.x checkpoint file, and read it back into diffusers' modules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from .config import CFG_SCALE, LATENT_SCALE, REPOSITORY, STYLES, NetworkSizes, Preset
from .encode import load_whitening
from .networks import build_text, build_unet, build_vae
from .unet import load_networks
from .vae import load_vae

CHECKPOINT = REPOSITORY / "models" / "Stable-diffusion" / "easel-emoji.safetensors"
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
PER_LEVEL = 3  # blocks of a level in LDM's count: two ResNets and a resampler going down, three ResNets going up


def ldm_unet_key(key: str) -> str:
    """`down_blocks.1.attentions.0.x` -> `input_blocks.4.1.x`, and so on for every key of diffusers' UNet."""
    outer = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    outer |= {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
    for name, ldm in outer.items():
        if key.startswith(name + "."):
            return ldm + key[len(name) :]
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", key):
        kind, item, rest = match.groups()
        return f"middle_block.{2 * int(item)}.{resnet_key(rest)}" if kind == "resnets" else f"middle_block.1.{rest}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)", key)
    if not match:
        raise KeyError(f"no LDM name is known for {key!r}")
    way, level, kind, item, rest = match.groups()
    first = PER_LEVEL * int(level)
    if kind == "downsamplers":
        return f"input_blocks.{first + 3}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{first + 2}.{1 if level == '0' else 2}.{rest}"
    block = f"input_blocks.{first + 1 + int(item)}" if way == "down" else f"output_blocks.{first + int(item)}"
    return f"{block}.0.{resnet_key(rest)}" if kind == "resnets" else f"{block}.1.{rest}"


def resnet_key(rest: str) -> str:
    name, end = rest.rsplit(".", 1)
    return f"{RESNET[name]}.{end}"


def ldm_vae_key(key: str) -> str:
    """`decoder.up_blocks.0.resnets.0.x` -> `decoder.up.3.block.0.x`, and so on for every key of diffusers' VAE."""
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", key)
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    for name, ldm in VAE_ATTENTION.items():
        key = key.replace(f"mid_block.attentions.0.{name}.", f"mid.attn_1.{ldm}.")
    return key


def text_key(key: str) -> str:
    """Transformers' name without the `text_model.` that some of its versions put first."""
    return key.removeprefix("text_model.")


def to_ldm(unet: nn.Module, vae: nn.Module, text: nn.Module) -> dict[str, Tensor]:
    """The state of all three networks under LDM's names, shapes as in SD 1.x files."""
    state = {UNET + ldm_unet_key(key): value for key, value in unet.state_dict().items()}
    for key, value in vae.state_dict().items():
        is_attention_matrix = ".attentions." in key and value.ndim == 2
        state[VAE + ldm_vae_key(key)] = value[:, :, None, None] if is_attention_matrix else value
    state |= {TEXT + text_key(key): value for key, value in text.state_dict().items() if "position_ids" not in key}
    return state


def from_ldm(state: dict[str, Tensor], unet: nn.Module, vae: nn.Module, text: nn.Module) -> None:
    """Fill the networks from LDM's names. Every weight must be there."""
    unet.load_state_dict({key: state[UNET + ldm_unet_key(key)] for key in unet.state_dict()})
    shapes = {key: value.shape for key, value in vae.state_dict().items()}
    vae.load_state_dict({key: state[VAE + ldm_vae_key(key)].reshape(shape) for key, shape in shapes.items()})
    keys = [key for key in text.state_dict() if "position_ids" not in key]
    text.load_state_dict({key: state[TEXT + text_key(key)] for key in keys}, strict=False)


@torch.no_grad()
def fold_latent_scale(vae: AutoencoderKL, shift: Tensor, spread: Tensor) -> None:
    """Rescale the latent inside the quant convolutions so that 0.18215 times it has mean 0 and std 1.

    shift, spread: (4,) mean and std of the raw latent's channels.
    """
    scale = spread * LATENT_SCALE
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:4] /= scale[:, None, None, None]
    quant.bias[:4] = (quant.bias[:4] - shift) / scale
    quant.bias[4:] -= 2 * scale.log()  # these are log variances
    post.bias += post.weight[:, :, 0, 0] @ shift
    post.weight *= scale[:, None, None]


def metadata(preset: Preset, step: int) -> dict[str, Any]:
    """What tensor shapes can't tell, and where the pictures came from."""
    sizes = preset.sizes
    return {
        "name": "Easel Emoji",
        "preset": preset.name,
        "steps": step,
        "num_heads": sizes.unet_heads,
        "norm_num_groups": sizes.unet_groups,
        "vae_norm_num_groups": sizes.vae_groups,
        "text_heads": sizes.text_heads,
        "native_size": preset.native_size,
        "cfg_scale": CFG_SCALE,
        "licence": "Apache-2.0",
        "trained_on": sorted({STYLES[word].credit for word in preset.styles}),
        "examples": list(preset.examples),
    }


def whole(number: float) -> float | int:
    """LDM writes whole multipliers as integers."""
    return int(number) if number == int(number) else number


def sidecar(preset: Preset) -> dict[str, Any]:
    """The yaml in LDM's layout, with our keys for what LDM takes for granted."""
    sizes = preset.sizes
    unet_params = {
        "image_size": preset.native_size // 8,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": sizes.unet[0],
        "attention_resolutions": [4, 2, 1],
        "num_res_blocks": 2,
        "channel_mult": [width / sizes.unet[0] for width in sizes.unet],
        "num_heads": sizes.unet_heads,
        "norm_num_groups": sizes.unet_groups,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": sizes.text,
        "use_checkpoint": False,
        "legacy": False,
    }
    vae_params = {
        "double_z": True,
        "z_channels": 4,
        "resolution": preset.native_size,
        "in_channels": 3,
        "out_ch": 3,
        "ch": sizes.vae[0],
        "ch_mult": [whole(width / sizes.vae[0]) for width in sizes.vae],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
        "norm_num_groups": sizes.vae_groups,
    }
    text_params = {
        "hidden_size": sizes.text,
        "num_hidden_layers": sizes.text_layers,
        "num_attention_heads": sizes.text_heads,
    }
    return {
        "model": {
            "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {
                "linear_start": 0.00085,
                "linear_end": 0.012,
                "timesteps": 1000,
                "parameterization": "eps",
                "image_size": preset.native_size // 8,
                "native_size": preset.native_size,
                "cfg_scale": whole(CFG_SCALE),
                "channels": 4,
                "conditioning_key": "crossattn",
                "scale_factor": LATENT_SCALE,
                "use_ema": False,
                "unet_config": {
                    "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                    "params": unet_params,
                },
                "first_stage_config": {
                    "target": "ldm.models.autoencoder.AutoencoderKL",
                    "params": {"embed_dim": 4, "ddconfig": vae_params},
                },
                "cond_stage_config": {
                    "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
                    "params": text_params,
                },
            },
        }
    }


def full_text_encoder(preset: Preset, packed: CLIPTextModel, table: Tensor) -> CLIPTextModel:
    """The text encoder with all 49,408 rows. table: (49408, width)."""
    text = build_text(preset.sizes)
    state = dict(packed.state_dict())
    (name,) = [key for key in state if key.endswith("token_embedding.weight")]
    state[name] = table
    text.load_state_dict(state)
    return text


def run(preset: Preset, out: Path = CHECKPOINT) -> None:
    device = torch.device("cpu")
    unet, packed, tokens, step = load_networks(preset, device)
    vae, whitening = load_vae(preset, device), load_whitening(preset)
    fold_latent_scale(vae, whitening.shift, whitening.spread)
    text = full_text_encoder(preset, packed, tokens.unpack(packed.get_input_embeddings().weight.detach()))
    state = {key: value.half().contiguous().clone() for key, value in to_ldm(unet, vae, text).items()}
    overflown = [key for key, value in state.items() if not value.isfinite().all()]
    assert not overflown, f"not representable in fp16: {overflown}"
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, out, metadata={"format": "pt", "easel": json.dumps(metadata(preset, step))})
    out.chmod(0o644)
    heading = "# For the checkpoint of this name: heads, norm groups and native size can't be seen from its tensors.\n"
    out.with_suffix(".yaml").write_text(heading + yaml.safe_dump(sidecar(preset), sort_keys=False))
    print(f"{out.name}: {out.stat().st_size / 1e6:.1f} MB, {len(state)} tensors, step {step}")
    print("NOTICE must have these paragraphs and none of another style:\n\n" + notice(preset.styles))


def notice(styles: Iterable[str]) -> str:
    """The paragraphs of NOTICE for what these styles were drawn by."""
    return "\n".join(STYLES[style].notice for style in styles)


def shipped_bytes(sizes: NetworkSizes) -> int:
    """Of all weights in fp16, the file's header left out."""
    with torch.device("meta"):
        networks = build_unet(sizes), build_vae(sizes), build_text(sizes)
    return sum(2 * p.numel() for network in networks for p in network.parameters())


def sizes_of(path: Path) -> NetworkSizes:
    """Widths, heads and groups of an exported checkpoint, from its sidecar."""
    params = yaml.safe_load(path.with_suffix(".yaml").read_text())["model"]["params"]
    unet, vae, text = (
        params["unet_config"]["params"],
        params["first_stage_config"]["params"]["ddconfig"],
        params["cond_stage_config"]["params"],
    )
    return NetworkSizes(
        unet=widths(unet["model_channels"], unet["channel_mult"]),
        unet_heads=unet["num_heads"],
        unet_groups=unet["norm_num_groups"],
        vae=widths(vae["ch"], vae["ch_mult"]),
        vae_groups=vae["norm_num_groups"],
        text=text["hidden_size"],
        text_layers=text["num_hidden_layers"],
        text_heads=text["num_attention_heads"],
    )


def widths(first: int, factors: list[float]) -> tuple[int, int, int, int]:
    a, b, c, d = (round(first * factor) for factor in factors)
    return a, b, c, d


def load_exported(
    path: Path = CHECKPOINT,
) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, dict[str, Any]]:
    """The three networks in float32 from a checkpoint file, and its metadata."""
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["easel"])
    sizes = sizes_of(path)
    unet, vae, text = build_unet(sizes), build_vae(sizes), build_text(sizes)
    from_ldm(state, unet, vae, text)
    return unet.eval(), vae.eval(), text.eval(), facts
