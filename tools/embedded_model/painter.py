"""Pictures from the exported file by Easel's own pipeline: its loader, prompt weighting, sampler and inpainting."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from PIL import Image
from typing_extensions import Self

from webui.core.flags import parse_flags
from webui.core.request import FromImage, GenerationRequest, Inpaint
from webui.jobs.context import JobContext
from webui.pipeline.engine import build
from webui.pipeline.generate import run
from webui.services.building import build_services

from .config import CFG_SCALE
from .motion import MOTION

SAMPLER, STEPS = "DPM++ 2M", 20
CONTROL = "easel-emoji-canny"


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


class Painter:
    """A worker of its own with one checkpoint. Leave it as a context, to clear its folder away."""

    def __init__(self, checkpoint: Path, side: int):
        self.side = side
        self._folder = tempfile.TemporaryDirectory(prefix="easel-evaluate-")
        device = [] if torch.cuda.is_available() else ["--device", "cpu"]
        given = ["--data-dir", self._folder.name, "--ckpt", str(checkpoint), "--no-half", "--precision", "full"]
        flags, _ = parse_flags([*given, *device], {})
        self.services = build_services(flags)
        self.engine = build(self.services)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.services.checkpoints.close()
        self._folder.cleanup()

    def paint(self, prompt: str, seed: int, count: int = 1, negative: str = "") -> np.ndarray:
        """Returns: (count, S, S, 3) uint8, of the seeds from `seed` on."""
        return self._made(self._request(prompt, seed, count, negative))

    def inpaint(self, picture: np.ndarray, mask: np.ndarray, prompt: str, seed: int) -> np.ndarray:
        """picture: (S, S, 3) uint8. mask: (S, S) uint8, 255 is painted anew. Returns: (S, S, 3) uint8."""
        inpaint = Inpaint(mask=png(mask), blur_x=0, blur_y=0)
        image = FromImage(images=(png(picture),), denoising_strength=0.9, inpaint=inpaint)
        return self._made(self._request(prompt, seed, 1, "", image))[0]

    def steer(self, picture: np.ndarray, prompt: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Follow the edges of a picture. Returns: what is made and the map, each (S, S, 3) uint8."""
        unit = {"enabled": True, "module": "canny", "model": CONTROL, "image": png(picture), "pixel_perfect": True}
        group = next(group for group in self.engine.host.params if group.__name__ == "ControlNet")
        request = self._request(prompt, seed, 1, "")
        made, edges = self._made(request.replace(extensions={group.__name__: group(units=[unit])}))
        return made, edges

    def animate(self, prompt: str, seed: int, frames: int) -> np.ndarray:
        """A clip by the embedded model's motion module. Returns: (frames, S, S, 3) uint8."""
        self.services.settings.update({"animatediff_model_path": str(MOTION.parent)})
        group = next(group for group in self.engine.host.params if group.__name__ == "AnimateDiff")
        asked = group(enable=True, model=MOTION.name, video_length=frames, batch_size=frames, format=("PNG",))
        return self._made(self._request(prompt, seed, 1, "").replace(extensions={group.__name__: asked}))

    def _request(
        self, prompt: str, seed: int, count: int, negative: str, image: FromImage | None = None
    ) -> GenerationRequest:
        return GenerationRequest(
            prompt=prompt, negative_prompt=negative, sampler=SAMPLER, steps=STEPS, cfg_scale=CFG_SCALE, seed=seed,
            width=self.side, height=self.side, batch_size=count, image=image, save_samples=False, save_grid=False,
        )  # fmt: skip

    def _made(self, request: GenerationRequest) -> np.ndarray:
        result = run(self.engine, self.engine.plan(request), JobContext.alone())
        made: Sequence[bytes] = [image.data for image in result.images]
        return np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in made])
