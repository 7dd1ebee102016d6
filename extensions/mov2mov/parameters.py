"""What a video is made with, beside the parameters of img2img."""

from __future__ import annotations

from typing import Literal, get_args

from webui.extensions.api import Params, param

ColourMatch = Literal["None", "First result", "Source frame"]
ColourMethod = Literal["LAB", "Histogram"]
FlowMethod = Literal["DIS Medium", "DIS Fine", "Farneback"]
SeedBehaviour = Literal["fixed", "increment", "ladder"]
ResizeMode = Literal["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)
"""In the order of img2img's numbers."""
MaskMode = Literal["Inpaint masked", "Inpaint not masked"]
MaskedContent = Literal["fill", "original", "latent noise", "latent nothing"]
MASKED_CONTENTS: tuple[MaskedContent, ...] = get_args(MaskedContent)
"""In the order of img2img's numbers."""
InpaintArea = Literal["Whole picture", "Only masked"]
SoundChoice = Literal["Keep", "None", "File"]
VideoFormat = Literal["mp4", "webm", "webp", "gif", "png"]
Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]  # fmt: skip


class Frames(Params, title="Frames"):
    """Which frames the film has."""

    keep_source_fps: bool = param(True, label="Keep source fps")
    movie_fps: float = param(30, label="Movie FPS", ge=1, le=240, slider=(10, 60, 1))
    max_frames: int = param(-1, label="Max frames", ge=-1, le=500_000, help="-1: all")
    start: float = param(0, label="Start (seconds)", ge=0, le=1_000_000)
    end: float = param(0, label="End (seconds)", ge=0, le=1_000_000, help="0: the video's end")
    every_nth: int = param(1, label="Every n-th frame", ge=1, le=1000, help="The frames between show the one before")
    legacy_skip: bool = param(
        False,
        label="Choose frames as sd-webui-mov2mov does",
        help="Every n-th frame with n = floor(source fps / Movie FPS); the film gets longer or shorter",
    )


class Temporal(Params, title="Temporal stability"):
    """What keeps the picture calm."""

    seed_behaviour: SeedBehaviour = param("fixed", label="Seed of each frame")
    previous_mix: float = param(
        0, label="Previous frame mix", ge=0, le=1, step=0.01, help="How much of the result before goes into each frame"
    )
    colour_match: ColourMatch = param("None", label="Match colours to")
    colour_method: ColourMethod = param("LAB", label="Colour matching by")
    deflicker: bool = param(False, label="Deflicker")
    deflicker_window: int = param(5, label="Deflicker window (frames)", ge=3, le=31, slider=(3, 31, 2))
    flow: FlowMethod = param("DIS Medium", label="Optical flow")
    reset_at_cuts: bool = param(True, label="Begin anew at scene cuts")


class Editor(Params, title="Movie Editor"):
    """Key frames: they alone are diffused, the frames between follow the movement of the video."""

    enable: bool = param(False, label="Enable")
    interval: int = param(2, label="Auto key frame interval", ge=0, le=100, step=1, help="0: none but those listed")
    at_cuts: bool = param(True, label="Key frames at scene cuts")


class Masks(Params, title="Mask video"):
    """Where each frame is painted anew, by the frame of the same number of another video."""

    blur: int = param(4, label="Mask blur", ge=0, le=1024, slider=(0, 64, 1))
    mode: MaskMode = param("Inpaint masked", label="Mask mode")
    content: MaskedContent = param("original", label="Masked content")
    area: InpaintArea = param("Whole picture", label="Inpaint area")
    video: str | None = None
    """White is painted anew; one frame is for all. The page has a place to load it."""


class Output(Params, title="Output"):
    """The film's file."""

    format: VideoFormat = param("mp4", label="Format")
    crf: int = param(17, label="Quality (crf, 0 is lossless)", ge=0, le=51, step=1)
    preset: Preset = param("medium", label="Encoder preset")
    loop: int = param(0, label="Loops of GIF and WebP (0: for ever)", ge=0, le=65_535)
    sound: SoundChoice = param("Keep", label="Sound")
    soundtrack: str | None = None
    """A file of sound, for "File"; the page has a place to load it."""


class Start(Params, title="Source"):
    """On the page: how a frame of the video becomes what img2img starts from."""

    resize_mode: ResizeMode = param("Just resize", label="Resize mode")
    denoising_strength: float = param(0.75, label="Denoising strength", ge=0, le=1, step=0.01)


class Size(Params, title="Resize by"):
    """The size of the film by that of the video, in place of width and height."""

    enable: bool = param(False, label="Resize by")
    scale: float = param(1, label="Scale", ge=0.05, le=4, step=0.05)


class Own(Params, title="mov2mov"):
    """What stands on the tab without an accordion around it."""

    noise_multiplier: float = param(1, label="Noise multiplier", ge=0, le=1.5, step=0.01)
    prompts: str = param(
        "",
        label="Prompts of frames",
        max_length=100_000,
        help="Lines such as 12: a text, added to the prompt from frame 12 of the film on, counted from 1",
    )
    resume: bool = param(True, label="Go on with an unfinished run of the same settings")


class Mov2Mov(Own, title="mov2mov"):
    """A film from a film: img2img on each frame."""

    size: Size = Size()
    frames: Frames = Frames()
    temporal: Temporal = Temporal()
    editor: Editor = Editor()
    masks: Masks = Masks()
    output: Output = Output()
