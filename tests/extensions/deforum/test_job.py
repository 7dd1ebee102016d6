"""The job and its API on a real server: life cycle, files, faults, resuming, and the tab in a browser."""

from __future__ import annotations

import json
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from extensions.deforum.video import film_gap
from tests.running import Server
from tests.tiny import tiny_checkpoint

SMALL = {"W": 64, "H": 64, "steps": 2, "seed": 5, "max_frames": 5, "legacy_colormatch": False, "diffusion_cadence": 2,
         "prompts": {"0": "a cat --neg dog"}, "batch_name": "t_{timestring}"}  # fmt: skip


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("deforum")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0


def submit(easel: Server, *several: dict[str, Any], status: int = 202, **overrides: Any) -> Any:
    body = {"deforum_settings": list(several) if len(several) != 1 else several[0], "options_overrides": overrides}
    answer = httpx.post(f"{easel.url}/deforum_api/batches", json=body, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def job_of(easel: Server, job_id: str, until: tuple[str, ...] = ("SUCCEEDED", "FAILED", "CANCELLED")) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        found: dict[str, Any] = httpx.get(f"{easel.url}/deforum_api/jobs/{job_id}", timeout=60).json()
        if found["status"] in until:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def ten_silent_seconds(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.zeros(80_000, dtype=np.int16).tobytes())
    return path


def frames_of(found: dict[str, Any]) -> list[np.ndarray]:
    paths = sorted(Path(found["outdir"]).glob(f"{found['timestring']}_" + "[0-9]" * 9 + ".png"))
    return [np.asarray(Image.open(path)) for path in paths]


def test_a_batch_from_beginning_to_end(easel: Server) -> None:
    accepted = submit(easel, SMALL, {**SMALL, "max_frames": 1, "make_gif": True})
    assert accepted["batch_id"].startswith("batch(")
    assert accepted["job_ids"] == [f"{accepted['batch_id']}-0", f"{accepted['batch_id']}-1"]
    first, second = (job_of(easel, job_id) for job_id in accepted["job_ids"])
    assert (first["status"], first["phase"], first["error_type"], first["phase_progress"]) == (
        "SUCCEEDED", "DONE", "NONE", 1,
    )  # fmt: skip
    assert first["timestring"] != second["timestring"]
    assert first["outdir"] == str(easel.data / "outputs" / "img2img-images" / f"t_{first['timestring']}")
    frames = frames_of(first)
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 5
    assert first["deforum_settings"]["seed"] == 5
    with av.open(str(Path(first["outdir"]) / f"{first['timestring']}.mp4")) as video:
        assert len(list(video.decode(video=0))) == 5
        assert video.streams.video[0].average_rate == 15
    assert (Path(second["outdir"]) / f"{second['timestring']}.gif").is_file()
    assert set(accepted["job_ids"]) <= set(httpx.get(f"{easel.url}/deforum_api/jobs").json())
    assert httpx.get(f"{easel.url}/deforum_api/batches").json()[accepted["batch_id"]] == accepted["job_ids"]
    (one, two) = httpx.get(f"{easel.url}/deforum_api/batches/{accepted['batch_id']}").json()
    assert (one["id"], two["id"]) == tuple(accepted["job_ids"])
    assert httpx.delete(f"{easel.url}/deforum_api/jobs/{one['id']}").status_code == 400

    again = job_of(easel, submit(easel, SMALL)["job_ids"][0])
    assert all((ours == theirs).all() for ours, theirs in zip(frames_of(again), frames, strict=True))


def test_a_stopped_animation_is_resumed_as_if_it_had_not_been(easel: Server) -> None:
    long = {**SMALL, "max_frames": 12, "batch_name": "long", "diffusion_cadence": 3}
    whole = frames_of(job_of(easel, submit(easel, {**long, "batch_name": "whole"})["job_ids"][0]))
    (job_id,) = submit(easel, long)["job_ids"]
    folder = easel.data / "outputs" / "img2img-images" / "long"
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*0.png"))) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    httpx.delete(f"{easel.url}/deforum_api/jobs/{job_id}")
    stopped = job_of(easel, job_id)
    before = frames_of(stopped)
    assert 1 <= len(before) <= 12
    resumed = job_of(
        easel,
        submit(easel, {**long, "resume_from_timestring": True, "resume_timestring": stopped["timestring"]})["job_ids"][
            0
        ],
    )
    assert resumed["status"] == "SUCCEEDED"
    assert resumed["outdir"] == stopped["outdir"]
    assert all((ours == theirs).all() for ours, theirs in zip(frames_of(resumed), whole, strict=True))


def test_a_killed_server_goes_on_with_the_animation(easel: Server) -> None:
    long = {**SMALL, "max_frames": 10, "diffusion_cadence": 1}
    whole = frames_of(job_of(easel, submit(easel, long)["job_ids"][0]))
    (job_id,) = submit(easel, {**long, "batch_name": "killed"})["job_ids"]
    folder = easel.data / "outputs" / "img2img-images" / "killed"
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*_00000000?.png"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert easel.process is not None
    easel.process.kill()
    easel.process.wait(60)
    first_written = {path: path.stat().st_mtime_ns for path in folder.glob("*_000000000.png")}
    easel.start()
    found = job_of(easel, job_id)
    assert found["status"] == "SUCCEEDED"
    assert all((ours == theirs).all() for ours, theirs in zip(frames_of(found), whole, strict=True))
    assert all(path.stat().st_mtime_ns == written for path, written in first_written.items())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"angle": "0:(nope)"}, "angle"),
        ({"prompts": {"0": "`1/t`"}}, "frame 0"),
        ({"animation_mode": "5D"}, "animation_mode"),
        ({"resume_from_timestring": True, "resume_timestring": "20200101000000"}, "20200101000000"),
    ],
)
def test_mistakes_are_told_at_once(easel: Server, wrong: dict[str, Any], said: str) -> None:
    before = httpx.get(f"{easel.url}/deforum_api/jobs").json()
    answer = submit(easel, SMALL, {**SMALL, **wrong}, status=422)
    assert said in json.dumps(answer)
    assert httpx.get(f"{easel.url}/deforum_api/jobs").json().keys() == before.keys()


