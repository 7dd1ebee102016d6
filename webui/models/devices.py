"""Which device the model runs on, and in which precision."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from webui.core.errors import InvalidRequest
from webui.core.flags import Flags


@dataclass(frozen=True)
class Placement:
    """Where the weights of a model go, and in which dtype each part computes.

    channels_last: keep the U-Net's and the VAE's weights as NHWC, which bf16 convolutions on CPUs want.
    """

    device: torch.device
    unet: torch.dtype
    text: torch.dtype
    vae: torch.dtype
    channels_last: bool = False


FLOAT = torch.float32


def choose(flags: Flags) -> Placement:
    """--device, --use-cpu all, --no-half, --no-half-vae and --precision against what the machine has.

    fp16 on graphics devices, bf16 on CPUs that compute in it, else fp32; never fp16 on a CPU, where it is
    hundreds of times slower. The VAE of SD 1.x fits fp16's range on most pictures and is run again in fp32 otherwise.
    Raises: InvalidRequest for a device that isn't there.
    """
    device = find_device(flags.device)
    half = not (flags.no_half or flags.precision == "full")
    if device.type == "cpu":
        low = half and cpu_computes_bf16()
        return placement_on_cpu(torch.bfloat16 if low else FLOAT)
    if not half:
        return Placement(device, FLOAT, FLOAT, FLOAT)
    vae = FLOAT if flags.no_half_vae else torch.float16
    return Placement(device, torch.float16, torch.float16, vae, channels_last=flags.opt_channelslast)


def placement_on_cpu(dtype: torch.dtype) -> Placement:
    """dtype: fp32 or bf16; with bf16 the layout is channels_last."""
    return Placement(torch.device("cpu"), dtype, dtype, dtype, channels_last=dtype == torch.bfloat16)


def find_device(name: str | None) -> torch.device:
    """The named device ("cuda", "cuda:1", "mps", "xpu", "cpu"), or the best there is for None, "" and "auto"."""
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        available.insert(0, "xpu")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if not name or name == "auto":
        return torch.device(available[0])
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in available or (index and not (index.isdecimal() and int(index) < count)):
        raise InvalidRequest(f'There is no device "{name}" here; available: {", ".join(available)}.')
    return torch.device(name)


def cpu_computes_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    if hasattr(torch.cpu, "_is_avx512_bf16_supported") and hasattr(torch.cpu, "_is_amx_tile_supported"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.exists():
        words = info.read_text(errors="replace").split()
        return "avx512_bf16" in words or "amx_bf16" in words
    return False
