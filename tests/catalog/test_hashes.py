"""Hashes: right, remembered, forgotten when the file changes, and safe against a broken cache."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.catalog.test_safetensors_header import F32, write
from webui.catalog.hashes import HashCache


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[HashCache]:
    with HashCache(tmp_path / "cache" / "hashes.sqlite") as cache:
        yield cache


def test_sha256_is_computed_once_and_kept_on_disk(cache: HashCache, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights" * 1_000_000)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert cache.known(path) is None
    assert cache.compute(path) == expected
    with HashCache(tmp_path / "cache" / "hashes.sqlite") as again:
        assert again.known(path) == expected


def test_a_changed_file_is_hashed_again(cache: HashCache, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    old = cache.compute(path)
    path.write_bytes(b"new")
    os.utime(path, ns=(1, 1))
    assert cache.known(path) is None
    assert cache.compute(path) == hashlib.sha256(b"new").hexdigest() != old


def test_legacy_hash_covers_64_kib_at_1_mib(cache: HashCache, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(0x100000) + b"a" * 0x10000 + b"rest")
    assert cache.compute(path, "legacy") == hashlib.sha256(b"a" * 0x10000).hexdigest()[:8]


def test_addnet_hash_covers_what_follows_the_header(cache: HashCache, tmp_path: Path) -> None:
    one = write(tmp_path / "one.safetensors", {"x": F32}, b"12345678")
    two = write(tmp_path / "two.safetensors", {"__metadata__": {"note": "edited"}, "x": F32}, b"12345678")
    assert cache.compute(one, "addnet") == cache.compute(two, "addnet") == hashlib.sha256(b"12345678").hexdigest()
    assert cache.compute(one) != cache.compute(two)


def test_no_hashing_computes_only_the_cheap_hash(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"x")
    with HashCache(tmp_path / "hashes.sqlite", enabled=False) as cache:
        assert cache.compute(path) is None
        assert cache.compute(path, "legacy") == hashlib.sha256(b"").hexdigest()[:8]


def test_hashing_can_be_stopped(cache: HashCache, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * 100)
    assert cache.compute(path, keep_going=lambda: False) is None
    assert cache.known(path) is None


@pytest.mark.parametrize("damage", [b"this is no database at all, but long enough to look at" * 50, None])
def test_a_corrupt_database_is_made_anew_and_reported(damage: bytes | None, tmp_path: Path) -> None:
    place = tmp_path / "hashes.sqlite"
    if damage:
        place.write_bytes(damage)
    else:  # a table of another layout
        with sqlite3.connect(place) as database:
            database.execute("CREATE TABLE hashes (something TEXT)")
        database.close()
    path = tmp_path / "model.bin"
    path.write_bytes(b"x")
    with HashCache(place) as cache:
        assert "made anew" in (cache.problem or "")
        assert cache.compute(path)
    with HashCache(place) as again:
        assert again.problem is None
        assert again.known(path)


def test_an_unwritable_place_keeps_hashes_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "model.bin"
    path.write_bytes(b"x")
    with HashCache(tmp_path / "file" / "hashes.sqlite") as cache:
        assert "memory" in (cache.problem or "")
        assert cache.compute(path) == cache.known(path) is not None
