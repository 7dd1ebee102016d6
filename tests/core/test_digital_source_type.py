"""How a picture came about, told in its file's metadata as IPTC has it."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
from PIL import Image

from webui.core.pictures import DIGITAL_SOURCE_TYPE, encode_image, read_infotext
from webui.core.results import COMPOSITE, GENERATED

PICTURE = Image.new("RGB", (16, 16), "grey")
PROPERTY = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "avif"])
@pytest.mark.parametrize("word", [GENERATED, COMPOSITE])
def test_it_stands_in_the_xmp_packet_and_is_read_again(format: str, word: str) -> None:
    extra = {DIGITAL_SOURCE_TYPE: word, "easel": "{}"}
    data = encode_image(PICTURE, format, "a cat\nSteps: 1", extra)  # type: ignore[arg-type]
    with Image.open(io.BytesIO(data)) as opened:
        packet = opened.info["xmp"]
        assert "DigitalSourceType" not in opened.info  # no text of its own beside it
    plain = packet.decode() if isinstance(packet, bytes) else packet
    root = ElementTree.fromstring(plain.strip("\0\ufeff \n"))
    assert [node.get(PROPERTY) for node in root.iter() if node.get(PROPERTY)] == [VOCABULARY + word]
    assert read_infotext(data) == ("a cat\nSteps: 1", extra)


def test_without_one_nothing_is_written() -> None:
    for extra in (None, {}, {DIGITAL_SOURCE_TYPE: ""}, {DIGITAL_SOURCE_TYPE: "digitalArt"}):
        data = encode_image(PICTURE, "png", None, extra)
        assert b"xmp" not in data
        assert read_infotext(data) == (None, {})


def test_other_programs_packets_stay_as_they_are() -> None:
    from PIL.PngImagePlugin import PngInfo

    packet = '<x:xmpmeta xmlns:x="adobe:ns:meta/">trainedAlgorithmicMedia</x:xmpmeta>'
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", packet)
    file = io.BytesIO()
    PICTURE.save(file, "PNG", pnginfo=texts)
    assert read_infotext(file.getvalue()) == (None, {"XML:com.adobe.xmp": packet})
