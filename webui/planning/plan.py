"""From what was asked to what will happen: seeds drawn, names looked up, settings copied.

Every later stage reads only the plan; it holds no -1, no "same as above" and no "ask the settings". It is made when a
job is submitted, so it reads no large file: the hashes that nobody knows yet are computed when the job runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.catalog.vaes import VaeUse
from webui.core.choices import (
    LATENT_UPSCALERS,
    SAME_CHECKPOINT,
    SAME_SAMPLER,
    SAME_SCHEDULER,
    Choices,
    Sampler,
    Scheduler,
)
from webui.core.errors import InvalidRequest
from webui.core.params import Params
from webui.core.request import FromImage, GenerationRequest, HiresFix, SamplerOptions, SoftInpainting, drawn
from webui.core.settings import Settings
from webui.prompts.comments import strip_comments
from webui.prompts.networks import NetworkTag, cut_networks, with_default_tags
from webui.prompts.styles import StyleStore

MAX_SCHEDULE = 1_000_000
"""Steps of a whole schedule, of which a pass from a picture walks the last part."""


@dataclass(frozen=True)
class Churn:
    """Noise added within steps of Euler and Heun; `s_noise` scales all noise that samplers add."""

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0


@dataclass(frozen=True)
class SamplingPlan:
    """One pass of sampling: size in pixels, method, and the prompts of every picture.

    scheduler is as chosen (Automatic stays), schedule what it means for the sampler.
    eta: 0 is deterministic. denoise: None starts from noise alone.
    exact_steps: with `denoise`, whether `steps` are walked, or are the whole schedule, whose last part is walked.
    noise_multiplier: of the first noise. extra_noise: more of it, over a picture to start from.
    checkpoint: the model of this pass. token_merging: share of the tokens merged in self-attention.
    """

    width: int
    height: int
    steps: int
    sampler: Sampler
    scheduler: Scheduler
    schedule: Scheduler
    eta: float
    churn: Churn
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    checkpoint: Checkpoint
    denoise: float | None = None
    exact_steps: bool = True
    noise_multiplier: float = 1.0
    extra_noise: float = 0.0
    token_merging: float = 0.0

    def prompts_of(self, indices: range) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The prompts and the negative prompts of the pictures of one batch."""
        return (
            tuple(self.prompts[index] for index in indices),
            tuple(self.negative_prompts[index] for index in indices),
        )

    @property
    def total_calls(self) -> int:
        """Denoiser calls of all steps, as prompt editing counts them."""
        return self.steps * self.sampler.calls_per_step

    @property
    def schedule_steps(self) -> int:
        """Steps of the whole schedule, of which a pass from a picture walks the last part."""
        if self.denoise is None or not self.exact_steps:
            return self.steps
        return int(self.steps / min(self.denoise, 0.999)) if self.denoise else 0

    @property
    def walked_steps(self) -> int:
        """Steps that this pass takes; a pass from a picture takes one even at a denoise of 0."""
        if self.denoise is None or self.exact_steps:
            return self.steps
        return int(self.steps * min(self.denoise, 0.999)) + 1

    @property
    def walked_calls(self) -> int:
        """Denoiser calls expected of this pass."""
        return self.walked_steps * self.sampler.calls_per_step

    @property
    def default_eta(self) -> float:
        return 0.0 if self.sampler.timesteps else 1.0


@dataclass(frozen=True)
class HiresPlan:
    """The second pass, and how the first one's latents get to its size.

    upscale_width, upscale_height: pixels after upscaling, before what overhangs is cut off.
    """

    upscaler: str
    upscale_width: int
    upscale_height: int
    sampling: SamplingPlan

    @property
    def is_latent(self) -> bool:
        return self.upscaler in LATENT_UPSCALERS


@dataclass(frozen=True)
class RefinerPlan:
    """When another checkpoint takes over, as a share of the noise (or of the steps, by setting)."""

    checkpoint: Checkpoint
    switch_at: float
    passes: Literal["first pass", "second pass", "both passes"]
    by_steps: bool


