"""ControlNet in a clip: each frame follows its own picture, of a video, a folder, a gallery or img2img's."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from tests.extensions.animatediff.conftest import Clips
from tests.extensions.animatediff.motion_files import adapter, tensors_of
from tests.extensions.controlnet.nets import control_shapes, random_weights, t2i_shapes, union_shapes, write
from tests.extensions.controlnet.workbench import picture
from tools.random_checkpoint import TINY_SIZES
from webui.core.errors import InvalidRequest
from webui.core.request import FromImage, GenerationRequest, GenerationResult
from webui.services.services import Services

torch = pytest.importorskip("torch")

FRAMES = 4
AS_CHECKPOINT = {"animatediff_noise_levels": "As the checkpoint"}


@pytest.fixture(scope="module", autouse=True)
def nets(services: Services) -> None:
    """Control models, and a motion module that adds nothing: its frames are the pictures of a batch."""
    folder, layout = services.paths.models / "ControlNet", TINY_SIZES["sd1"]
    folder.mkdir(exist_ok=True)
    write(folder / "net.safetensors", random_weights(control_shapes(layout)))
    write(folder / "union.safetensors", random_weights(union_shapes(layout, 6)))
    write(folder / "t2i.safetensors", random_weights(t2i_shapes(layout)))
    still = tensors_of(adapter("AnimateDiff v3"), "AnimateDiff v3", "original")
    still = {name: value * ("proj_out" not in name) for name, value in still.items()}
    save_file(still, services.paths.models / "AnimateDiff" / "still.safetensors")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A folder of six pictures."""
    folder = tmp_path / "film"
    folder.mkdir()
    for number in range(6):
        picture(number).save(folder / f"{number}.png")
    return folder


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def asked(clips: Clips, units: Sequence[dict[str, Any]], clip: dict[str, Any], **more: Any) -> GenerationRequest:
    request = clips.request({"model": "still", "video_length": FRAMES, **clip}, AS_CHECKPOINT, **more)
    group = next(group for group in clips.engine.host.params if group.__name__ == "ControlNet")
    given = [{"enabled": True, "module": "none", "model": "net", "save_detected_map": False, **unit} for unit in units]
    return request.replace(extensions={**request.extensions, "ControlNet": group.as_given(**group.from_api(given))})


def pixels(result: GenerationResult) -> list[np.ndarray]:
    return [np.asarray(made, np.int16) for made in result.pictures]


def singles(clips: Clips, units: Sequence[dict[str, Any]], **more: Any) -> list[np.ndarray]:
    """Pictures made alone, of seeds that count up as a clip's, each with its own unit."""
    made = []
    images = more.pop("images", [None] * len(units))
    for number, (unit, image) in enumerate(zip(units, images, strict=True)):
        start = None if image is None else FromImage(images=(image,), denoising_strength=0.8)
        request = asked(clips, [unit], {"enable": False}, seed=5 + number, image=start, **more)
        made += pixels(clips.made_of(request))
    return made


