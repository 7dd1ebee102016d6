"""Device and precision from flags and hardware."""

from __future__ import annotations

import pytest
import torch

from webui.core.errors import InvalidRequest
from webui.core.flags import Flags
from webui.models.devices import choose, cpu_computes_bf16, find_device


@pytest.mark.parametrize("flags", [Flags(device="cpu", no_half=True), Flags(device="cpu", precision="full")])
def test_full_precision_is_fp32_everywhere(flags: Flags) -> None:
    placement = choose(flags)
    assert {placement.unet, placement.text, placement.vae} == {torch.float32}
    assert not placement.channels_last
    assert placement.exact == (flags.precision == "full"), "rounding as A1111 does is for comparing pictures"


def test_a_cpu_computes_in_bf16_or_fp32_but_never_in_fp16() -> None:
    placement = choose(Flags(device="cpu"))
    expected = torch.bfloat16 if cpu_computes_bf16() else torch.float32
    assert placement.unet == placement.text == placement.vae == expected
    assert placement.channels_last == (expected == torch.bfloat16)


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f'no device "{name}" here; available: .*cpu'):
        find_device(name)


def test_auto_finds_something() -> None:
    assert find_device("auto") == find_device("") == find_device(None)