@dataclass(frozen=True)
class GenerationPlan:
    """A whole job. seeds, subseeds: one a picture, over all batches.

    settings: the snapshot with the request's overrides in it.
    first: the pass every picture takes; hires: the second one, if any.
    vaes: how latents become pictures, by the path of the checkpoint; see `vae_of`.
    written: prompt and negative prompt that the texts of all pictures say in place of their own, None for those.
    together: how many pictures of a batch the network works on at a time at most, None for all.
    """

    request: GenerationRequest
    settings: Settings
    seeds: tuple[int, ...]
    subseeds: tuple[int, ...]
    first: SamplingPlan
    hires: HiresPlan | None
    refiner: RefinerPlan | None
    tiling: bool
    clip_skip: int
    vaes: Mapping[Path, VaeUse] = field(default_factory=dict)
    written: tuple[str, str] | None = None
    together: int | None = None

    def vae_of(self, checkpoint: Checkpoint) -> VaeUse:
        """How that checkpoint's latents become pictures."""
        return self.vaes.get(checkpoint.path, VaeUse())

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Every checkpoint that takes part."""
        second = [self.hires.sampling.checkpoint] if self.hires else []
        return (self.first.checkpoint, *second, *([self.refiner.checkpoint] if self.refiner else []))

    def with_checkpoints(self, change: Callable[[Checkpoint], Checkpoint]) -> GenerationPlan:
        """The plan with every checkpoint replaced by what `change` makes of it, at the same path."""
        hires, refiner = self.hires, self.refiner
        if hires:
            second = replace(hires.sampling, checkpoint=change(hires.sampling.checkpoint))
            hires = replace(hires, sampling=second)
        if refiner:
            refiner = replace(refiner, checkpoint=change(refiner.checkpoint))
        first = replace(self.first, checkpoint=change(self.first.checkpoint))
        return replace(self, first=first, hires=hires, refiner=refiner)

    @property
    def batches(self) -> list[range]:
        """The numbers of the pictures that are made together: batches, split where the networks of prompts differ."""
        size = self.request.batch_size
        whole = [range(start, start + size) for start in range(0, len(self.seeds), size)]
        passes = (self.first, *([self.hires.sampling] if self.hires else []))
        if self.request.disable_extra_networks or all(len(set(sampling.prompts)) == 1 for sampling in passes):
            return whole

        def networks(index: int) -> list[tuple[NetworkTag, ...]]:
            return [cut_networks(sampling.prompts[index]).tags for sampling in passes]

        parts = [list(part) for batch in whole for _, part in groupby(batch, networks)]
        return [range(part[0], part[-1] + 1) for part in parts]

    def seeds_of(self, indices: range) -> tuple[int, ...]:
        """The seeds of the pictures of one batch."""
        return tuple(self.seeds[index] for index in indices)

    @property
    def face_restorer(self) -> str | None:
        """Who is to restore faces, None for nobody."""
        asked = self.request.restore_faces
        wished = self.settings["face_restoration"] if asked is None else asked
        return self.settings["face_restoration_model"] if wished else None

    @property
    def soft_inpainting(self) -> SoftInpainting | None:
        """How softly what is inpainted is blended, None for not at all."""
        inpaint = self.request.image.inpaint if self.request.image else None
        return inpaint.soft if inpaint else None

    def extension(self, group: type[Params]) -> Any:
        """The values of an extension's parameter group."""
        return self.request.extension(group)


def make_plan(
    request: GenerationRequest,
    settings: Settings,
    checkpoints: CheckpointCatalog,
    styles: StyleStore,
    choices: Choices,
) -> GenerationPlan:
    """Decide everything the request leaves open. Raises: InvalidRequest, NotFound."""
    stored, settings = settings, settings.replace(**request.overrides)
    if request.image is not None:
        request = _batched_as(request, request.image)
    if request.hires and settings["use_old_hires_fix_width_height"]:
        request = _sized_as_of_old(request, request.hires)
    count = request.batch_count * request.batch_size
    sampler, scheduler = choices.find_sampler(request.sampler, request.scheduler)
    prompts = _prompts(request.prompt, request, settings, styles, count, negative=False)
    negatives = _prompts(request.negative_prompt, request, settings, styles, count, negative=True)
    named = request.overrides.get("sd_model_checkpoint")
    checkpoint = checkpoints.find(named) if named else checkpoints.default(settings["sd_model_checkpoint"] or "")
    first = SamplingPlan(
        width=request.width,
        height=request.height,
        steps=request.steps,
        sampler=sampler,
        scheduler=scheduler,
        schedule=choices.resolve_schedule(sampler, scheduler),
        eta=_eta(request.sampler_options, sampler, settings),
        churn=_churn(request.sampler_options, settings),
        prompts=prompts,
        negative_prompts=negatives,
        checkpoint=checkpoint,
        token_merging=_token_merging(request, settings),
        **(_from_image(request.image, settings, stored) if request.image else {}),
    )
    hires = _hires(request.hires, first, request, settings, checkpoints, styles, choices) if request.hires else None
    for sampling in (first, *([hires.sampling] if hires else [])):
        _check_schedule(sampling)
    variation = request.variation
    seed, subseed = drawn(request.seed), drawn(variation.seed)
    return GenerationPlan(
        request=request,
        settings=settings,
        seeds=tuple(seed if variation.strength else seed + index for index in range(count)),
        subseeds=tuple(subseed + index for index in range(count)),
        first=first,
        hires=hires,
        refiner=_refiner(request, settings, checkpoints),
        tiling=settings["tiling"] if request.tiling is None else request.tiling,
        clip_skip=settings["CLIP_stop_at_last_layers"],
    )


