"""Reading, writing and smoothing videos; FFmpeg is PyAV's, optical flow OpenCV's."""

from webui.video.colours import ColourMatch, brightness, deflickered, match_colours
from webui.video.flow import (
    FLOW_METHODS,
    FlowMethod,
    carried,
    consistent,
    flicker,
    in_between,
    in_betweens,
    interpolated,
    is_cut,
    optical_flow,
    pull,
    scene_cuts,
)
from webui.video.rates import as_rate, resampled, resampled_by_time
from webui.video.reading import Budget, Frame, Picture, Video, open_video, read_texts, resized
from webui.video.sound import Sound, sound_of
from webui.video.writing import (
    MIME,
    PRESETS,
    VIDEO_FORMATS,
    Encoding,
    VideoFormat,
    WrittenVideo,
    require_writable,
    write_video,
)

__all__ = [
    "FLOW_METHODS",
    "MIME",
    "PRESETS",
    "VIDEO_FORMATS",
    "Budget",
    "ColourMatch",
    "Encoding",
    "FlowMethod",
    "Frame",
    "Picture",
    "Sound",
    "Video",
    "VideoFormat",
    "WrittenVideo",
    "as_rate",
    "brightness",
    "carried",
    "consistent",
    "deflickered",
    "flicker",
    "in_between",
    "in_betweens",
    "interpolated",
    "is_cut",
    "match_colours",
    "open_video",
    "optical_flow",
    "pull",
    "read_texts",
    "require_writable",
    "resampled",
    "resampled_by_time",
    "resized",
    "scene_cuts",
    "sound_of",
    "write_video",
]
