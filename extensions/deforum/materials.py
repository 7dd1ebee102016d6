"""The pictures and videos that an animation names, found and brought to the frames' size."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from webui.extensions.api import InvalidRequest

from . import looper, masks
from .animation import Animation
from .run import Materials
from .settings import Settings
from .video import extract_frames

LARGEST = 200_000_000  # pixels


def needs_video(settings: Settings) -> bool:
    return (
        settings.animation_mode == "Video Input"
        or settings.hybrid_composite != "None"
        or settings.hybrid_motion != "None"
        or settings.color_coherence == "Video Input"
    )


def video_frames(settings: Settings, folder: Path) -> list[Path]:
    """The frames of the source video, taken apart into the folder."""
    return extract_frames(
        local_path(settings.video_init_path, "Video init path"),
        folder / "inputframes",
        settings.extract_nth_frame,
        settings.extract_from_frame,
        settings.extract_to_frame,
        settings.overwrite_extracted_frames,
    )


def collect(settings: Settings, animation: Animation, folder: Path, video: list[Path], depth: Any = None) -> Materials:
    """All that the frame loop needs. video: the source's frames, if it has any. Raises: InvalidRequest."""
    size = settings.width, settings.height

    def picture(place: str | Path, what: str) -> Any:
        return as_array(open_image(place, what), size)

    @lru_cache(maxsize=4)
    def frame_of_video(number: int) -> Any:
        return picture(video[min(number, len(video) - 1)], "Frame of the video")

    init = None
    if settings.use_init and settings.init_image:
        init = picture(settings.init_image, "Init image")
    elif video and is_hybrid(settings) and settings.hybrid_use_first_frame_as_init_image:
        init = frame_of_video(0)
    guides = {}
    if settings.use_looper:
        places = looper.guide_places(settings.init_images, animation.frames, animation.seed)
        guides = {frame: picture(place, "Guided image") for frame, place in places.items()}
    sample = None
    if settings.color_coherence == "Image":
        sample = picture(settings.color_coherence_image_path, "Color coherence image")
    source: Callable[[int], Any] | None = frame_of_video if video else None
    if source is not None and settings.hybrid_use_init_image and init is not None and is_hybrid(settings):
        source = lambda number: init  # noqa: E731
    find = _Masks(settings, folder, init)
    uses_mask = settings.use_mask or settings.use_mask_video
    return Materials(
        init=init,
        mask=_by_frame(find, animation, "mask_schedule") if uses_mask else None,
        noise_mask=_by_frame(find, animation, "noise_mask_schedule") if settings.use_noise_mask else None,
        video=source,
        guides=guides,
        color_sample=sample,
        depth=depth,
    )


def is_hybrid(settings: Settings) -> bool:
    """Whether a video is laid over the pictures or moves them."""
    return (
        settings.hybrid_generate_inputframes or settings.hybrid_composite != "None" or settings.hybrid_motion != "None"
    ) and settings.animation_mode in ("2D", "3D")


def local_path(place: str, what: str) -> Path:
    place = place.strip().strip('"')
    if place.lower().startswith(("http://", "https://")):
        raise InvalidRequest(f"{what}: {place} is an address. Save the file and give the path where it lies.")
    if not place:
        raise InvalidRequest(f"{what}: no file is named.")
    path = Path(place).expanduser()
    if "\0" in place or not path.is_file():
        raise InvalidRequest(f"{what}: there is no file {place!r:.200}.")
    return path


def open_image(place: str | Path, what: str) -> Any:
    """A picture from a path, or from the text of a data URL. Raises: InvalidRequest."""
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(place, str) and place.startswith("data:image/"):
            source: Any = io.BytesIO(base64.b64decode(place.partition(",")[2], validate=True))
        else:
            source = local_path(str(place), what)
        with Image.open(source) as image:
            if image.width * image.height > LARGEST:
                raise InvalidRequest(f"{what}: the picture has more than {LARGEST} pixels.")
            image.load()
            return image.copy()
    except (UnidentifiedImageError, OSError, ValueError, binascii.Error, Image.DecompressionBombError) as error:
        raise InvalidRequest(f"{what}: {str(place)[:200]} is no picture that can be read.") from error


def as_array(image: Any, size: tuple[int, int]) -> Any:
    """(H, W, 3) uint8 BGR."""
    import numpy as np
    from PIL import Image

    image = image.convert("RGB")
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(image)[..., ::-1])


def as_png(picture: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture[..., ::-1] if picture.ndim == 3 else picture).save(file, "png")
    return file.getvalue()


class _Masks:
    """The masks that formulas name, by frame."""

    def __init__(self, settings: Settings, folder: Path, init: Any) -> None:
        self.settings, self.folder, self.init = settings, folder, init
        self._frames: list[Path] = []
        if settings.use_mask_video:
            self._frames = extract_frames(
                local_path(settings.video_mask_path, "Video mask path"),
                folder / "maskframes",
                settings.extract_nth_frame,
                settings.extract_from_frame,
                settings.extract_to_frame,
                settings.overwrite_extracted_frames,
            )

    def gray(self, frame: int) -> Any:
        """(H, W) of 0 to 1: the mask of the settings at a frame."""
        settings = self.settings
        if self._frames:
            image = open_image(self._frames[min(frame, len(self._frames) - 1)], "Frame of the mask video")
        elif settings.use_alpha_as_mask:
            image = open_image(settings.init_image or "", "Init image, whose transparency is the mask")
        else:
            image = open_image(settings.mask_file, "Mask file")
        return masks.prepare(
            image,
            settings.width,
            settings.height,
            settings.invert_mask,
            settings.mask_contrast_adjust,
            settings.mask_brightness_adjust,
            settings.use_alpha_as_mask and not self._frames,
        )

    def named(self, name: str, frame: int) -> Any:
        import numpy as np
        from PIL import Image

        size = self.settings.width, self.settings.height
        if name in ("{video_mask}", "{init_mask}"):
            return self.gray(frame) >= 0.5
        if name == "{everywhere}":
            return np.ones((size[1], size[0]), dtype=bool)
        if name.startswith("["):
            image = open_image(name[1:-1], "Mask in a formula").convert("L").resize(size, Image.Resampling.NEAREST)
            return np.asarray(image) >= 128
        if name.startswith("<"):
            raise InvalidRequest(
                f"Masks by words, such as {name}, need CLIPSeg, which isn't part of Easel; use a file."
            )
        raise InvalidRequest(f"There is no mask {name}; there are {{video_mask}}, {{everywhere}} and [file.png].")


def _by_frame(find: _Masks, animation: Animation, key: str) -> Callable[[int], Any]:
    import numpy as np

    @lru_cache(maxsize=4)
    def mask(frame: int) -> Any:
        formula = animation.text(key, frame).strip()
        if formula in ("{video_mask}", "{init_mask}"):
            return find.gray(frame)
        return masks.compose(formula, lambda name: find.named(name, frame)).astype(np.float64)

    return mask
