"""Our axes: those of A1111 under its names and in its order, which the API counts."""

import itertools
import math
from pathlib import PureWindowsPath

from webui.extensions.api import (
    MAX_PICTURES,
    Axis,
    Choices,
    GenerationRequest,
    InvalidRequest,
    NotFound,
    Refiner,
)

SEED, VARIATION_SEED = "Seed", "Var. seed"
SPECS = {spec.dotted: spec for spec in GenerationRequest.specs()}
OFF = {
    "hires": "hires fix is off; turn it on.",
    "image": "there is no picture to start from; it belongs to img2img.",
}
RESTORERS = {"codeformer": "CodeFormer", "gfpgan": "GFPGAN"}
YES, NO = ("true", "yes", "y", "1"), ("false", "no", "n", "0", "none")


def own_axes(easel):
    """All of them. easel: whose models, styles and settings they offer."""
    return [make(label, easel) for label, make in AXES.items()]


def plain(apply, **options):
    return lambda label, easel: Axis(label, apply, **options)


def of_field(path, **options):
    """A parameter of the request."""
    return plain(lambda request, value: changed(request, path, value), type=SPECS[path].type, **options)


def of_name(path, find, **options):
    """A parameter that is a name. find: (choices, name) -> what has the name, or an error."""

    def make(label, easel):
        def apply(request, name):
            find(easel.choices, name)
            return changed(request, path, name)

        return Axis(label, apply, offered(easel, path), **options)

    return make


def of_setting(key, **options):
    def make(label, easel):
        setting = easel.settings.snapshot().setting(key)
        is_switch = setting.spec.type is bool

        def apply(request, value):
            return overridden(request, key, setting.check(value))

        def names():
            return ("False", "True") if is_switch else tuple(easel.choices_of(setting))

        listed = names if setting.choices or is_switch else None
        return Axis(label, apply, listed, type=setting.spec.type, **options)

    return make


def offered(easel, path):
    return lambda: tuple(easel.choices_of(SPECS[path]))


def checkpoint(label, easel):
    def apply(request, name):
        return overridden(request, "sd_model_checkpoint", easel.catalogs.checkpoints.find(name).title)

    return Axis(label, apply, lambda: checkpoints(easel), cost=1, words=base_name)


def refiner(label, easel):
    def apply(request, name):
        title = "None" if name in ("", "None") else easel.catalogs.checkpoints.find(name).title
        return request.replace(refiner=(request.refiner or Refiner()).replace(checkpoint=title))

    return Axis(label, apply, lambda: ("None", *checkpoints(easel)), cost=1, words=base_name)


def checkpoints(easel):
    return tuple(sorted(easel.catalogs.checkpoints.titles(), key=str.casefold))


def vae(label, easel):
    vaes = easel.catalogs.vaes

    def apply(request, name):
        special = next((known for known in ("Automatic", "None") if known.lower() == name.lower()), None)
        return overridden(request, "sd_vae", special or vaes.find(name).name)

    return Axis(label, apply, vaes.names, cost=0.7)


def styles(label, easel):
    def apply(request, name):
        known = easel.choices_of(SPECS["styles"])
        names = [part.strip() for part in name.split(",") if part.strip()]
        for each in names:
            if each not in known:
                raise NotFound(f'there is no style "{each[:100]}".')
        return request.replace(styles=(*request.styles, *names))

    return Axis(label, apply, offered(easel, "styles"))


def base_name(name):
    """The name of a checkpoint without its folders, which stand before "/" or "\\"."""
    return PureWindowsPath(name).name


def changed(request, path, value):
    """The request with the parameter at a dotted path changed. Raises: InvalidRequest when its group is off."""
    group, _, name = path.rpartition(".")
    if not group:
        return request.replace(**{name: value})
    inner = getattr(request, group)
    if inner is None:
        raise InvalidRequest(OFF[group])
    return request.replace(**{group: inner.replace(**{name: value})})


def overridden(request, key, value):
    return request.replace(overrides={**request.overrides, key: value})


def with_first(texts):
    """Each text with the first one, in whose place it comes."""
    if texts and not texts[0]:
        raise InvalidRequest("the first value is what is searched for, and it is empty.")
    return [(texts[0], text) for text in texts]


def replaced(request, pair):
    found, text = pair
    if found not in request.prompt and found not in request.negative_prompt:
        raise InvalidRequest(f'neither the prompt nor the negative prompt has "{found[:100]}".')
    return request.replace(
        prompt=request.prompt.replace(found, text), negative_prompt=request.negative_prompt.replace(found, text)
    )


def orders(texts):
    """The texts in every order."""
    if math.factorial(min(len(texts), 20)) > MAX_PICTURES:
        raise InvalidRequest(f"{len(texts)} values have more orders than {MAX_PICTURES}.")
    return list(itertools.permutations(texts))


def reordered(request, order):
    """The prompt with these parts of it in that order, each where one of them was."""
    for part in order:
        if not part or part not in request.prompt:
            raise InvalidRequest(f'the prompt has no "{part[:100]}".')
    prompt, rest = "", request.prompt
    for old, new in zip(sorted(order, key=request.prompt.find), order, strict=True):
        before, found, after = rest.partition(old)
        if not found:
            raise InvalidRequest(f'the prompt has no further "{old[:100]}" after the others.')
        prompt, rest = prompt + before + new, after
    return request.replace(prompt=prompt + rest)


