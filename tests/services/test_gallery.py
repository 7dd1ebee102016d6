"""The gallery's index, its search and its trash, over real files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.video.clips import numbered
from webui.core.errors import InvalidRequest, NotFound, Refused, WebuiError
from webui.services.gallery import PAGE, Gallery, Wish
from webui.services.gallery_index import GalleryIndex
from webui.video import write_video

Draw = Callable[..., Path]
OLD = 1_600_000_000


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


@pytest.fixture
def gallery(outputs: Path, tmp_path: Path) -> Gallery:
    return Gallery(GalleryIndex(outputs, tmp_path / "cache" / "gallery.sqlite"), tmp_path / "cache" / "thumbnails")


@pytest.fixture
def draw(outputs: Path) -> Draw:
    def save(
        path: str, prompt: str = "", model: str = "ink", when: float = OLD, size: tuple[int, int] = (16, 8)
    ) -> Path:
        file = outputs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        text = f"{prompt}\nSteps: 1, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 16x8, Model: {model}"
        image = Image.new("RGB", size, "red")
        if path.endswith(".png"):
            texts = PngInfo()
            if prompt:
                texts.add_text("parameters", text)
            image.save(file, pnginfo=texts)
        else:
            image.save(file, comment=text.encode())
        os.utime(file, (when, when))
        return file

    return save


def found(gallery: Gallery, **wish: object) -> list[str]:
    gallery.index.refresh()
    assert gallery.index.wait(60)
    return [file.path for file in gallery.page(Wish(**wish)).files]  # type: ignore[arg-type]


def test_outputs_are_found_by_prompt_and_by_what_made_them(gallery: Gallery, draw: Draw) -> None:
    draw("txt2img-images/2026/a.png", "a red fox <lora:fur:0.8>, snow", when=OLD + 3)
    draw("img2img-images/b.png", "a blue fox in snow", model="oil", when=OLD + 2)
    draw("txt2img-images/c.jpg", "a Käfer on a leaf", model="oil", when=OLD + 1)
    draw("extras-images/d.png")
    a, b, c, d = "txt2img-images/2026/a.png", "img2img-images/b.png", "txt2img-images/c.jpg", "extras-images/d.png"
    assert found(gallery) == [a, b, c, d]
    for search, expected in {
        "fox": [a, b],
        "FOX sno": [a, b],
        '"fox in snow"': [b],
        "fox -blue": [a],
        "käfer": [c],
        "kafer": [c],
        "d.png": [d],
        '"': [a, b, c, d],
        "Euler": [a, b, c],
        "NOT (": [],
        "fox OR leaf": [],
        "fur": [a],
    }.items():
        assert found(gallery, search=search) == expected, search
    assert found(gallery, model="oil") == [b, c]
    assert found(gallery, lora="fur") == [a]
    assert found(gallery, section="txt2img-images") == [a, c]
    assert found(gallery, since=OLD + 1, until=OLD + 3) == [b, c]
    assert found(gallery, kind="video") == []
    assert found(gallery, only={b, d}) == [b, d]
    assert gallery.choices() == {
        "models": ["ink", "oil"],
        "loras": ["fur"],
        "sections": ["extras-images", "img2img-images", "txt2img-images"],
    }
    assert gallery.choices({c}) == {"models": ["oil"], "loras": [], "sections": ["txt2img-images"]}


def test_what_comes_goes_and_changes_is_noticed_and_nothing_is_read_twice(
    gallery: Gallery, draw: Draw, outputs: Path
) -> None:
    for number in range(5):
        draw(f"txt2img-images/{number}.png", f"number {number}", when=OLD + number)
    draw("old_100%/x.png", "kept apart")
    draw("oldX100Y/x.png", "kept apart, too")
    gallery.index.scan()
    assert gallery.index.read == 7
    gallery.index.scan()
    assert gallery.index.read == 0
    (outputs / "txt2img-images" / "0.png").unlink()
    draw("txt2img-images/1.png", "another one", when=OLD + 9)
    draw("txt2img-images/deep/er/6.png", "number 6")
    gallery.index.scan()
    assert gallery.index.read == 2
    assert found(gallery, search="number") == [
        f"txt2img-images/{n}" for n in ("4.png", "3.png", "2.png", "deep/er/6.png")
    ]
    for folder in outputs.glob("old_*"):
        (folder / "x.png").unlink()
        folder.rmdir()
    assert found(gallery, search="apart") == ["oldX100Y/x.png"]


def test_unchanged_folders_are_not_listed_again(gallery: Gallery, draw: Draw, outputs: Path) -> None:
    for number in range(4):
        draw(f"{number}/a.png", "x")
    for folder in (outputs, *outputs.iterdir()):
        os.utime(folder, (OLD, OLD))
    assert gallery.index.scan() == 5
    assert gallery.index.scan() == 0
    draw("2/b.png", "x")
    assert gallery.index.scan() == 1


def test_a_hundred_thousand_files_are_paged_and_found(gallery: Gallery, outputs: Path) -> None:
    """Rows are put where the index keeps them. How long questions take is measured by `python -m bench page`."""
    with gallery.index.connected() as connection:
        rows = [(n, f"txt2img-images/{n}.png", "image", OLD * 10**9 + n, 1, f"model {n % 7}") for n in range(100_000)]
        connection.executemany(
            "INSERT INTO files (id, path, folder, section, kind, mtime, size, model, trashed) "
            "VALUES (?, ?, 'txt2img-images', 'txt2img-images', ?, ?, ?, ?, 0)",
            rows,
        )
        texts = [(n, f"{n}.png", f"a picture of thing{n % 1000}, number{n}") for n in range(100_000)]
        connection.executemany("INSERT INTO texts (rowid, name, infotext) VALUES (?, ?, ?)", texts)
    gallery.index.refresh = lambda: None  # type: ignore[method-assign]  # the files themselves aren't there
    first, last = gallery.page(Wish()), gallery.page(Wish(), 10**9)
    assert (first.total, first.pages, len(first.files)) == (100_000, 1000, PAGE)
    assert (first.files[0].id, last.files[-1].id) == (99_999, 0)
    assert gallery.page(Wish(search="thing7", model="model 0")).total > 0
    assert gallery.page(Wish(search='"number4711"')).files[0].id == 4711


def test_links_hidden_files_and_other_kinds_stay_out(
    gallery: Gallery, draw: Draw, outputs: Path, tmp_path: Path
) -> None:
    draw("a.png", "here")
    outside = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(outside)
    (outputs / "link.png").symlink_to(outside)
    (outputs / "folder").symlink_to(tmp_path)
    (outputs / ".hidden.png").write_bytes(outside.read_bytes())
    (outputs / "page.html").write_text("x")
    (outputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    assert sorted(found(gallery)) == ["a.png", "broken.png"]
    page = {file.path: file for file in gallery.page(Wish()).files}
    with pytest.raises(WebuiError):
        gallery.thumbnail(page["broken.png"])
    assert gallery.details(page["broken.png"])["infotext"] == ""
    (outputs / "a.png").unlink()
    (outputs / "a.png").symlink_to(outside)
    for asked in (gallery.file, gallery.thumbnail, gallery.details):
        with pytest.raises(NotFound):
            asked(page["a.png"])
    with pytest.raises(NotFound):
        gallery.known(10**6)
    with pytest.raises(NotFound):
        gallery.known(page["a.png"].id, only=set())


def test_videos_are_in_the_gallery_with_thumbnail_and_text(gallery: Gallery, outputs: Path) -> None:
    (outputs / "clips").mkdir()
    write_video(outputs / "clips" / "a.mp4", numbered(4), 8, infotext="a moving fox\nSteps: 1, Sampler: Euler, Seed: 1")
    gallery.index.scan()
    (file,) = gallery.page(Wish(kind="video")).files
    assert file.kind == "video"
    small = gallery.thumbnail(file)
    assert small.startswith(b"\xff\xd8")
    assert "a moving fox" in gallery.details(file)["infotext"]


def test_thumbnails_are_small_kept_and_made_anew_when_the_file_changes(
    gallery: Gallery, draw: Draw, tmp_path: Path
) -> None:
    draw("a.png", "x", size=(600, 300))
    found(gallery)
    (file,) = gallery.page(Wish()).files
    (tmp_path / "small.jpg").write_bytes(gallery.thumbnail(file))
    assert Image.open(tmp_path / "small.jpg").size == (256, 128)
    (kept,) = (tmp_path / "cache" / "thumbnails").rglob("*.jpg")
    kept.write_bytes(b"as kept")
    assert gallery.thumbnail(file) == b"as kept"
    draw("a.png", "y", size=(300, 600), when=OLD + 5)
    found(gallery)
    (tmp_path / "small.jpg").write_bytes(gallery.thumbnail(gallery.page(Wish()).files[0]))
    assert Image.open(tmp_path / "small.jpg").size == (128, 256)


def test_the_trash_gives_back_what_was_deleted(gallery: Gallery, draw: Draw, outputs: Path) -> None:
    path = draw("txt2img-images/2026/a.png", "a fox")
    path.with_suffix(".txt").write_text("a fox")
    draw("txt2img-images/b.png", "a bird", when=OLD - 1)
    content = path.read_bytes()
    assert len(found(gallery)) == 2
    gallery.delete([gallery.page(Wish(search="fox")).files[0]])
    assert not path.exists()
    assert not path.with_suffix(".txt").exists()
    assert found(gallery) == ["txt2img-images/b.png"]
    (trashed,) = gallery.page(Wish(trashed=True)).files
    assert trashed.section == "txt2img-images"
    assert (gallery.file(trashed).read_bytes(), trashed.trashed) == (content, True)
    with pytest.raises(InvalidRequest):
        gallery.delete([trashed])
    draw("txt2img-images/2026/a.png", "another one")
    with pytest.raises(Refused, match="another txt2img-images/2026/a"):
        gallery.restore([trashed])
    path.unlink()
    gallery.restore([trashed])
    assert (path.read_bytes(), path.with_suffix(".txt").read_text()) == (content, "a fox")
    assert found(gallery) == ["txt2img-images/2026/a.png", "txt2img-images/b.png"]
    assert found(gallery, trashed=True) == []
    gallery.delete(list(gallery.page(Wish()).files))
    assert found(gallery) == []
    assert gallery.empty_trash() == 2
    assert found(gallery, trashed=True) == []
    assert not (outputs / ".trash").exists()


def test_a_damaged_database_is_made_anew(gallery: Gallery, draw: Draw, outputs: Path, tmp_path: Path) -> None:
    draw("a.png", "x")
    found(gallery)
    database = tmp_path / "cache" / "gallery.sqlite"
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(b"nonsense" * 1000)
    again = Gallery(GalleryIndex(outputs, database), tmp_path / "thumbnails")
    assert found(again) == ["a.png"]
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert found(Gallery(GalleryIndex(outputs, database), tmp_path / "thumbnails")) == ["a.png"]
