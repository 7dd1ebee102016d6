"""Networks that enlarge or restore a picture, of every architecture that spandrel knows.

Files are read by our own safe readers; spandrel only sees tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from webui.core.errors import BadModelFile
from webui.models.devices import Placement, computes_bf16
from webui.models.weights import WeightsFile, open_weights

PREFIXES = ("module.", "netG.")
"""What training code put before every name."""


@dataclass
class ImageNetwork:
    """A network from picture to picture. scale: of each side. channels: 1 or 3.

    descriptor: spandrel's, on its device.
    """

    name: str
    scale: int
    channels: int
    descriptor: Any

    @property
    def bytes(self) -> int:
        return sum(weight.nbytes for weight in self.descriptor.model.parameters())

    def enlarge(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """pixels: (h, w, 3). Returns: (h * scale, w * scale, 3) in [0, 1]. Numbers that overflow in half precision are
        computed again in single precision, in which the network stays."""
        with torch.inference_mode():
            found = self._run(pixels)
            if self.descriptor.dtype != torch.float32 and not bool(torch.isfinite(found).all()):
                self.descriptor.float()
                found = self._run(pixels)
        result: NDArray[np.float32] = found.cpu().numpy()
        return result

    def _run(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Returns: (h * scale, w * scale, 3) in single precision."""
        given = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
        if self.channels == 1:
            given = given.mean(1, keepdim=True)
        found: Tensor = self.descriptor(given.to(self.descriptor.device, self.descriptor.dtype))
        return found.float().clamp(0, 1).expand(1, 3, *found.shape[2:])[0].permute(1, 2, 0)


def load_network(path: Path, placement: Placement) -> ImageNetwork:
    """The network in a file, on the device. Raises: BadModelFile for what spandrel doesn't know as such a network."""
    descriptor = load_descriptor(path)
    if type(descriptor).__name__ != "ImageModelDescriptor" or descriptor.input_channels not in (1, 3):
        raise BadModelFile(f"{path.name} is no network that enlarges pictures: {descriptor.architecture.name}.")
    descriptor.to(placement.device).to(fitting_dtype(descriptor, placement)).eval()
    return ImageNetwork(path.stem, descriptor.scale, descriptor.input_channels, descriptor)


def load_descriptor(path: Path) -> Any:
    """Spandrel's descriptor of the network in a file, in single precision on the CPU. Raises: BadModelFile."""
    from spandrel import ModelLoader, UnsupportedModelError  # type: ignore[import-untyped]

    file = open_weights(path)
    try:
        descriptor = ModelLoader(device="cpu").load_from_state_dict(state_dict(file))
    except UnsupportedModelError as error:
        raise BadModelFile(
            f"{path.name} is no network of a kind that is known here. It may be a checkpoint, or a newer upscaler."
        ) from error
    except (RuntimeError, KeyError, ValueError, AssertionError, TypeError) as error:
        raise BadModelFile(f"{path.name} can't be loaded: {str(error).splitlines()[0][:200]}.") from error
    descriptor.model.requires_grad_(False)
    return descriptor


def state_dict(file: WeightsFile) -> dict[str, Tensor]:
    """Every tensor in single precision, copied, without the prefixes of training code."""
    names = list(file.shapes)
    prefix = next((prefix for prefix in PREFIXES if names and all(name.startswith(prefix) for name in names)), "")
    return {name.removeprefix(prefix): _single(file.tensor(name)) for name in names}


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float32 else tensor.clone()


def fitting_dtype(descriptor: Any, placement: Placement) -> torch.dtype:
    """Half precision on graphics devices unless a flag forbids it or the network can't; on CPUs always single, since
    bf16 shows in pictures."""
    if placement.device.type == "cpu" or placement.unet == torch.float32:
        return torch.float32
    if descriptor.supports_half:
        return torch.float16
    return torch.bfloat16 if descriptor.supports_bfloat16 and computes_bf16(placement.device) else torch.float32
