from __future__ import annotations

from dataclasses import replace

import torch

from webui.core.version import VERSION
from webui.models.devices import placement_on_cpu
from webui.pipeline.saving.provenance import provenance_at


def test_a_placement_tells_device_and_precision() -> None:
    made = provenance_at(placement_on_cpu(torch.bfloat16))
    assert (made.version, made.precision, made.vae_precision, made.device) == (VERSION, "bf16", "bf16", "cpu")
    assert made.torch == torch.__version__
    assert made.attention == "sdpa"
    assert provenance_at(replace(placement_on_cpu(torch.float32), exact=True)).attention == "written out"
