"""What a clip is asked: its parameters, what API clients send for them, and what a picture's text tells of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from webui.extensions.api import InvalidRequest, Params, param, picture

from .windows import LOOPS, REDUCED, Context

VIDEOS = ("GIF", "MP4", "WEBP", "WEBM")
PNG, TXT, FRAME = "PNG", "TXT", "Frame"
FORMATS = (*VIDEOS, PNG, TXT)
"""What the page offers. FRAME is for clients of the API that want frames beside videos."""
FILTERS = ("butterworth", "gaussian", "ideal", "box")
OWN, SHARED, MIXED, FREE_NOISE = NOISES = ("Of its own", "The same", "Half shared", "FreeNoise")
MOST_FRAMES = 1024
DEFAULT_MODEL = "mm_sd15_v3.safetensors"
NO_SPARSE = "None"
AS_TRAINED, AS_CHECKPOINT = NOISE_LEVELS = ("As the motion module was trained", "As the checkpoint")
AVERAGE, LAST_WINS = OVERLAPS = ("Average", "The last one wins")
KEY = "AnimateDiff"
FOUND = ("file", "sparse_file", "kept")
"""What no client may send: it is found when the job is submitted."""
PATHS = ("video_source", "video_path", "mask_path")
"""What no picture's text tells."""
UNUSED = {"prompt_scheduler", "video_default", "is_i2i_batch"}
"""What the original's own form sends about itself."""


