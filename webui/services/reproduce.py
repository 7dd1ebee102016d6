"""Will this picture come out again here? Said before anything runs, from what its texts pin down.

Each pinned fact (checkpoint, VAE, networks, random numbers, precision, sampler, settings) is held against what is
here. A fact that the picture doesn't tell, or that this server can't look up, stays unknown rather than assumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.sidecars import read_sidecar
from webui.catalog.vaes import choose_vae
from webui.core.choices import (
    LATENT_UPSCALERS,
    SAME_CHECKPOINT,
    SAME_SAMPLER,
    SAME_SCHEDULER,
    Sampler,
)
from webui.core.errors import WebuiError
from webui.core.params import Params
from webui.core.provenance import CHUNK, Provenance
from webui.core.request import GenerationRequest
from webui.core.settings import Settings, shown
from webui.prompts.networks import cut_networks
from webui.services.forms import (
    OVERRIDES,
    chosen_groups,
    overrides_from_lines,
    request_from_form,
    script_groups,
    value_from_text,
)
from webui.services.infotexts import ELSEWHERE, Mode, fields_of, form_from_infotext
from webui.services.services import Services

State = Literal["same", "different", "unknown"]

OWN_VAE = ("None", "Automatic", "")
HASH_DIGITS = 10
SEVERITY: tuple[State, ...] = ("same", "unknown", "different")
NUMBER_OF_PICTURES = ("batch_count", "batch_size")
"""Parameters that leave the first picture as it is."""

WRITTEN = frozenset(
    ["Prompt", "Negative prompt", "Size", "Model", "Model hash", "VAE", "VAE hash", "Version", "User", "Styles array"]
    + ["Lora hashes", "TI hashes", "Init image hash", "Hires resize", "Seed resize from", "Batch size", "Batch pos"]
    + ["Hypernet", "Hypernet strength", "First pass size", "FP8 weight", "Cache FP16 weight for LoRA"]
    + ["Soft inpainting enabled", "Beta schedule alpha", "Beta schedule beta", "Max side length"]
)
"""Keys that no parameter or setting declares and that this module, or nobody, needs."""

SAYS_NOTHING = frozenset(["Civitai resources", "Civitai metadata", "Hashes", "Created Date"])
"""Keys that other programs and sites add and that change no picture."""

A1111_VERSION = re.compile(r"v?[01]\.\d")

ONLY_FROM_PICTURES = frozenset(["Conditional mask weight", "Noise multiplier", "VAE Encoder"])
"""Labels of settings that count in img2img alone."""


@dataclass(frozen=True)
class Fact:
    """wanted: what the picture says. here: what would be used now. note: what to do about it, "" for nothing.

    minor: it changes the last digits of a picture at most.
    """

    name: str
    state: State
    wanted: str
    here: str = ""
    note: str = ""
    minor: bool = False


@dataclass(frozen=True)
class Reproduction:
    """What is known, fact by fact."""

    facts: tuple[Fact, ...]

    @property
    def verdict(self) -> State:
        states = {fact.state for fact in self.facts if not fact.minor}
        return "different" if "different" in states else "unknown" if "unknown" in states else "same"

    @property
    def sentence(self) -> str:
        def named(state: State, minor: bool) -> str:
            facts = [fact.name for fact in self.facts if fact.state == state and fact.minor == minor]
            return ", ".join(dict.fromkeys(facts))

        if self.verdict == "different":
            return f"Not the same picture as things are: {named('different', False)}."
        if self.verdict == "unknown":
            return f"What is told matches here; what isn't told or known: {named('unknown', False)}."
        rounding = named("different", True)
        return "The same picture is to be expected" + (f", but for rounding: {rounding}." if rounding else ".")


def check(
    services: Services,
    infotext: str,
    texts: Mapping[str, str] | None = None,
    form: Mapping[str, Any] | None = None,
    mode: Mode = "txt2img",
) -> Reproduction:
    """Hold an infotext against this server. texts: the other texts of the picture, if it is at hand.

    form, mode: the form that will be sent, and its tab; None stands for one that the infotext is pasted into.
    Reads LoRAs and VAEs whose hashes aren't known yet, so it may take a second; checkpoints are never read.
    """
    facts: dict[str, Fact] = {}
    for fact in _Check(services, infotext, texts or {}, form, mode).facts():
        known = facts.get(fact.name)
        if known is None or SEVERITY.index(fact.state) > SEVERITY.index(known.state):
            facts[fact.name] = fact
    return Reproduction(tuple(facts.values()))


class _Check:
    """One infotext against one server."""

    def __init__(
        self,
        services: Services,
        infotext: str,
        texts: Mapping[str, str],
        form: Mapping[str, Any] | None,
        mode: Mode,
    ) -> None:
        self.services = services
        self.infotext, self.form, self.mode = infotext, form, mode
        self.settings: Settings = services.settings.snapshot()
        self.refusal: WebuiError | None = None
        if form is not None:
            try:
                self.settings = self.settings.replace(**overrides_from_lines(form.get(OVERRIDES) or (), self.settings))
            except WebuiError as error:
                self.refusal = error
        self.found: Mapping[str, Any] = fields_of(infotext, services, whole=form is not None)
        self.made = Provenance.from_text(texts.get(CHUNK))
        self.here = services.machine.provenance
        self.told = {key for key in self.found if key not in ("Prompt", "Negative prompt")}

    def facts(self) -> Iterator[Fact]:
        yield self._checkpoint()
        yield from self._further_checkpoints()
        yield self._vae()
        yield from self._networks()
        yield from self._names()
        yield from self._random_numbers()
        yield from self._precision()
        yield from self._settings()
        yield from self._source()
        yield from self._others()
        if self.form is not None:
            yield from self._form(self.form)

    # The form

    def _form(self, form: Mapping[str, Any]) -> Iterator[Fact]:
        """Where the form asks for something else than the text does."""
        pasted = form_from_infotext(self.infotext, self.services, self.mode, whole=True)
        if self.refusal is not None:
            yield Fact("Override settings", "different", "", "", str(self.refusal))
            return
        groups = (*self.services.host.params, *chosen_groups(form, self.services.choices, self.mode))
        overrides = {OVERRIDES: form.get(OVERRIDES)}
        asked = {**form, "styles": [], **pasted.form, **overrides}
        try:
            sent, wanted = (request_from_form(each, self.settings, groups) for each in (form, asked))
        except WebuiError as error:
            yield Fact("Form", "different", "", "", str(error))
            return
        for line in pasted.left_out:
            key, _, value = line.partition(": ")
            yield Fact(key, "different", value, "", "It isn't available here.")
        for name, asks, sends in _differences(wanted, sent, groups):
            yield Fact(name, "different", shown(asks), shown(sends), "The form has another value.")

    # Files

    def _checkpoint(self) -> Fact:
        """The main model, which must also be the chosen one: pasting leaves it alone unless a setting says else."""
        digits, name = str(self.found.get("Model hash", "")), str(self.found.get("Model", ""))
        wanted = f"{name} [{digits}]" if digits else name
        try:
            chosen: Checkpoint | None = self.services.checkpoints.default(self.settings["sd_model_checkpoint"] or "")
        except WebuiError:
            chosen = None
        here = chosen.title if chosen else "none"
        match, missing = self._find_checkpoint(name, digits)
        if match is None:
            return Fact("Checkpoint", missing.state, wanted or "not told", here, missing.note)
        if chosen is not None and match.identity == chosen.identity:
            told = bool(digits)
            note = "" if told else "Only the name is told, which another file may have too."
            return Fact("Checkpoint", "same" if told else "unknown", wanted, here, note)
        if not self.settings["disable_weights_auto_swap"]:
            return Fact("Checkpoint", "same", wanted, match.title, "Pasting chooses it.")
        note = f"It is here: choose {match.title} in the checkpoint list."
        return Fact("Checkpoint", "different", wanted, here, note)

    def _find_checkpoint(self, name: str, digits: str) -> tuple[Checkpoint | None, Fact]:
        """The file meant, or why there is none, as a fact's state and note."""
        catalog = self.services.checkpoints
        digits = digits.lower()
        if digits:
            for item in (*catalog, *self._by_legacy_hash(digits)):
                if (item.sha256 or "").startswith(digits) or item.legacy_hash == digits:
                    return item, Fact("", "same", "")
            unhashed = [item for item in catalog if not item.sha256]
            alike = next((item for item in catalog if item.model_name == name), None)
            if alike is not None and alike.sha256:
                return None, Fact("", "different", "", note=f"{alike.title} has this name but other weights.")
            if unhashed:
                note = f"{len(unhashed)} of the checkpoints here have no hash yet; one of them may be it."
                return None, Fact("", "unknown", "", note=note)
            return None, Fact("", "different", "", note="No checkpoint with this hash is here.")
        found = next((item for item in catalog if name and name in item.ids), None)
        if found is None and name:
            return None, Fact("", "different", "", note="No checkpoint with this name is here.")
        return found, Fact("", "unknown", "", note="" if found else "The picture doesn't tell its checkpoint.")

    def _by_legacy_hash(self, digits: str) -> tuple[Checkpoint, ...]:
        """The catalog computes the old 8-digit hashes when it is asked for one."""
        try:
            return (self.services.checkpoints.find(digits),) if len(digits) == 8 else ()
        except WebuiError:
            return ()

    def _further_checkpoints(self) -> Iterator[Fact]:
        for key in ("Refiner", "Hires checkpoint"):
            value = str(self.found.get(key, ""))
            if key not in self.told or value in ("", SAME_CHECKPOINT):
                continue
            told = re.fullmatch(r"(.*) \[([0-9a-fA-F]{8,64})\]", value)
            match, missing = self._find_checkpoint(told[1], told[2]) if told else self._find_checkpoint(value, "")
            if match is None:
                yield Fact(key, missing.state, value, "", missing.note)
            else:
                yield Fact(key, "same" if told else "unknown", value, match.title, "" if told else "Found by its name.")

    def _vae(self) -> Fact:
        digits, name = str(self.found.get("VAE hash", "")).lower(), str(self.found.get("VAE", ""))
        own, always = "the checkpoint's own", self.services.flags.vae_path
        if not digits and name in OWN_VAE:
            here = self._vae_in_use()
            if here is None:
                return Fact("VAE", "same", own, own)
            return Fact("VAE", "different", own, here, "Choose the VAE None in Settings, or start without --vae-path.")
        wanted = f"{name} [{digits}]" if digits else name
        try:
            vaes = self.services.vaes
            file = vaes.hashed(vaes.at(always) if always else vaes.find(name))
        except WebuiError:
            return _by_hash("VAE", wanted, "", digits, None)
        in_use = self._vae_in_use()
        if self.form is not None and in_use != file.name:
            note = f'Put "VAE: {name}" among the override settings.'
            return Fact("VAE", "different", wanted, in_use or own, note)
        return _by_hash("VAE", wanted, file.name, digits, file.sha256)

    def _vae_in_use(self) -> str | None:
        """The file that would be used with the chosen checkpoint; None for the checkpoint's own."""
        catalog, vaes = self.services.checkpoints, self.services.vaes
        try:
            chosen = catalog.default(self.settings["sd_model_checkpoint"] or "")
            beside = next((file for file in catalog.files.all() if file.path == chosen.path), None)
            preferred = read_sidecar(beside).vae if beside else None
            file = choose_vae(vaes, self.settings, chosen, preferred, self.services.flags.vae_path).file
        except WebuiError:
            return None
        return file.name if file else None

    def _networks(self) -> Iterator[Fact]:
        """LoRAs and embeddings by their hashes, and those that the prompt names without one."""
        networks, hashed = self.services.networks, _hash_pairs(self.found.get("Lora hashes"))
        for name, digits in hashed.items():
            yield self._lora(name, digits)
        for name, digits in _hash_pairs(self.found.get("TI hashes")).items():
            file, _ = networks.embeddings.named().get(name, (None, None))
            found = networks.embeddings.hash(file) if file else None
            yield _by_hash(f"Embedding {name}", digits, file.name if file else "", digits, found)
        tags = {(tag.kind, tag.args[0]): None for tag in cut_networks(str(self.found["Prompt"])).tags if tag.args}
        for kind, name in tags:
            if kind in ("lora", "lyco") and name.replace(",", "") not in hashed:
                yield self._lora(name, "")
            elif kind == "hypernet":
                other = networks.hypernetworks.get(name)
                yield _by_hash(f"Hypernetwork {name}", "its hash isn't told", other.name if other else "", "", None)

    def _lora(self, name: str, digits: str) -> Fact:
        loras = self.services.networks.loras
        file = loras.lookup(name)
        found = loras.hash(file) if file and digits else None
        return _by_hash(f"LoRA {name}", digits or "its hash isn't told", file.name if file else "", digits, found)

    # Method

    def _sampler(self) -> Sampler | None:
        try:
            return self.services.choices.find_sampler(str(self.found.get("Sampler", "")))[0]
        except WebuiError:
            return None

    def _names(self) -> Iterator[Fact]:
        """Samplers, schedules and upscalers, which must be known by name."""

        choices = self.services.choices

        def known(name: str, find: Callable[[str], object], same: str = "") -> Iterator[Fact]:
            value = str(self.found.get(name, ""))
            if name not in self.told or value in ("", same):
                return
            try:
                find(value)
                yield Fact(name, "same", value, value)
            except WebuiError as error:
                yield Fact(name, "different", value, "", str(error))

        def upscaler(value: str) -> None:
            if value not in choices.hires_upscalers:
                raise WebuiError(f'The upscaler "{value}" isn\'t installed.')
            if value not in LATENT_UPSCALERS:
                choices.find_upscaler(value).require()

        if "Sampler" not in self.told:
            yield Fact("Sampler", "unknown", "not told")
        yield from known("Sampler", choices.find_sampler)
        yield from known("Schedule type", choices.find_scheduler)
        yield from known("Hires sampler", choices.find_sampler, SAME_SAMPLER)
        yield from known("Hires schedule type", choices.find_scheduler, SAME_SCHEDULER)
        yield from known("Hires upscaler", upscaler)
        if "Seed" not in self.told:
            yield Fact("Seed", "unknown", "not told")

    # Machine

    def _random_numbers(self) -> Iterator[Fact]:
        """Where the noise is drawn. GPU means the device's own generator: another device draws other numbers."""
        source = str(self.found.get("RNG", "GPU"))
        if self.form is not None and self.settings["randn_source"] != source:
            note = f'Put "RNG: {source}" among the override settings.'
            yield Fact("RNG", "different", source, self.settings["randn_source"], note)
            return
        if source != "GPU":
            yield Fact("RNG", "same", source, source)
            return
        made, here = self.made and self.made.device, self.here and self.here.device
        wanted = f"GPU ({made})" if made else "GPU"
        if made and here and made == here:
            yield Fact("RNG", "same", wanted, f"GPU ({here})")
            return
        note = 'If it was made on an NVIDIA card, choose the random number source "NV": it draws the same numbers.'
        if made and here:
            advice = {"cuda": 'Choose the random number source "NV": it draws what an NVIDIA card draws.'}
            note = advice.get(made, f'Choose the random number source "{"CPU" if made == "cpu" else "NV"}".')
            yield Fact("RNG", "different", wanted, f"GPU ({here})", note)
        elif here == "cuda":
            yield Fact("RNG", "unknown", wanted, f"GPU ({here})", "The same if it was made on an NVIDIA card.")
        else:
            yield Fact("RNG", "unknown", wanted, f"GPU ({here})" if here else "", note)

    def _precision(self) -> Iterator[Fact]:
        """What A1111 has no key for; Easel writes it beside the infotext."""
        made, here = self.made, self.here
        told_here = f"{here.precision} on {here.device}" if here else "not known before the first model is loaded"
        if made is None:
            note = "A1111 has no key for it: fp16 is usual on graphics cards, fp32 elsewhere."
            if here and here.precision == "bf16":
                note += " This server computes in bf16; start it with --no-half --precision full for fp32."
            yield Fact("Precision", "unknown", "not told", told_here, note)
            return
        wanted = f"{made.precision} on {made.device}"
        if here is None:
            yield Fact("Precision", "unknown", wanted, told_here)
            return
        same = (made.precision, made.vae_precision) == (here.precision, here.vae_precision)
        note = "" if same else _how_to_get(made.precision)
        yield Fact("Precision", "same" if same else "different", wanted, told_here, note)
        for name, a, b in (("Torch", made.torch, here.torch), ("Attention", made.attention, here.attention)):
            yield Fact(name, "same" if a == b else "different", a, b, minor=True)
        if made.device != here.device:
            yield Fact("Device", "different", made.device, here.device, minor=True)

    # Settings

    def _settings(self) -> Iterator[Fact]:
        """Settings that the picture tells, which pasting sets; and those it doesn't tell that differ here."""
        set_by_pasting: list[str] = []
        for setting in self.settings.table.values():
            label = setting.infotext
            if not label or setting.key in ("sd_model_checkpoint", "sd_vae", "randn_source"):
                continue
            value = self.settings[setting.key]
            if label in self.told:
                try:
                    wanted = value_from_text(setting, str(self.found[label]))
                except WebuiError as error:
                    yield Fact(label, "different", str(self.found[label]), str(value), str(error))
                    continue
                if wanted != value and self.form is not None:
                    note = f'Put "{label}: {self.found[label]}" among the override settings.'
                    yield Fact(label, "different", str(self.found[label]), str(value), note)
                elif wanted != value:
                    set_by_pasting.append(f"{label}: {self.found[label]}")
            elif value != setting.default and self._counts(label, setting.key):
                note = f'Set it back, or put "{label}: {setting.default}" among the override settings.'
                yield Fact(label, "different", f"{setting.default} (not told)", str(value), note)
        if set_by_pasting:
            yield Fact("Settings", "same", ", ".join(set_by_pasting), "other values", "Pasting sets them.")

    def _counts(self, label: str, key: str) -> bool:
        """Whether a setting that the picture doesn't tell could have changed it."""
        sampler = self._sampler()
        if label in ONLY_FROM_PICTURES and not self._from_picture():
            return False
        if label.startswith("Hires") and "Hires upscale" not in self.told:
            return False
        if sampler is None or key not in ("s_churn", "s_tmin", "s_tmax", "s_noise", "eta_noise_seed_delta"):
            return True
        return key in sampler.extra_options or (key == "eta_noise_seed_delta" and sampler.uses_ensd)

    def _from_picture(self) -> bool:
        """Whether it was made by img2img."""
        hires = str(self.found.get("Hires resize-1", 0)) != "0" or {"Hires upscale", "Hires upscaler"} & self.told
        return "Denoising strength" in self.told and not hires

    def _source(self) -> Iterator[Fact]:
        if self.mode == "img2img" and not self._from_picture():
            yield Fact("Starting picture", "different", "none", "", "It was made from text alone; use txt2img.")
        elif self._from_picture():
            parts = "picture and mask" if "Mask blur" in self.told else "picture"
            note = f"It began with a {parts} that the file doesn't hold; put the same into img2img."
            yield Fact("Starting picture", "unknown", str(self.found.get("Init image hash", "not told")), "", note)

    def _others(self) -> Iterator[Fact]:
        """Keys that nothing here reads, and programs other than A1111 and its like."""
        groups = (*self.services.host.params, *script_groups(self.services.choices, self.mode))
        known = {spec.infotext for spec in GenerationRequest.specs()} | {
            setting.infotext for setting in self.settings.table.values()
        }
        known |= WRITTEN | SAYS_NOTHING | ELSEWHERE.keys()
        note = "Nothing here reads this; the picture may have needed an extension."
        for key in sorted(self.told):
            names = {key, key.removesuffix("-1").removesuffix("-2")}
            if names & known or any(group.reads_key(name) for group in groups for name in names):
                continue
            if not key.startswith("Postprocess "):
                yield Fact(key, "unknown", str(self.found[key])[:200], "", note)
        version = str(self.found.get("Version", ""))
        if version and not A1111_VERSION.match(version):
            yield Fact("Program", "unknown", version, "", "Made by another program, which may compute otherwise.")


