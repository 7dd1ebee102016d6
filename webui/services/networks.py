"""Names of extra networks from elsewhere: the same file may be called otherwise here."""

from __future__ import annotations

import re

from webui.catalog.networks import SHORT_HASH, LoraCatalog

_LORA_NAME = re.compile(r"<(lora|lyco):([^:>]+)")


def with_local_names(prompt: str, hashes: str, loras: LoraCatalog, preferred: str) -> str:
    """The prompt with each LoRA under the name it has here, told by its hash; one that isn't here stays as it is.

    hashes: an infotext's "Lora hashes", `name: 12 digits, ...`. preferred: the setting `lora_preferred_name`.
    """
    digits = dict(item.split(": ", 1) for item in hashes.split(", ") if ": " in item)

    def renamed(match: re.Match[str]) -> str:
        wanted = digits.get(match[2].replace(",", ""))
        here = loras.lookup(match[2])
        if wanted is None or (here is not None and _is(loras.known_hash(here), wanted)):
            return match[0]
        same = next((file for file in loras.all() if _is(loras.known_hash(file), wanted)), None)
        return match[0] if same is None else f"<{match[1]}:{loras.prompt_name(same, preferred)}"

    return _LORA_NAME.sub(renamed, prompt)


def _is(known: str | None, wanted: str) -> bool:
    return known is not None and len(wanted) >= SHORT_HASH and known.startswith(wanted)
