"""By which machine a picture was made: what decides its last digits and has no key in the infotext.

Written beside the infotext (see `webui.core.pictures`) under the name "easel". Nothing in it tells of a person,
a path or a host.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

CHUNK = "easel"
LONGEST = 4000
LONGEST_VALUE = 60


@dataclass(frozen=True)
class Provenance:
    """version: Easel's. precision, vae_precision: "fp32", "fp16" or "bf16", of the network and of the decoder.

    device: the kind, "cpu", "cuda", "mps" or "xpu". torch: its version. attention: what "Automatic" means there,
    torch's "sdpa" or "written out".
    """

    version: str
    precision: str
    vae_precision: str
    device: str
    torch: str
    attention: str

    def to_text(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_text(cls, text: str | None) -> Provenance | None:
        """What `to_text` wrote; None for anything else, whoever wrote it."""
        if not text or len(text) > LONGEST:
            return None
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return None
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict) or not all(isinstance(values.get(name), str) for name in names):
            return None
        return cls(*(values[name][:LONGEST_VALUE] for name in names))


@dataclass
class Machine:
    """provenance: what pictures made now would carry; None until the worker has looked at its device."""

    provenance: Provenance | None = None
