"""What this machine writes into its pictures about itself."""

from __future__ import annotations

import torch

from webui.core.provenance import Provenance
from webui.core.version import VERSION
from webui.models.devices import Placement

PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def provenance_at(placement: Placement) -> Provenance:
    """Of pictures made by models at this placement."""
    return Provenance(
        version=VERSION,
        precision=PRECISIONS[placement.unet],
        vae_precision=PRECISIONS[placement.vae],
        device=placement.device.type,
        torch=torch.__version__,
        attention="written out" if placement.exact else "sdpa",
    )
