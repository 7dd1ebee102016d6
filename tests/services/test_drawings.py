from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from webui.core.errors import InvalidRequest
from webui.core.pictures import size_of
from webui.services.drawings import (
    Drawing,
    colour_sketch,
    drawing_of,
    painted_mask,
    scaled_size,
    sketch,
)

SIZE = (12, 8)
GROUND = (10, 20, 30, 255)


def png(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def layer(colour: tuple[int, int, int, int], left: int, right: int) -> bytes:
    """A transparent layer with a stripe from one column to before another."""
    picture = Image.new("RGBA", SIZE)
    picture.paste(colour, (left, 0, right, SIZE[1]))
    return png(picture)


def drawing(*layers: bytes) -> Drawing:
    made = drawing_of(png(Image.new("RGBA", SIZE, GROUND)), layers)
    assert made is not None
    return made


def test_an_empty_editor_holds_no_drawing() -> None:
    assert drawing_of(None, []) is None
    assert drawing_of(None, [layer((0, 0, 0, 0), 0, 4)]) is None


def test_the_picture_stays_as_it_came() -> None:
    ground = png(Image.new("RGB", SIZE, "red"))
    made = drawing_of(ground, [layer((0, 0, 0, 0), 0, 4)])
    assert made == Drawing(ground, None, SIZE)
    assert sketch(made) == ground


def test_a_drawing_on_nothing_is_on_transparent_ground() -> None:
    made = drawing_of(None, [layer((255, 0, 0, 255), 0, 4)])
    assert made is not None
    picture = opened(sketch(made))
    assert (picture.size, picture.getpixel((0, 0)), picture.getpixel((8, 0))) == (SIZE, (255, 0, 0, 255), (0, 0, 0, 0))


def test_a_sketch_has_all_layers_on_it_the_last_on_top() -> None:
    made = drawing(layer((255, 0, 0, 255), 0, 6), layer((0, 0, 255, 255), 4, 8))
    row = [opened(sketch(made)).getpixel((x, 0)) for x in (0, 5, 7, 9)]
    assert row == [(255, 0, 0, 255), (0, 0, 255, 255), (0, 0, 255, 255), GROUND]


def test_the_mask_is_white_where_a_brush_of_any_strength_went() -> None:
    made = drawing(layer((255, 255, 255, 80), 0, 4), layer((0, 0, 0, 5), 8, 10))
    mask = opened(painted_mask(made))
    assert mask.mode == "L"
    assert np.asarray(mask)[0].tolist() == [255] * 4 + [0] * 8


def test_an_empty_mask_is_for_what_is_not_masked_only() -> None:
    with pytest.raises(InvalidRequest, match="Nothing is painted yet"):
        painted_mask(drawing())
    assert opened(painted_mask(drawing(), inverted=True)).getextrema() == (0, 0)


def test_a_colour_sketch_is_picture_and_mask() -> None:
    picture, mask = map(opened, colour_sketch(drawing(layer((255, 0, 0, 255), 0, 4)), blur=0, transparency=40))
    assert [picture.getpixel((x, 0)) for x in (0, 11)] == [(157, 8, 12), GROUND[:3]]  # 60% of the colour
    assert sorted(set(np.asarray(mask).ravel().tolist())) == [0, 153]
    with pytest.raises(InvalidRequest, match="Nothing is painted yet"):
        colour_sketch(drawing(), 4, 0)


def test_blur_softens_colours_and_edge_of_a_colour_sketch() -> None:
    picture, mask = map(opened, colour_sketch(drawing(layer((255, 0, 0, 255), 0, 6)), blur=2, transparency=0))
    reds = np.asarray(picture)[4, :, 0].astype(int)
    assert (np.diff(reds) <= 0).all()
    assert len(set(reds)) > 4
    assert set(np.asarray(mask).ravel()) == {0, 255}


def test_a_size_is_as_the_picture_is_shown() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    assert size_of(png(Image.new("RGB", SIZE))) == SIZE
    assert size_of(png(Image.new("RGB", SIZE), exif=exif)) == (SIZE[1], SIZE[0])
    with pytest.raises(InvalidRequest):
        size_of(b"no picture")


@pytest.mark.parametrize(
    ("size", "scale", "wanted"), [((512, 768), 1.5, (768, 1152)), ((101, 99), 1, (96, 96)), ((64, 64), 0.05, (8, 8))]
)
def test_scaled_sizes_are_multiples_of_8(size: tuple[int, int], scale: float, wanted: tuple[int, int]) -> None:
    assert scaled_size(size, scale) == wanted


@pytest.mark.parametrize("broken", [b"", b"\x89PNG\r\n\x1a\n", layer((1, 2, 3, 4), 0, 4)[:60]])
def test_broken_layers_are_told(broken: bytes) -> None:
    with pytest.raises(InvalidRequest):
        drawing(broken)