def test_mistakes_that_only_the_job_can_find(easel: Server) -> None:
    wrong = {**SMALL, "use_init": True, "init_image": "/no/such/file.png"}
    found = job_of(easel, submit(easel, wrong)["job_ids"][0])
    assert (found["status"], found["error_type"]) == ("FAILED", "TERMINAL")
    assert "/no/such/file.png" in found["message"]
    assert "Traceback" not in found["message"]


def test_what_is_not_there(easel: Server) -> None:
    for place in ("jobs/batch(1)-0", "jobs/x", "batches/batch(1)"):
        assert httpx.get(f"{easel.url}/deforum_api/{place}").status_code == 404
        assert httpx.delete(f"{easel.url}/deforum_api/{place}").status_code == 404
    for body in (
        {},
        {"deforum_settings": []},
        {"deforum_settings": 5},
        {"deforum_settings": SMALL, "options_overrides": 3},
    ):
        assert httpx.post(f"{easel.url}/deforum_api/batches", json=body).status_code == 422


def test_sound_and_a_missing_sound(easel: Server, tmp_path: Path) -> None:
    preview = {**SMALL, "motion_preview_mode": True, "max_frames": 30, "add_soundtrack": "File"}
    sound = ten_silent_seconds(tmp_path / "tone.wav")
    found = job_of(easel, submit(easel, {**preview, "soundtrack_path": str(sound)})["job_ids"][0])
    with av.open(str(Path(found["outdir"]) / f"{found['timestring']}.mp4")) as video:
        assert video.streams.audio
        assert float(video.duration or 0) / av.time_base == pytest.approx(2, abs=0.3)
    found = job_of(easel, submit(easel, {**preview, "soundtrack_path": "/none.wav"})["job_ids"][0])
    assert found["status"] == "SUCCEEDED"
    assert "/none.wav" in found["message"]
    assert len(frames_of(found)) == 30