class AnimateDiff(Params, title="AnimateDiff"):
    """The pictures of a batch become the frames of a clip, by a motion module in the U-Net."""

    forgiving: ClassVar[bool] = True

    model: str = param(DEFAULT_MODEL, label="Motion module", max_length=1000)
    format: tuple[str, ...] = param(("GIF", "PNG"), label="Save format", choices=FORMATS, kind="checkboxgroup")
    enable: bool = param(False, label="Enable AnimateDiff")
    video_length: int = param(0, label="Number of frames", ge=0, le=MOST_FRAMES)
    fps: int = param(8, label="FPS", ge=1, le=240)
    loop_number: int = param(0, label="Display loop number", ge=0, le=65_535)
    closed_loop: str = param(REDUCED, label="Closed loop", choices=LOOPS, kind="radio")
    batch_size: int = param(16, label="Context batch size", ge=1, le=128, slider=(1, 32, 1))
    stride: int = param(1, label="Stride", ge=1, le=16)
    overlap: int = param(-1, label="Overlap", ge=-1, le=128)
    interp: str = param("Off", label="Frame Interpolation", choices=("Off",), kind="radio")
    interp_x: int = param(10, label="Interp X", ge=1, le=100)
    freeinit_enable: bool = param(False, label="Enable FreeInit")
    freeinit_filter: str = param("butterworth", label="Filter", choices=FILTERS, kind="radio")
    freeinit_ds: float = param(0.25, label="d_s", ge=0, le=1, step=0.125)
    freeinit_dt: float = param(0.25, label="d_t", ge=0, le=1, step=0.125)
    freeinit_iters: int = param(3, label="FreeInit Iterations", ge=2, le=5, step=1)
    latent_power: float = param(1, label="Latent power", ge=0.1, le=10, step=0.1)
    latent_scale: float = param(32, label="Latent scale", ge=1, le=128, slider=(1, 128, 1))
    last_frame: bytes | None = picture(label="Optional last frame")
    latent_power_last: float = param(1, label="Optional latent power for last frame", ge=0.1, le=10, step=0.1)
    latent_scale_last: float = param(32, label="Optional latent scale for last frame", ge=1, le=128, slider=(1, 128, 1))
    request_id: str = param("", label="Request ID", max_length=100)
    noise: str = param(OWN, label="Noise of a frame", choices=NOISES)
    sparse_model: str = param(NO_SPARSE, label="SparseCtrl model", max_length=1000)
    sparse_pictures: tuple[bytes, ...] = picture(label="SparseCtrl key frames", several=True)
    sparse_frames: str = param("0", label="Frames of the SparseCtrl pictures", max_length=1000)
    sparse_weight: float = param(1.0, label="SparseCtrl weight", ge=0, le=2, step=0.05)
    video_path: str = param("", label="Video path", max_length=1000)
    mask_path: str = ""
    """A video or a folder of masks, for preprocessors of ControlNet that read one; clients of the API name it."""
    video_source: str = ""
    """A video that a client of the API sends: base64, or the path of a file in the data folder."""
    file: str = ""
    """Where the motion module lies; this and what follows is written when the job is submitted."""
    sparse_file: str = ""
    kept: bool = True
    """Whether files are to be written."""

    @classmethod
    def from_api(cls, args: list[Any] | dict[str, Any]) -> Mapping[str, Any]:
        """args: the values by name, or a list of that object alone, as the original takes them; [False] is off."""
        if isinstance(args, list):
            if args == [False]:
                return {"enable": False}
            if len(args) > 1 or not all(isinstance(item, dict) for item in args):
                raise InvalidRequest("The args of AnimateDiff must be a list of one object with its values.")
            args = args[0] if args else {}
        own = {*FOUND, *UNUSED}
        return {name: value for name, value in args.items() if value is not None and name not in own}

    @classmethod
    def default_args(cls) -> list[dict[str, Any]]:
        return [cls().model_dump(mode="json", exclude=set(FOUND))]

    @property
    def length(self) -> int:
        """How many frames are asked for."""
        return self.video_length or self.batch_size

    @property
    def frames(self) -> int:
        """How many frames are made: a context at least."""
        return max(self.length, self.batch_size)

    @property
    def context(self) -> Context:
        overlap = self.batch_size // 4 if self.overlap == -1 else self.overlap
        return Context(self.frames, self.batch_size, self.stride, overlap, self.closed_loop)

    @property
    def loops_prompts(self) -> bool:
        """Whether prompts go on from the last key to the first."""
        return self.closed_loop in ("R+P", "A") and not self.context.is_whole

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(name for name in VIDEOS if name in self.format)

    def require_sound(self) -> None:
        """Raises: InvalidRequest for values that are nothing, or don't go together."""
        for name, choices in (
            ("closed_loop", LOOPS), ("freeinit_filter", FILTERS), ("noise", NOISES), ("interp", ("Off",)),
        ):  # fmt: skip
            value = getattr(self, name)
            if value not in choices:
                raise InvalidRequest(f'AnimateDiff: {name} "{value}" is unknown; choose {_listed(choices)}.')
        for name in self.format:
            if name not in (*FORMATS, FRAME):
                raise InvalidRequest(f'AnimateDiff: the format "{name}" is unknown; choose among {_listed(FORMATS)}.')
        if not set(self.format) - {TXT, FRAME}:
            raise InvalidRequest("AnimateDiff has no format to save the clip in; choose GIF, MP4, WEBP, WEBM or PNG.")
        if self.context.overlap >= self.batch_size:
            raise InvalidRequest(
                f"AnimateDiff: an overlap of {self.context.overlap} frames is a whole context of {self.batch_size}; "
                "choose less, or -1 for a quarter."
            )

    @property
    def sparse_places(self) -> tuple[int, ...]:
        """The frames that SparseCtrl's pictures are for. Raises: InvalidRequest."""
        parts = [part.strip() for part in self.sparse_frames.split(",") if part.strip()]
        if not all(part.isdecimal() for part in parts):
            raise InvalidRequest(
                f'AnimateDiff: "{self.sparse_frames}" names no frames for SparseCtrl; write numbers, such as 0, 15.'
            )
        places = tuple(int(part) for part in parts)
        if len(places) != len(self.sparse_pictures) or len(set(places)) != len(places):
            raise InvalidRequest(
                f"AnimateDiff: SparseCtrl has {len(self.sparse_pictures)} pictures for {len(set(places))} frames; "
                "name one frame for each."
            )
        if any(place >= self.frames for place in places):
            raise InvalidRequest(
                f"AnimateDiff: SparseCtrl's frame {max(places)} lies beyond the clip, whose last is {self.frames - 1}."
            )
        return places

    def to_infotext(self, *, everything: bool = False) -> Mapping[str, object]:
        return {KEY: self.told()} if self.enable or everything else {}

    def told(self, digits: str | None = None, *, from_image: bool = False) -> str:
        """The value of the picture's text in the original's words. digits: the motion module's hash."""
        names = [
            *("model", "video_length", "fps", "loop_number", "closed_loop", "batch_size", "stride", "overlap"),
            *("interp", "interp_x", "freeinit_enable"),
        ]
        told: dict[str, object] = {name: getattr(self, name) for name in names}
        told |= {"video_length": self.length, "overlap": self.context.overlap}
        if self.request_id:
            told["request_id"] = self.request_id
        if digits:
            told["mm_hash"] = digits
        if from_image:
            told |= {name: getattr(self, name) for name in STARTS}
        if self.noise != OWN:
            told["noise"] = self.noise
        if self.sparse_model != NO_SPARSE:
            told |= {"sparse_model": self.sparse_model, "sparse_weight": self.sparse_weight}
            told["sparse_frames"] = self.sparse_frames.replace(",", ";")
        return ", ".join(f"{name}: {_plain(value)}" for name, value in told.items())

    @classmethod
    def from_infotext(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"enable": True, **_read(str(fields[KEY]))} if KEY in fields else {}

    @classmethod
    def reads_key(cls, key: str) -> bool:
        return key == KEY


STARTS = ("latent_power", "latent_scale", "latent_power_last", "latent_scale_last")


def _plain(value: object) -> str:
    """A value as the text of the field has it, whose parts end at commas."""
    return str(value).replace(",", ";")


def _listed(choices: Sequence[str]) -> str:
    return ", ".join(choices[:-1]) + " or " + choices[-1] if len(choices) > 1 else choices[0]


def _read(text: str) -> dict[str, Any]:
    """Values of `told`; what is none of ours, or can't be read, is left out."""
    values: dict[str, Any] = {}
    for name, told in re.findall(r"([a-z_]+): ([^,]*)", text):
        field = AnimateDiff.model_fields.get(name)
        if field is None or name in (*FOUND, *PATHS):
            continue
        told = told.strip()
        if isinstance(field.default, bool):
            values[name] = told == "True"
        elif isinstance(field.default, int | float):
            try:
                number = float(told)
            except ValueError:
                continue
            values[name] = int(number) if number.is_integer() else number
        elif isinstance(field.default, str):
            values[name] = told.replace(";", ",") if name == "sparse_frames" else told
    return values