def _differences(
    wanted: GenerationRequest, sent: GenerationRequest, groups: Sequence[type[Params]]
) -> Iterator[tuple[str, object, object]]:
    """(name, value wanted, value sent) of what decides a picture's look; a group that one lacks is one difference."""
    for spec in GenerationRequest.specs():
        if spec.dotted in NUMBER_OF_PICTURES:
            continue
        asks, sends = _at(wanted, spec.path), _at(sent, spec.path)
        if (asks is ABSENT) != (sends is ABSENT):
            yield spec.path[0].capitalize(), *(("off", "on") if asks is ABSENT else ("on", "off"))
        elif asks != sends:
            yield spec.infotext or spec.label, asks, sends
    for group in groups:
        name = group.__name__
        for spec in group.specs():
            asks, sends = (_at(request.extensions.get(name, group()), spec.path) for request in (wanted, sent))
            if asks != sends:
                yield spec.infotext or spec.label, asks, sends


ABSENT = object()


def _at(request: Params, path: Sequence[str]) -> object:
    """The parameter's value; ABSENT when its group is off, or its list has no such item."""
    value: Any = request
    for name in path:
        if name.isdecimal():
            value = value[int(name)] if int(name) < len(value) else None
        else:
            value = getattr(value, name)
        if value is None and name != path[-1]:
            return ABSENT
    return value