def alike(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> None:
    assert len(found) == len(wanted)
    for made, alone in zip(found, wanted, strict=True):
        assert np.abs(made - alone).max() <= 1


@pytest.fixture(scope="module")
def alone(clips: Clips) -> list[np.ndarray]:
    """What the film's frames steer, each made by itself."""
    return singles(clips, [shown(number) for number in range(6)])


def shown(number: int, **unit: Any) -> dict[str, Any]:
    return {**unit, "image": png(picture(number))}


@pytest.mark.parametrize(("model", "more"), [("t2i", {}), ("union", {"union_control_type": "Depth"})])
def test_every_frame_follows_its_frame_of_the_video(clips: Clips, film: Path, model: str, more: dict[str, Any]) -> None:
    unit = {"model": model, **more}
    made = pixels(clips.made_of(asked(clips, [unit], {"video_path": str(film)})))
    alike(made, singles(clips, [shown(number, **unit) for number in range(FRAMES)]))
    assert np.abs(made[0] - singles(clips, [shown(1, **unit)])[0]).max() > 1, "the map makes no difference"


def test_contexts_of_a_long_clip_see_their_own_frames(clips: Clips, film: Path, alone: list[np.ndarray]) -> None:
    clip = {"video_path": str(film), "video_length": 6, "batch_size": 4, "overlap": 2, "closed_loop": "N"}
    alike(pixels(clips.made_of(asked(clips, [{}], clip))), alone)


def test_a_clip_without_a_length_is_as_long_as_the_video(clips: Clips, film: Path) -> None:
    made = clips.made_of(asked(clips, [{}], {"video_path": str(film), "video_length": 0, "batch_size": 16}))
    assert len(made.pictures) == 6
    assert "video_length: 6" in made.images[0].infotext
    shorter = {"input_mode": "batch", "images": [png(picture(number)) for number in range(3)]}
    made = clips.made_of(asked(clips, [{}, shorter], {"video_path": str(film), "video_length": 0, "batch_size": 16}))
    assert len(made.pictures) == 3


def test_a_unit_s_own_pictures_come_before_the_video(clips: Clips, film: Path, alone: list[np.ndarray]) -> None:
    """A gallery and a folder give one for each frame, a single picture is for all."""
    pictures = [png(picture(number)) for number in range(FRAMES)]
    gallery = {"input_mode": "batch", "images": pictures}
    other = film.with_name("other")
    other.mkdir()
    for number in range(FRAMES):
        picture(20 + number).save(other / f"{number}.png")
    alike(pixels(clips.made_of(asked(clips, [gallery], {"video_path": str(other)}))), alone[:FRAMES])
    folder = {"input_mode": "batch", "batch_dir": str(film)}
    alike(pixels(clips.made_of(asked(clips, [folder], {"video_path": str(other)}))), alone[:FRAMES])
    one = clips.made_of(asked(clips, [shown(0)], {"video_path": str(film)}))
    alike(pixels(one), [alone[0], *singles(clips, [shown(0)] * FRAMES)[1:]])
    assert any("the control video has no effect" in comment for comment in one.comments)


def test_frames_of_img2img_are_each_unit_s_pictures(clips: Clips) -> None:
    starts = [png(picture(number)) for number in range(FRAMES)]
    image = FromImage(images=tuple(starts), denoising_strength=0.8)
    made = pixels(clips.made_of(asked(clips, [{}], {}, image=image)))
    alike(made, singles(clips, [{}] * FRAMES, images=starts))


def test_masks_go_frame_by_frame_with_the_video(clips: Clips, film: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(FRAMES):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, 8 * number : 8 * number + 24] = 255
        Image.fromarray(mask).save(masks / f"{number}.png")
    unit = {"module": "inpaint_global_harmonious"}
    made = clips.made_of(asked(clips, [unit], {"video_path": str(film), "mask_path": str(masks)}))
    units = [shown(number, **unit, mask=(masks / f"{number}.png").read_bytes()) for number in range(FRAMES)]
    alike(pixels(made), singles(clips, units))
    unread = clips.made_of(asked(clips, [{}], {"video_path": str(film), "mask_path": str(masks)}))
    assert any("the masks have no effect" in comment for comment in unread.comments)


def test_a_client_may_send_the_video(clips: Clips, film: Path, alone: list[np.ndarray]) -> None:
    frames = [Image.open(path) for path in sorted(film.iterdir())]
    data = io.BytesIO()
    frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    source = base64.b64encode(data.getvalue()).decode()
    made = clips.made_of(asked(clips, [{}], {"video_source": source}))
    alike(pixels(made), alone[:FRAMES])
    request = clips.engine.host.revise_request(asked(clips, [{}], {"video_source": source}))
    assert request.extensions["AnimateDiff"].video_source == "", "the whole video would be kept with the job"


@pytest.mark.parametrize(
    ("unit", "clip", "sentence"),
    [
        ({}, {"video_length": 9}, "enough for 6 frames, the clip has 9"),
        ({}, {"video_path": "nowhere"}, "isn't there; name a video or a folder"),
        ({"module": "reference_only", "model": "None"}, {}, "only ControlNets and T2I-Adapters follow a video"),
        ({"module": "tile_colorfix"}, {}, "give this unit a picture of its own"),
        ({"input_mode": "batch"}, {"video_path": ""}, "has no pictures under Batch"),
    ],
)
def test_what_no_clip_can_follow_is_one_sentence(
    clips: Clips, film: Path, unit: dict[str, Any], clip: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        clips.made_of(asked(clips, [unit], {"video_path": str(film), **clip}))
