"""Which device the model runs on, and in which precision."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil
import torch

from webui.core.capabilities import Capabilities
from webui.core.errors import InvalidRequest
from webui.core.flags import Flags

FLOAT = torch.float32
Sharing = Literal["together", "in turn", "piecewise"]
"""How a model's parts share the device: all at once; one part after the other; the U-Net layer by layer, too."""
SHARING: tuple[Sharing, ...] = ("together", "in turn", "piecewise")
"""From the fastest to the one that needs the least memory."""


@dataclass(frozen=True)
class Placement:
    """Where the weights of a model go, and in which dtype each part computes.

    channels_last: keep the U-Net's and the VAE's weights as NHWC, which bf16 convolutions on CPUs want.
    sharing: what of the model is on the device at a time. storage: dtype that the U-Net's layers are kept in
    between their calls, None for the one they compute in. exact: round where A1111 rounds, if that is slower.
    """

    device: torch.device
    unet: torch.dtype
    text: torch.dtype
    vae: torch.dtype
    channels_last: bool = False
    sharing: Sharing = "together"
    storage: torch.dtype | None = None
    exact: bool = False

    @property
    def cheaper(self) -> Placement | None:
        """The next one that needs less of the device's memory, None when there is none."""
        if self.device.type == "cpu" or self.sharing == SHARING[-1]:
            return None
        return replace(self, sharing=SHARING[SHARING.index(self.sharing) + 1])


def choose(flags: Flags) -> Placement:
    """--device, --use-cpu all, --no-half, --no-half-vae and --precision against what the machine has.

    fp16 on graphics devices, bf16 on CPUs that compute in it, else fp32; never fp16 on a CPU, where it is
    hundreds of times slower. The VAE of SD 1.x fits fp16's range on most pictures and is run again in fp32 otherwise.
    --precision full, with which people compare pictures, also makes the placement `exact`.
    Raises: InvalidRequest for a device that isn't there.
    """
    device, exact = find_device(flags.device), flags.precision == "full"
    half = not (flags.no_half or exact)
    if device.type == "cpu":
        low = half and cpu_computes_bf16()
        return replace(placement_on_cpu(torch.bfloat16 if low else FLOAT), exact=exact)
    if not half:
        return Placement(device, FLOAT, FLOAT, FLOAT, exact=exact)
    vae = FLOAT if flags.no_half_vae else torch.float16
    return Placement(device, torch.float16, torch.float16, vae, channels_last=flags.opt_channelslast)


def suited(base: Placement, flags: Flags, fp8_storage: str, family: str, capabilities: Capabilities) -> Placement:
    """`base` as a model of this family wants it: --medvram, --medvram-sdxl, --lowvram, the setting fp8_storage.

    A network that overflows in fp16 computes in bf16 where the device has it, else in fp32.
    """
    is_sdxl = family.startswith("sdxl")
    sharing: Sharing = "together"
    if base.device.type != "cpu":
        if flags.lowvram:
            sharing = "piecewise"
        elif flags.medvram or (flags.medvram_sdxl and is_sdxl):
            sharing = "in turn"
    fp8 = fp8_storage == "Enable" or (fp8_storage == "Enable for SDXL" and is_sdxl)
    unet = base.unet
    if unet == torch.float16 and not capabilities.fp16_safe:
        unet = torch.bfloat16 if computes_bf16(base.device) else FLOAT
    return replace(base, unet=unet, sharing=sharing, storage=torch.float8_e4m3fn if fp8 else None)


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware."""
    if device.type == "cpu":
        return cpu_computes_bf16()
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "xpu"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's (or Python's), or what it was raised from, says that memory ran out."""
    if error.__cause__ is not None and is_out_of_memory(error.__cause__):
        return True
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in said
        for words in ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")
    )


def free_bytes(device: torch.device) -> int:
    """What can be allocated there beside what is loaded.

    On a CUDA device with what torch holds back for tensors to come, and within the share that this process was given
    (`torch.cuda.set_per_process_memory_fraction`).
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        taken = torch.cuda.memory_allocated(device)
        held_back = torch.cuda.memory_reserved(device) - taken
        return int(min(free + held_back, total * torch.cuda.get_per_process_memory_fraction(device) - taken))
    if device.type == "xpu":
        return int(torch.xpu.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def total_bytes(device: torch.device) -> int:
    """All the memory of a CUDA device that this process may have."""
    return int(torch.cuda.mem_get_info(device)[1] * torch.cuda.get_per_process_memory_fraction(device))


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