def _by_hash(name: str, wanted: str, here: str, digits: str, found: str | None) -> Fact:
    """A file that must have the digits. here: its name, "" when it isn't there. found: its whole hash, if known."""
    if not here:
        return Fact(name, "different", wanted, "", "It isn't here: add the file and refresh the list.")
    if not digits or found is None:
        return Fact(name, "unknown", wanted, here, "Found by its name; its content can't be compared.")
    length = min(len(digits), len(found))
    if found.lower()[:length] == digits.lower()[:length]:
        return Fact(name, "same", wanted, here)
    note = "The file here has this name, not this content."
    return Fact(name, "different", wanted, f"{here} [{found[:HASH_DIGITS]}]", note)


def _hash_pairs(value: object) -> dict[str, str]:
    """{name: digits} from `name: hash, name: hash`."""
    pairs = (part.rpartition(":") for part in str(value or "").split(","))
    return {name.strip(): digits.strip() for name, _, digits in pairs if name.strip() and digits.strip()}


def _how_to_get(precision: str) -> str:
    if precision == "fp32":
        return "Start Easel with --no-half --precision full."
    if precision == "bf16":
        return "Made by Easel's fast mode on a processor that computes in bf16."
    return "fp16 is for graphics cards: on processors Easel has fp32 and bf16."
