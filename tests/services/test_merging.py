"""What checkpoints' files say about themselves, as the merger's tab shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from webui.core.errors import NotFound
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.merging import read_metadata


def test_metadata_of_several_is_one_table_with_objects_opened(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    weights = {"x": np.zeros(1, np.float32)}
    save_file(weights, folder / "a.safetensors", {"who": "a", "recipe": '{"type": "webui"}', "broken": "{not json"})
    save_file(weights, folder / "b.safetensors", {"who": "b"})
    (folder / "c.ckpt").write_bytes(b"\x80\x02}.")
    flags, _ = parse_flags(["--data-dir", str(tmp_path), "--no-hashing"], {})
    services = build_services(flags)
    try:
        found = json.loads(read_metadata(services, ["a", "b", "c", ""]))
        assert found == {"who": "b", "recipe": {"type": "webui"}, "broken": "{not json"}
        with pytest.raises(NotFound):
            read_metadata(services, ["gone"])
    finally:
        services.checkpoints.close()