def _check_schedule(sampling: SamplingPlan) -> None:
    """Raises: InvalidRequest for a denoising strength so small that its few steps end a schedule beyond all measure."""
    if sampling.exact_steps and sampling.denoise and sampling.denoise < sampling.steps / MAX_SCHEDULE:
        raise InvalidRequest(
            f"{sampling.steps} steps at a denoising strength of {sampling.denoise:g} are the end of a schedule of "
            f"more than {MAX_SCHEDULE} steps; raise the denoising strength, or set it to 0."
        )


def _batched_as(request: GenerationRequest, image: FromImage) -> GenerationRequest:
    """The request with a batch of as many pictures as it starts from, if that is more than one."""
    given = len(image.images)
    if request.hires is not None:
        raise InvalidRequest("Hires. fix belongs to txt2img; take it out, or upscale with a larger size in img2img.")
    if not given:
        raise InvalidRequest("There is no picture to start from; give img2img one.")
    if given > request.batch_size and given > 1:
        raise InvalidRequest(
            f"{given} pictures to start from are too many for a batch of {request.batch_size}; "
            "raise the batch size, or send fewer."
        )
    return request.replace(batch_size=given) if given > 1 else request


def _from_image(image: FromImage, settings: Settings, stored: Settings) -> dict[str, Any]:
    """What a pass from a picture has beyond others.

    stored: the settings without the request's own; the noise multiplier is taken from them, as A1111 does.
    """
    multiplier = stored["initial_noise_multiplier"] if image.noise_multiplier is None else image.noise_multiplier
    return {
        "denoise": image.denoising_strength,
        "exact_steps": settings["img2img_fix_steps"],
        "noise_multiplier": multiplier,
        "extra_noise": settings["img2img_extra_noise"],
    }


OLD_FIRST_PASS = 512 * 512, 64
"""Pixels of the first pass, and what its sides are multiples of, when its size isn't asked for."""


def _sized_as_of_old(request: GenerationRequest, hires: HiresFix) -> GenerationRequest:
    """Width and height as those of the second pass; the first has their ratio and about 512 x 512 pixels."""
    pixels, multiple = OLD_FIRST_PASS
    scale = math.sqrt(pixels / (request.width * request.height))
    return request.replace(
        width=math.ceil(scale * request.width / multiple) * multiple,
        height=math.ceil(scale * request.height / multiple) * multiple,
        hires=hires.replace(resize_width=request.width, resize_height=request.height),
    )


def _prompts(
    text: str, request: GenerationRequest, settings: Settings, styles: StyleStore, count: int, *, negative: bool
) -> tuple[str, ...]:
    apply = styles.apply_negative if negative else styles.apply
    styled = apply(text, request.styles)
    if settings["enable_prompt_comments"]:
        styled = strip_comments(styled)
    if not negative and not request.disable_extra_networks:
        defaults = {"hypernet": settings["sd_hypernetwork"], "lora": settings["sd_lora"]}
        styled = with_default_tags(styled, defaults, settings["extra_networks_default_multiplier"])
    return (styled,) * count


def _eta(options: SamplerOptions, sampler: Sampler, settings: Settings) -> float:
    if options.eta is not None:
        return options.eta
    eta: float = settings["eta_ddim" if sampler.timesteps else "eta_ancestral"]
    return eta


def _token_merging(request: GenerationRequest, settings: Settings) -> float:
    """For img2img the ratio of its own, unless the request asks for the general one."""
    ratio: float = settings["token_merging_ratio"]
    if request.image is None or request.overrides.get("token_merging_ratio"):
        return ratio
    return settings["token_merging_ratio_img2img"] or ratio


