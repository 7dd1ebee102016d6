from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from webui.core.batch import BatchPicture
from webui.core.errors import InvalidRequest, Refused
from webui.core.request import FromImage, GenerationRequest, Inpaint
from webui.core.stored import KeptFile
from webui.planning.batch import BatchPlan
from webui.services.batches import (
    MOST,
    BatchFolders,
    batch_of_files,
    batch_of_folder,
    pictures_below,
    submit_batch,
)
from webui.services.services import Services

REQUEST = GenerationRequest(image=FromImage(inpaint=Inpaint(mask=b"", blur_x=7)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures by name alone: nothing here opens them."""
    for name in ("b.PNG", "a.webp", "deep/c.jpg", "notes.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def test_pictures_are_found_in_all_folders_below(folder: Path) -> None:
    assert [path.relative_to(folder).as_posix() for path in pictures_below(folder)] == ["a.webp", "b.PNG", "deep/c.jpg"]


def test_a_batch_without_masks_inpaints_nothing(services: Services, folder: Path) -> None:
    batch = batch_of_folder(services, REQUEST, BatchFolders(input=f'  "{folder}" '), (), 2.0)
    assert batch.request.image is not None
    assert batch.request.image.inpaint is None
    assert [picture.path.name for picture in batch.pictures] == ["a.webp", "b.PNG", "c.jpg"]
    assert (batch.output, batch.scale, batch.shown) == (None, 2.0, 32)
    assert {picture.described_by for picture in batch.pictures} == {None}


def test_one_mask_is_for_all_and_several_go_by_name(services: Services, folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "a.png").touch()
    folders = BatchFolders(input=str(folder), masks=str(masks), output=str(tmp_path / "out"))
    batch = batch_of_folder(services, REQUEST, folders, (), None)
    assert {picture.mask for picture in batch.pictures} == {masks / "a.png"}
    assert batch.request == REQUEST
    assert batch.output == tmp_path / "out"
    (masks / "c.png").touch()
    batch = batch_of_folder(services, REQUEST, folders, (), None)
    assert [(p.path.stem, p.mask and p.mask.stem) for p in batch.pictures] == [("a", "a"), ("c", "c")]
    assert batch.comments == ("b.PNG has no mask and was left out.",)


def test_infotexts_come_from_the_pictures_or_from_others_of_their_names(
    services: Services, folder: Path, tmp_path: Path
) -> None:
    batch = batch_of_folder(services, REQUEST, BatchFolders(input=str(folder)), ["Seed"], None)
    assert [picture.described_by for picture in batch.pictures] == [picture.path for picture in batch.pictures]
    others = tmp_path / "others"
    others.mkdir()
    (others / "a.png").touch()
    folders = BatchFolders(input=str(folder), infotexts=str(others))
    batch = batch_of_folder(services, REQUEST, folders, ["Seed"], None)
    assert [picture.described_by for picture in batch.pictures] == [others / "a.png", None, None]


def test_uploaded_files_are_a_batch(services: Services, tmp_path: Path) -> None:
    services.settings.update({"img2img_batch_show_results_limit": 3})
    batch = batch_of_files(services, REQUEST, [tmp_path / "a.png"], ["Prompt"], None)
    path = tmp_path / "a.png"
    assert batch.pictures == (BatchPicture(path, described_by=path, upload=KeptFile(path)),)
    assert (batch.taken, batch.shown) == ({"Prompt"}, 3)
    with pytest.raises(InvalidRequest, match="upload some"):
        batch_of_files(services, REQUEST, [], (), None)


def test_uploads_may_go_while_the_job_waits(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"a picture")
    request = GenerationRequest(image=FromImage())
    submit_batch(services, batch_of_files(services, request, [path], ["Prompt"], None))
    path.unlink()
    services.jobs.tidy()
    job = services.jobs.take()
    assert job is not None
    plan = services.jobs.payload(job)
    assert isinstance(plan, BatchPlan)
    (picture,) = plan.batch.pictures
    assert picture.file.read_bytes() == b"a picture"
    assert picture.description == picture.file
    assert picture.path == path


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "Name the input"),
        ("missing", "There is no folder"),
        ("empty", "holds no pictures"),
        ("a\0b", "Name a folder"),
    ],
)
def test_a_useless_folder_is_told(services: Services, tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match=sentence):
        batch_of_folder(services, REQUEST, BatchFolders(input=name), (), None)


def test_a_whole_disk_is_not_searched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [f"{number}.txt" for number in range(MOST + 1)]
    monkeypatch.setattr(os, "walk", lambda top: iter([(str(top), [], many)]))
    with pytest.raises(InvalidRequest, match="more than"):
        pictures_below(folder)


def test_strangers_name_no_folders(services: Services, folder: Path) -> None:
    asked = BatchFolders(input=str(folder))
    hidden = replace(services, flags=replace(services.flags, hide_ui_dir_config=True))
    with pytest.raises(Refused, match="hide-ui-dir-config"):
        batch_of_folder(hidden, REQUEST, asked, (), None)
    public = replace(services, flags=replace(services.flags, listen=True))
    with pytest.raises(Refused, match="without a login"):
        batch_of_folder(public, REQUEST, asked, (), None)
    allowed = replace(services, flags=replace(public.flags, gradio_allowed_path=(folder.parent,)))
    assert len(batch_of_folder(allowed, REQUEST, asked, (), None).pictures) == 3
    known = replace(services, flags=replace(public.flags, credentials=(("me", "secret"),)))
    assert len(batch_of_folder(known, REQUEST, asked, (), None).pictures) == 3