def test_slow_motion_has_frames_between(easel: Server) -> None:
    given = {**SMALL, "motion_preview_mode": True, "frame_interpolation_engine": "FILM",
             "frame_interpolation_x_amount": 3, "frame_interpolation_slow_mo_enabled": True,
             "frame_interpolation_slow_mo_amount": 2}  # fmt: skip
    found = job_of(easel, submit(easel, given)["job_ids"][0])
    assert "optical flow" in found["message"]
    with av.open(str(Path(found["outdir"]) / f"{found['timestring']}_flow_x3.mp4")) as video:
        assert len(list(video.decode(video=0))) == 13
        assert video.streams.video[0].average_rate == pytest.approx(22.5)


def test_frames_between_keep_sound_and_duration_and_may_be_kept(easel: Server, tmp_path: Path) -> None:
    sound = ten_silent_seconds(tmp_path / "tone.wav")
    given = {**SMALL, "max_frames": 15, "motion_preview_mode": True, "add_soundtrack": "File",
             "soundtrack_path": str(sound), "frame_interpolation_engine": "Optical flow",
             "frame_interpolation_x_amount": 4, "frame_interpolation_keep_imgs": True}  # fmt: skip
    found = job_of(easel, submit(easel, given)["job_ids"][0])
    base = Path(found["outdir"]) / f"{found['timestring']}_flow_x4"
    kept = sorted(base.glob("*.png"))
    assert [path.name for path in kept] == [f"{number:09}.png" for number in range(60)]
    frames = frames_of(found)
    assert all((np.asarray(Image.open(kept[4 * number])) == frame).all() for number, frame in enumerate(frames))
    with av.open(f"{base}.mp4") as video:
        assert video.streams.video[0].average_rate == 60
        assert len(list(video.decode(video=0))) == 60
        assert float(video.duration or 0) / av.time_base == pytest.approx(1, abs=0.1)
        assert video.streams.audio


@pytest.mark.parametrize(("frames", "factor", "gap"), [(2, 2, 2), (3, 3, 3), (5, 3, 2), (120, 10, 9), (1, 4, 0)])
def test_how_many_frames_film_puts_into_a_gap(frames: int, factor: int, gap: int) -> None:
    assert film_gap(frames, factor) == gap


def test_a_video_rules_the_number_of_frames(easel: Server, parity: Path) -> None:
    clip = str(parity / "deforum" / "inputs" / "clip.mp4")
    given = {**SMALL, "animation_mode": "Video Input", "video_init_path": clip, "max_frames": 99,
             "extract_nth_frame": 2, "motion_preview_mode": True}  # fmt: skip
    found = job_of(easel, submit(easel, given)["job_ids"][0])
    assert len(frames_of(found)) == 4
    assert found["deforum_settings"]["max_frames"] == 4
    assert len(list((Path(found["outdir"]) / "inputframes").glob("clip00000000[0-3].jpg"))) == 4


PREVIEW = {**SMALL, "motion_preview_mode": True}


