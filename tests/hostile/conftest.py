"""One running Easel that is attacked in every way."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from tests.api.conftest import until
from tests.running import Server
from tests.tiny import tiny_checkpoint

SECRET = "only the owner may read this"


@dataclass
class Target:
    """url: where it answers. data: its data folder. outside: a folder beside it that nothing may touch."""

    server: Server
    outside: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.server.url, timeout=240)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def data(self) -> Path:
        return self.server.data

    @property
    def memory(self) -> int:
        """Bytes of the server's process."""
        assert self.server.process is not None
        return int(psutil.Process(self.server.process.pid).memory_info().rss)

    def txt2img(self, **body: Any) -> httpx.Response:
        small = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 1}
        return self.client.post("/sdapi/v1/txt2img", json={**small, **body})

    def img2img(self, *pictures: str, **body: Any) -> httpx.Response:
        small = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "init_images": list(pictures)}
        return self.client.post("/sdapi/v1/img2img", json={**small, **body})

    def is_well(self) -> None:
        """It still makes pictures."""
        answer = self.txt2img()
        assert answer.status_code == 200, answer.text
        assert self.client.get("/", timeout=30).status_code == 200

    def touched(self) -> list[str]:
        """What came into the folder outside, beside the secret."""
        return sorted(path.name for path in self.outside.iterdir() if path.name != "secret.txt")


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for every attack: it has to survive them all."""
    place = tmp_path_factory.mktemp("hostile")
    data, outside = place / "data", place / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    (data / "config.json").write_text(json.dumps({"samples_save": True}))
    server = Server(data)
    server.start()
    attacked = Target(server, outside)
    attacked.is_well()
    until(lambda: attacked.client.get("/sdapi/v1/options").json()["sd_checkpoint_hash"])  # settings stay as they are
    yield attacked
    attacked.client.close()
    assert server.stop() == 0


def encoded(picture: Image.Image, kind: str = "png", **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def valid_json(answer: httpx.Response) -> Any:
    """The answer's JSON, which holds no NaN and no infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(answer.content, parse_constant=refuse)
