"""Buckets, against vectors of kohya's own."""

from __future__ import annotations

import pytest

from webui.core.errors import InvalidRequest
from webui.core.training_data import DataRequest
from webui.datasets.buckets import BucketRules, Size, bucket_sizes, resolution_of

SD1, SD1_AS_IS = BucketRules(), BucketRules(no_upscale=True)
SDXL = BucketRules((1024, 1024), min_side=512, max_side=2048)
TALL = [(256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576)]


def test_the_sizes_for_512() -> None:
    assert set(SD1.sizes) == {*TALL, *((width, height) for height, width in TALL), (512, 512)}
    assert len(SD1.sizes) == 17
    assert list(SD1.sizes) == sorted(SD1.sizes)


def test_the_sizes_for_1024() -> None:
    assert len(SDXL.sizes) == 33
    assert {(832, 1216), (896, 1152), (768, 1344), (640, 1536)} <= set(SDXL.sizes)


@pytest.mark.parametrize("step", [8, 32, 64, 128])
@pytest.mark.parametrize("resolution", [(512, 512), (640, 384), (768, 768)])
def test_no_bucket_is_larger_than_the_resolution(resolution: Size, step: int) -> None:
    area = resolution[0] * resolution[1]
    for width, height in bucket_sizes(resolution, 256, 1024, step):
        assert width * height <= area
        assert width % step == height % step == 0


@pytest.mark.parametrize(
    ("size", "bucket", "resized", "crop"),
    [
        ((1024, 1024), (512, 512), (512, 512), (0, 0)),
        ((1920, 1080), (640, 384), (683, 384), (21, 0)),
        ((3000, 2000), (640, 384), (640, 427), (0, 21)),
        ((2000, 3000), (384, 640), (427, 640), (21, 0)),
        ((768, 1024), (448, 576), (448, 597), (0, 10)),
        ((640, 480), (576, 448), (597, 448), (10, 0)),
        ((300, 900), (256, 832), (277, 832), (10, 0)),
    ],
)
def test_where_pictures_go_at_512(size: Size, bucket: Size, resized: Size, crop: Size) -> None:
    placement = SD1.place(size)
    assert (placement.bucket, placement.resized, placement.crop) == (bucket, resized, crop)


@pytest.mark.parametrize(
    ("size", "bucket", "resized"),
    [
        ((1024, 1024), (512, 512), (512, 512)),
        ((1920, 1080), (640, 384), (683, 384)),
        ((3000, 2000), (576, 384), (576, 384)),
        ((2000, 3000), (384, 576), (384, 576)),
        ((768, 1024), (384, 512), (384, 512)),
        ((640, 480), (512, 384), (512, 384)),
        ((300, 900), (256, 768), (256, 768)),
        ((200, 300), (192, 256), (200, 300)),  # smaller than the resolution: as it is, cut to whole steps
    ],
)
def test_where_pictures_go_without_upscaling(size: Size, bucket: Size, resized: Size) -> None:
    placement = SD1_AS_IS.place(size)
    assert (placement.bucket, placement.resized) == (bucket, resized)


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1024, 1024), (1024, 1024)),
        ((1920, 1080), (1344, 768)),
        ((3000, 2000), (1216, 832)),
        ((2000, 3000), (832, 1216)),
        ((768, 1024), (896, 1152)),
        ((640, 480), (1152, 896)),
        ((300, 900), (576, 1728)),
    ],
)
def test_where_pictures_go_at_1024(size: Size, bucket: Size) -> None:
    assert SDXL.place(size).bucket == bucket


def test_a_picture_of_a_buckets_own_size_stays() -> None:
    for size in SD1.sizes:
        placement = SD1.place(size)
        assert placement.bucket == placement.resized == size
        assert placement.excess == placement.crop == (0, 0)


def test_every_picture_covers_its_bucket() -> None:
    for rules in (SD1, SD1_AS_IS, SDXL, BucketRules((512, 768), enabled=False)):
        for width in range(70, 3000, 171):
            for height in range(70, 3000, 133):
                placement = rules.place((width, height))
                assert min(placement.excess) >= 0, (rules, width, height)


def test_without_buckets_everything_is_cropped_to_the_resolution() -> None:
    placement = BucketRules((512, 512), enabled=False).place((1920, 1080))
    assert (placement.bucket, placement.resized, placement.crop) == ((512, 512), (910, 512), (199, 0))


def test_a_picture_below_one_step_is_told() -> None:
    with pytest.raises(InvalidRequest, match="it is 60x300, smaller than a bucket's step of 64"):
        SD1_AS_IS.place((60, 300))


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (BucketRules((512, 512), min_side=576), "512x512 must lie between the smallest bucket side"),
        (BucketRules((1200, 512), max_side=1024), "1200x512 must lie between"),
        (BucketRules(step=20), "multiple of 8, not 20"),
        (BucketRules(step=0), "multiple of 8, not 0"),
        (BucketRules((32, 512)), "below 64"),
    ],
)
def test_contradictions_are_told(rules: BucketRules, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        rules.check()


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", (512, 512)), ("640,384", (640, 384)), (" 640 , 384 ", (640, 384)), ("768x512", (768, 512))],
)
def test_what_a_resolution_may_be(text: str, size: Size) -> None:
    assert resolution_of(text) == size


@pytest.mark.parametrize("text", ["", "big", "512,", "512,512,512", "-512", "5e2"])
def test_what_it_may_not_be(text: str) -> None:
    with pytest.raises(InvalidRequest, match="neither a number nor"):
        resolution_of(text)


def test_pictures_keep_their_size_where_that_is_wished() -> None:
    rules = BucketRules.of(DataRequest(enable_bucket=False, crop="none"))
    placement = rules.place((333, 1001))
    assert (placement.bucket, placement.resized, placement.crop) == ((328, 1000), (333, 1001), (2, 0))
    with pytest.raises(InvalidRequest, match="switch one of them off"):
        BucketRules.of(DataRequest(crop="none"))


def test_sdxl_wants_steps_of_32() -> None:
    request = DataRequest(bucket_reso_steps=8, resolution="512")
    assert BucketRules.of(request).step == 8
    with pytest.raises(InvalidRequest, match="multiple of 32, not 8"):
        BucketRules.of(request, sdxl=True)


def test_limits_are_rounded_to_whole_steps() -> None:
    assert BucketRules(min_side=300, max_side=1000).sizes == BucketRules(min_side=256, max_side=1024).sizes