def _churn(options: SamplerOptions, settings: Settings) -> Churn:
    """The request's values, unless the settings hold something other than the built-in default."""

    def chosen(key: str, default: float) -> float:
        setting = float(settings[key])
        asked = getattr(options, key)
        return setting if setting != default or asked is None else float(asked)

    return Churn(
        s_churn=chosen("s_churn", 0.0),
        s_tmin=chosen("s_tmin", 0.0),
        s_tmax=chosen("s_tmax", 0.0) or math.inf,
        s_noise=chosen("s_noise", 1.0),
    )


def _named(name: str | None, same: str) -> str | None:
    return name if name and name != same else None


def _hires(
    hires: HiresFix,
    first: SamplingPlan,
    request: GenerationRequest,
    settings: Settings,
    checkpoints: CheckpointCatalog,
    styles: StyleStore,
    choices: Choices,
) -> HiresPlan:
    upscaler = choices.find_hires_upscaler(hires.upscaler)
    if upscaler not in LATENT_UPSCALERS:
        choices.find_upscaler(upscaler).require()
    width, height, upscale_width, upscale_height = target_size(hires, first.width, first.height)
    sampler_name, scheduler_name = _named(hires.sampler, SAME_SAMPLER), _named(hires.scheduler, SAME_SCHEDULER)
    sampler, scheduler = first.sampler, first.scheduler
    if sampler_name:
        sampler, scheduler = choices.find_sampler(sampler_name, scheduler_name or first.scheduler.name)
    elif scheduler_name:
        scheduler = choices.find_scheduler(scheduler_name)
    checkpoint_name = _named(hires.checkpoint, SAME_CHECKPOINT)
    count = len(first.prompts)
    prompts, negatives = first.prompts, first.negative_prompts
    if hires.prompt:
        prompts = _prompts(hires.prompt, request, settings, styles, count, negative=False)
    if hires.negative_prompt:
        negatives = _prompts(hires.negative_prompt, request, settings, styles, count, negative=True)
    return HiresPlan(
        upscaler=upscaler,
        upscale_width=upscale_width,
        upscale_height=upscale_height,
        sampling=SamplingPlan(
            width=width,
            height=height,
            steps=hires.steps or first.steps,
            sampler=sampler,
            scheduler=scheduler,
            schedule=choices.resolve_schedule(sampler, scheduler),
            eta=_eta(request.sampler_options, sampler, settings),
            churn=first.churn,
            prompts=prompts,
            negative_prompts=negatives,
            checkpoint=checkpoints.find(checkpoint_name) if checkpoint_name else first.checkpoint,
            denoise=hires.denoising_strength,
            extra_noise=settings["img2img_extra_noise"],
            token_merging=settings["token_merging_ratio_hr"] or first.token_merging,
        ),
    )


def target_size(hires: HiresFix, width: int, height: int) -> tuple[int, int, int, int]:
    """(width, height) of the second pass, and of the picture before it is cut to that, in pixels.

    A scale multiplies both sides; one side given keeps the ratio; both given cover the target and
    the rest is cut off. The pass itself runs at multiples of 8, the latent's grid.
    """
    x, y = hires.resize_width, hires.resize_height
    if not x and not y:
        covered = int(width * hires.scale), int(height * hires.scale)
        target = covered
    elif not y:
        target = covered = x, x * height // width
    elif not x:
        target = covered = y * width // height, y
    else:
        target = x, y
        covered = (x, x * height // width) if width / height < x / y else (y * width // height, y)
    if min(target) < 8:
        raise InvalidRequest(f"Hires. fix makes {width}x{height} only {target[0]}x{target[1]} pixels; 8 is the least.")
    return target[0] // 8 * 8, target[1] // 8 * 8, *covered


def _refiner(request: GenerationRequest, settings: Settings, checkpoints: CheckpointCatalog) -> RefinerPlan | None:
    refiner = request.refiner
    if refiner is None or refiner.checkpoint in ("", "None"):
        return None
    return RefinerPlan(
        checkpoint=checkpoints.find(refiner.checkpoint),
        switch_at=refiner.switch_at,
        passes=settings["hires_fix_refiner_pass"],
        by_steps=settings["refiner_switch_by_sample_steps"],
    )