def test_everything_that_is_made_of_the_frames(easel: Server) -> None:
    given = {**PREVIEW, "make_gif": True, "r_upscale_video": True, "r_upscale_model": "Lanczos",
             "r_upscale_factor": "x3", "frame_interpolation_engine": "RIFE v4.6",
             "frame_interpolation_use_upscaled": True}  # fmt: skip
    found = job_of(easel, submit(easel, given, deforum_save_gen_info_as_srt=True)["job_ids"][0])
    assert found["status"] == "SUCCEEDED", found["message"]
    base = Path(found["outdir"]) / found["timestring"]
    sizes = {}
    for ending in (".mp4", "_upscaled.mp4", "_flow_x2.mp4"):
        with av.open(f"{base}{ending}") as video:
            frames = list(video.decode(video=0))
            sizes[ending] = (len(frames), frames[0].width)
    assert sizes == {".mp4": (5, 64), "_upscaled.mp4": (5, 192), "_flow_x2.mp4": (9, 192)}
    assert len(list(Path(f"{base}_upscaled").glob("*.png"))) == 5
    with Image.open(f"{base}.gif") as gif:
        assert gif.n_frames >= 1
    assert "seed: 5" in Path(f"{base}.srt").read_text()
    with av.open(f"{base}.mp4") as video:
        assert any("Negative prompt: dog" in text for text in video.metadata.values())


def test_an_upscaler_without_weights_leaves_the_rest(easel: Server) -> None:
    found = job_of(easel, submit(easel, {**PREVIEW, "r_upscale_video": True})["job_ids"][0])
    assert found["status"] == "SUCCEEDED"
    assert "R-ESRGAN AnimeVideo" in found["message"]
    assert Path(found["outdir"], f"{found['timestring']}.mp4").is_file()


def test_a_parseq_manifest(easel: Server) -> None:
    rows = [{"frame": number, "deforum_prompt": f"cat {number}", "angle_delta": 1.5} for number in range(3)]
    manifest = json.dumps({"options": {"output_fps": 9}, "rendered_frames": rows})
    found = job_of(easel, submit(easel, {**PREVIEW, "parseq_manifest": manifest})["job_ids"][0])
    assert len(frames_of(found)) == 3
    assert found["deforum_settings"]["fps"] == 9
    answer = submit(easel, {**PREVIEW, "parseq_manifest": '{"rendered_frames": []}'}, status=422)
    assert "Parseq" in json.dumps(answer)


def test_a_video_that_cannot_be_read_is_one_sentence(easel: Server, tmp_path: Path) -> None:
    for name, content in (("text.mp4", b"no video at all"), ("cut.mp4", b"\0\0\0 ftypisom" + bytes(2000))):
        (tmp_path / name).write_bytes(content)
        wrong = {**PREVIEW, "animation_mode": "Video Input", "video_init_path": str(tmp_path / name)}
        found = job_of(easel, submit(easel, wrong)["job_ids"][0])
        assert (found["status"], found["error_type"]) == ("FAILED", "TERMINAL")
        assert name in found["message"]
        assert "\n" not in found["message"]
        assert "Traceback" not in found["message"]


def test_frames_that_cannot_be_saved_are_told_and_made_later(easel: Server) -> None:
    """A folder stands where the third frame belongs; once it is gone, the animation is resumed."""
    given = {**PREVIEW, "batch_name": "blocked", "diffusion_cadence": 1, "max_frames": 6}
    whole = frames_of(job_of(easel, submit(easel, {**given, "batch_name": "unblocked"})["job_ids"][0]))
    first = job_of(easel, submit(easel, {**given, "max_frames": 2})["job_ids"][0])
    folder, stamp = Path(first["outdir"]), first["timestring"]
    blocked = folder / f"{stamp}_000000003.png"
    blocked.mkdir()
    again = {**given, "resume_from_timestring": True, "resume_timestring": stamp}
    found = job_of(easel, submit(easel, again)["job_ids"][0])
    assert found["status"] == "FAILED"
    assert f"{stamp}_000000003.png can't be saved" in found["message"]
    assert (folder / f"{stamp}_000000002.png").is_file()
    blocked.rmdir()
    found = job_of(easel, submit(easel, again)["job_ids"][0])
    assert found["status"] == "SUCCEEDED"
    assert all((ours == theirs).all() for ours, theirs in zip(frames_of(found), whole, strict=True))
