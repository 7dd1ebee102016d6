"""Hypertile: self-attention within tiles of the picture instead of over all of it, which makes large pictures faster.

Source: Hypertile by tfernd, https://github.com/tfernd/HyperTile
"""

from dataclasses import replace

from webui.extensions.api import hookimpl


@hookimpl
def revise_pass(parts, this_pass):
    plan, fields = this_pass.plan, this_pass.report.fields
    settings = plan.settings
    if settings["hypertile_enable_vae"]:
        fields["Hypertile VAE"] = True
        fields.update(_changed(settings, "max_tile_vae", "swap_size_vae"))
    second_alone = this_pass.kind == "hires" and settings["hypertile_enable_unet_secondpass"]
    if not this_pass.model.capabilities.unet or not (settings["hypertile_enable_unet"] or second_alone):
        return None
    from .tiles import Tiling, UNetTiling

    fields["Hypertile U-Net" if settings["hypertile_enable_unet"] else "Hypertile U-Net second pass"] = True
    fields.update(_changed(settings, "max_depth_unet", "max_tile_unet", "swap_size_unet"))
    tiling = Tiling(settings["hypertile_max_tile_unet"], settings["hypertile_swap_size_unet"], plan.seeds[0])
    return replace(parts, hooks=(UNetTiling(tiling, settings["hypertile_max_depth_unet"]), *parts.hooks))


@hookimpl
def prepare_model(model, plan):
    settings = plan.settings
    if not settings["hypertile_enable_vae"]:
        return None
    from .tiles import Tiling, tiled_vae

    tiling = Tiling(settings["hypertile_max_tile_vae"], settings["hypertile_swap_size_vae"], plan.seeds[0])
    return tiled_vae(model.vae.module, tiling)


def _changed(settings, *names):
    """Infotext entries of those settings that aren't at their defaults."""
    asked = [settings.setting(f"hypertile_{name}") for name in names]
    return {one.infotext: settings[one.key] for one in asked if settings[one.key] != one.default}
