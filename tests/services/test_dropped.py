from __future__ import annotations

import pytest
from PIL import Image

from webui.core.errors import InvalidRequest
from webui.core.pictures import encode_image
from webui.services.dropped import read_dropped

PICTURE = Image.new("RGB", (8, 8))


def test_a_pictures_parameters_and_its_further_texts() -> None:
    data = encode_image(PICTURE, "webp", "a cat\nSteps: 1", {"easel": "{}"})
    assert read_dropped(data) == ("a cat\nSteps: 1", {"easel": "{}"})


def test_a_short_text_is_taken_as_it_is() -> None:
    assert read_dropped("a café\n".encode()) == ("a café", {})


@pytest.mark.parametrize("data", [b"", b"   ", b"a\0b", b"\xff\xfe", b"x" * 10_000])
def test_what_is_neither_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="isn't a picture"):
        read_dropped(data)


def test_a_picture_without_parameters_is_told() -> None:
    with pytest.raises(InvalidRequest, match="no generation parameters"):
        read_dropped(encode_image(PICTURE, "png", None))
