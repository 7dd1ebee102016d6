"""Hashes computed in the background: one at a time, resting while jobs run, never unasked for thousands of files."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from webui.catalog.checkpoints import TOO_MANY, CheckpointCatalog
from webui.catalog.files import FileCatalog
from webui.catalog.hashes import HashCache
from webui.catalog.hashing import BackgroundHasher


def written(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number}.safetensors" for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_every_wanted_file_is_hashed_and_told(hashes: HashCache, tmp_path: Path) -> None:
    paths = written(tmp_path / "files", 5)
    told: dict[Path, str] = {}
    hasher = BackgroundHasher(hashes)
    hasher.want([*paths, tmp_path / "gone.safetensors"], done=told.__setitem__)
    assert hasher.wait(60)
    assert told == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    hasher.want([paths[0]], done=told.__setitem__)
    assert hasher.wait(60)
    hasher.close()


def test_it_rests_while_jobs_run(hashes: HashCache, tmp_path: Path) -> None:
    (path,) = written(tmp_path / "files", 1)
    busy, asked = threading.Event(), threading.Event()
    busy.set()

    def a_job_runs() -> bool:
        asked.set()
        return busy.is_set()

    hasher = BackgroundHasher(hashes)
    hasher.rest_while(a_job_runs)
    hasher.want([path])
    assert asked.wait(60)
    assert hashes.known(path) is None
    busy.clear()
    assert hasher.wait(60)
    assert hashes.known(path)
    hasher.close()


def test_closing_ends_a_rest_and_leaves_the_work(hashes: HashCache, tmp_path: Path) -> None:
    hasher = BackgroundHasher(hashes, rest_while=lambda: True)
    hasher.want(written(tmp_path / "files", 3))
    hasher.close()
    assert hasher.wait(0)
    hasher.want([tmp_path / "files" / "0.safetensors"])
    assert hashes.known(tmp_path / "files" / "0.safetensors") is None


def test_thousands_of_checkpoints_are_not_hashed_unasked(hashes: HashCache, tmp_path: Path) -> None:
    written(tmp_path / "files", TOO_MANY + 1)
    catalog = CheckpointCatalog([tmp_path / "files"], hashes)
    catalog.hash_in_background()
    assert catalog.hasher.wait(0)
    assert all(checkpoint.sha256 is None for checkpoint in catalog)
    assert catalog.hashed(catalog.find("7")).sha256
    catalog.close()


def test_many_remembered_hashes_are_read_at_once(hashes: HashCache, tmp_path: Path) -> None:
    paths = written(tmp_path / "files", 3)
    hashes.compute(paths[1])
    listed = FileCatalog([tmp_path / "files"], [".safetensors"])
    assert list(hashes.known_of(listed)) == [paths[1]]
    paths[1].write_bytes(b"another content")
    listed.refresh()
    assert hashes.known_of(listed) == {}