def denoised(request, strength):
    group = "image" if request.image is not None else "hires"
    return changed(request, f"{group}.denoising_strength", strength)


def unipc_order(request, order):
    """As high as asked, and less than the number of steps."""
    if order < 1:
        raise InvalidRequest("it is at least 1.")
    return overridden(request, "uni_pc_order", min(order, max(request.steps - 1, 1)))


def face_restored(request, text):
    """By which network, or whether by the one of the settings."""
    wanted = text.lower()
    if wanted in RESTORERS:
        return overridden(request.replace(restore_faces=True), "face_restoration_model", RESTORERS[wanted])
    if wanted not in (*YES, *NO):
        raise InvalidRequest("it can be CodeFormer, GFPGAN, True or False.")
    return request.replace(restore_faces=wanted in YES)


def switched_at(request, share):
    return request.replace(refiner=(request.refiner or Refiner()).replace(switch_at=share))


def sized(request, text):
    width, _, height = (part.strip() for part in text.lower().partition("x"))
    if not (width.isdecimal() and height.isdecimal() and len(text) < 20):
        raise InvalidRequest("a size is written as 512x768.")
    return request.replace(width=int(width), height=int(height))


AXES = {
    SEED: of_field("seed"),
    VARIATION_SEED: of_field("variation.seed"),
    "Var. strength": of_field("variation.strength"),
    "Steps": of_field("steps"),
    "Hires steps": of_field("hires.steps", tabs=["txt2img"]),
    "CFG Scale": of_field("cfg_scale"),
    "Image CFG Scale": of_field("image.image_cfg_scale", tabs=["img2img"]),
    "Prompt S/R": plain(replaced, prepare=with_first, words=lambda pair: pair[1]),
    "Prompt order": plain(reordered, prepare=orders, words=", ".join),
    "Sampler": of_name("sampler", Choices.find_sampler, words=str),
    "Hires sampler": of_name("hires.sampler", Choices.find_sampler, tabs=["txt2img"]),
    "Checkpoint name": checkpoint,
    "Negative Guidance minimum sigma": of_field("sampler_options.s_min_uncond"),
    "Sigma Churn": of_field("sampler_options.s_churn"),
    "Sigma min": of_field("sampler_options.s_tmin"),
    "Sigma max": of_field("sampler_options.s_tmax"),
    "Sigma noise": of_field("sampler_options.s_noise"),
    "Schedule type": of_name("scheduler", Choices.find_scheduler),
    "Schedule min sigma": of_setting("sigma_min"),
    "Schedule max sigma": of_setting("sigma_max"),
    "Schedule rho": of_setting("rho"),
    "Beta schedule alpha": of_setting("beta_dist_alpha"),
    "Beta schedule beta": of_setting("beta_dist_beta"),
    "Eta": of_field("sampler_options.eta"),
    "Clip skip": of_setting("CLIP_stop_at_last_layers"),
    "Denoising": plain(denoised, type=float),
    "Initial noise multiplier": of_field("image.noise_multiplier"),
    "Extra noise": of_setting("img2img_extra_noise"),
    "Hires upscaler": of_name("hires.upscaler", Choices.find_hires_upscaler, tabs=["txt2img"]),
    "Cond. Image Mask Weight": of_setting("inpainting_mask_weight", tabs=["img2img"]),
    "VAE": vae,
    "Styles": styles,
    "UniPC Order": plain(unipc_order, type=int, cost=0.5),
    "Face restore": plain(face_restored, words=str),
    "Token merging ratio": of_setting("token_merging_ratio"),
    "Token merging ratio high-res": of_setting("token_merging_ratio_hr"),
    "Always discard next-to-last sigma": of_setting("always_discard_next_to_last_sigma"),
    "SGM noise multiplier": of_setting("sgm_noise_multiplier"),
    "Refiner checkpoint": refiner,
    "Refiner switch at": plain(switched_at, type=float),
    "RNG source": of_setting("randn_source"),
    "FP8 mode": of_setting("fp8_storage", cost=0.9),
    "Size": plain(sized),
    "[Hypertile] Unet First pass Enabled": of_setting("hypertile_enable_unet"),
    "[Hypertile] Unet Second pass Enabled": of_setting("hypertile_enable_unet_secondpass"),
    "[Hypertile] Unet Max Depth": of_setting("hypertile_max_depth_unet"),
    "[Hypertile] Unet Max Tile Size": of_setting("hypertile_max_tile_unet"),
    "[Hypertile] Unet Swap Size": of_setting("hypertile_swap_size_unet"),
    "[Hypertile] VAE Enabled": of_setting("hypertile_enable_vae"),
    "[Hypertile] VAE Max Depth": of_setting("hypertile_max_depth_vae"),
    "[Hypertile] VAE Max Tile Size": of_setting("hypertile_max_tile_vae"),
    "[Hypertile] VAE Swap Size": of_setting("hypertile_swap_size_vae"),
}
"""By name, in A1111's order: how each is made, (label, easel) -> Axis."""
