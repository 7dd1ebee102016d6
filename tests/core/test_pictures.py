import contextlib
import io
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests.recordings import load_cases
from webui.core.errors import InvalidRequest
from webui.core.pictures import (
    PICTURE_FORMATS,
    decoded_picture,
    encode_image,
    format_for,
    open_picture,
    read_infotext,
    text_exif,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)
FORMATS = list(PICTURE_FORMATS)
INFOTEXT = 'a 猫 café 😀\nNegative prompt: ugly\nSteps: 20, Sampler: Euler a, Hires prompt: "a, b"'


@pytest.mark.parametrize("format", FORMATS)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
@settings(max_examples=20)
def test_infotext_comes_back(format, text):
    assert read_infotext(encode_image(IMAGE, format, text)) == (text, {})


@pytest.mark.parametrize("format", FORMATS)
def test_without_infotext_nothing_is_written(format):
    assert read_infotext(encode_image(IMAGE, format, None)) == (None, {})
    assert read_infotext(encode_image(IMAGE, format, "")) == (None, {})


def test_png_keeps_pixels_and_further_texts():
    data = encode_image(IMAGE, "png", INFOTEXT, {"easel": "é猫"}, compress_level=1)
    assert read_infotext(data) == (INFOTEXT, {"easel": "é猫"})
    assert (np.asarray(open_picture(data)) == PIXELS).all()
    assert open_picture(data).info["parameters"] == INFOTEXT


def test_lossless_webp_keeps_pixels_and_quality_counts():
    assert (np.asarray(open_picture(encode_image(IMAGE, "webp", None, lossless=True))) == PIXELS).all()
    assert len(encode_image(IMAGE, "jpg", None, quality=10)) < len(encode_image(IMAGE, "jpg", None, quality=95))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F", "I"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_mode_can_be_written(mode, format):
    image = Image.new(mode, (8, 8))
    assert open_picture(encode_image(image, format, "x")).size == (8, 8)


def test_sixteen_bit_grey_is_scaled():
    image = Image.fromarray(np.full((8, 8), 65535, dtype=np.uint16))
    assert open_picture(encode_image(image, "jpg", None)).getpixel((0, 0)) == 255


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "avif"])
def test_further_texts_come_back_from_every_format_that_has_room(format):
    data = encode_image(IMAGE, format, INFOTEXT, {"easel": '{"precision": "fp32"}', "postprocessing": "é猫"})
    assert read_infotext(data) == (INFOTEXT, {"easel": '{"precision": "fp32"}', "postprocessing": "é猫"})
    alone = encode_image(IMAGE, format, None, {"easel": "x"})
    assert read_infotext(alone) == (None, {"easel": "x"})


def test_user_comment_is_marked_as_the_standard_wants():
    exif = text_exif("ab", {})
    assert exif[:10] == b"Exif\0\0MM\0*"
    assert exif[34:38] == b"\x92\x86\x00\x07"
    assert exif[-12:] == b"UNICODE\0\0a\0b"
    assert text_exif("", {}) == b""


def test_the_format_follows_the_setting_and_the_size():
    assert [format_for(name, (8, 8)) for name in ("png", "jpeg", ".JPG", "webp", "avif", "gif")] == [
        *("png", "jpg", "jpg", "webp", "avif", "gif")
    ]
    assert format_for("webp", (16_384, 8)) == format_for("jpg", (8, 65_536)) == "png"
    with pytest.raises(InvalidRequest, match='"bmp" is unknown; choose one of png, jpg'):
        format_for("bmp", (8, 8))


def test_a_picture_is_turned_as_its_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    IMAGE.save(file, "JPEG", exif=exif)
    assert decoded_picture(file.getvalue()).size == (6, 9)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_read_or_refused_and_nothing_else(format):
    """Cut off or with wrong bytes in the head, where lengths, offsets and counts are."""
    whole = encode_image(IMAGE, format, INFOTEXT, {"easel": "{}"})
    source = random.Random(1)
    for _ in range(150):
        damaged = bytearray(whole[: source.randrange(1, len(whole))] if source.random() < 0.3 else whole)
        for _ in range(source.choice((1, 3, 20))):
            damaged[source.randrange(min(len(damaged), 400))] = source.randrange(256)
        for read in (read_infotext, decoded_picture):
            with contextlib.suppress(InvalidRequest):
                read(bytes(damaged))


def test_a_picture_cut_off_is_told_so():
    whole = encode_image(Image.effect_noise((64, 64), 50), "png", INFOTEXT)
    with pytest.raises(InvalidRequest, match="damaged"):
        decoded_picture(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + "a é".encode("utf-16-le"),
        b"UNICODE\0" + "a é".encode("utf-16"),
        b"\0" * 8 + "a é".encode(),
        b"ASCII\0\0\0" + "a é".encode(),
        "a é".encode(),
    ],
)
def test_other_programs_comments(comment):
    exif = Image.Exif()
    exif.endian = "<"
    exif.get_ifd(0x8769)[0x9286] = comment
    file = io.BytesIO()
    IMAGE.save(file, "JPEG", exif=exif)
    assert read_infotext(file.getvalue())[0] == "a é"


def test_gif_comment_and_technical_keys():
    file = io.BytesIO()
    IMAGE.save(file, "GIF", comment=b"a cat", loop=0, duration=10)
    infotext, items = read_infotext(file.getvalue())
    assert infotext == "a cat"
    assert items == {}


def test_novelai():
    chunks = PngImagePlugin.PngInfo()
    facts = {"steps": 28, "sampler": "k_euler", "scale": 11.0, "seed": 7, "uc": "lowres, bad"}
    for key, text in {"Software": "NovelAI", "Description": "a girl", "Comment": json.dumps(facts)}.items():
        chunks.add_text(key, text)
    file = io.BytesIO()
    IMAGE.save(file, "PNG", pnginfo=chunks)
    infotext, items = read_infotext(file.getvalue())
    assert infotext == (
        "a girl\nNegative prompt: lowres, bad\n"
        "Steps: 28, Sampler: Euler, CFG scale: 11.0, Seed: 7, Size: 9x6, Clip skip: 2, ENSD: 31337"
    )
    assert items["Description"] == "a girl"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_novelai_comments_and_exif_are_no_infotext():
    chunks = PngImagePlugin.PngInfo()
    for key, text in {"Software": "NovelAI", "Description": "a", "Comment": "[1]"}.items():
        chunks.add_text(key, text)
    file = io.BytesIO()
    IMAGE.save(file, "PNG", pnginfo=chunks, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_infotext(file.getvalue())[0] is None


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(InvalidRequest, match="isn't a picture"):
        read_infotext(data)


def test_text_that_no_file_can_hold():
    assert read_infotext(encode_image(IMAGE, "png", "a \ud800"))[0] == "a ?"
    assert read_infotext(encode_image(IMAGE, "jpg", "é" * 40_000))[0] is None
    assert read_infotext(encode_image(IMAGE, "webp", "é" * 40_000))[0] == "é" * 40_000


@pytest.mark.parity
def test_recorded_pictures_of_the_original_program(parity):
    cases = {case.name: case for case in load_cases(parity)}
    for name in ("prompt-unicode", "prompt-plain"):
        data = (parity / "images" / cases[name].files[0]).read_bytes()
        assert read_infotext(data) == (cases[name].infotexts[0], {})
