"""Settings that are known and kept and that nothing reads, each with the reason.

A1111's clients and settings files name them, so they are accepted; whoever changes one is told. A setting that comes to
be read leaves this list: tests/core/test_effects.py holds it against the program's text, docs/settings-left-out.md
shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from webui.core.settings import Settings

_REASONS: Final[Mapping[str, str]] = {
    "the upscaler LDSR isn't in this version": "ldsr_steps ldsr_cached",
    "upscalers aren't compiled in this version": "SWIN_torch_compile",
    "the page shows the progress of upscaling, the console none": "enable_upscale_progressbar",
    "latents are kept, so VAE and CLIP have little to do": "unload_models_when_training",
    "pictures are read once and kept as latents": "pin_memory",
    "a training that is gone on with begins its optimizer anew; one that was cut off has its own state": """
        save_optimizer_state""",
    "a training's log has every step": "training_write_csv_every",
    "trainings always use torch's own efficient attention": "training_xattention_optimizations",
    "an epoch has every picture once; a folder's name repeats it": "training_image_repeats_per_epoch",
    "a VAE attends at one size alone": "hypertile_max_depth_vae",
    "there is no profiler in this version": """
        profiling_enable profiling_activities profiling_record_shapes profiling_profile_memory profiling_with_stack
        profiling_filename""",
    "no pictures are fetched from addresses in this version": """
        api_enable_requests api_forbid_local_requests api_useragent""",
    "archives are named by time, model and seeds": "grid_zip_filename_pattern",
    "the Save button uses one folder": "use_save_to_dirs_for_ui",
    "temporary files have a folder of their own below the data folder": "temp_dir clean_temp_dir_at_start",
    "LoRAs are always merged in full precision, in one way": "lora_functional cache_fp16_weight",
    "descriptions are always shown as plain text": "extra_networks_card_description_is_html",
    "Easel's log has lines of its own": """
        textual_inversion_print_at_load show_warnings
        show_gradio_deprecation_warnings multiple_tqdm print_hypernet_extra hide_ldm_prints
        dump_stacks_on_signal memmon_poll_rate""",
    "what is missing is told beside the picture": "lora_not_found_gradio_warning",
    "encoded prompts aren't kept from one job to the next": "persistent_cond_cache",
    "every picture has its own noise, alone and in a batch": "enable_batch_seeds",
    "A1111 has read it nowhere since version 1.6 either": "ddim_discretize",
    "there is one U-Net implementation": "sd_unet",
    "T5 isn't loaded in this version": "sd3_enable_t5",
    "an interrupted picture is always decoded by the VAE": "live_preview_fast_interrupt",
    "folders named with a dot are searched for networks and passed over for checkpoints": "list_hidden_files",
    "safetensors files are always mapped into memory": "disable_mmap_load_safetensors",
    "the flag --autolaunch opens the browser": "auto_launch_browser",
    "sets of extensions are restored from the Extensions tab, not at a start": "restore_config_state_file",
    "it follows from the checkpoint": "sd_checkpoint_hash",
    "pictures are drawn in Gradio's editor, which has keys of its own": """
        canvas_hotkey_zoom canvas_hotkey_adjust canvas_hotkey_shrink_brush canvas_hotkey_grow_brush canvas_hotkey_move
        canvas_hotkey_fullscreen canvas_hotkey_reset canvas_hotkey_overlap canvas_show_tooltip canvas_auto_expand
        canvas_blur_prompt canvas_disabled_functions""",
    "lists of samplers are lists, not rows of buttons": "samplers_in_dropdown",
    "the prompts stand above the tabs": "compact_prompt_box",
    "checkpoints of one name in two folders could not be told apart": "sd_checkpoint_dropdown_use_short",
    "themes come with Gradio and none is fetched": "gradio_themes_cache",
    "the page's scripts change with Easel alone": "enable_reloading_ui_scripts",
}

WITHOUT_EFFECT: Final[Mapping[str, str]] = MappingProxyType(
    {key: reason for reason, keys in _REASONS.items() for key in keys.split()}
)
"""Key of a setting that nothing reads -> why, as the end of a sentence."""


def ineffective(changes: Iterable[str]) -> Iterator[str]:
    """A sentence for each of the settings that has no effect."""
    for key in changes:
        if key in WITHOUT_EFFECT:
            yield f'Setting "{key}" has no effect: {WITHOUT_EFFECT[key]}.'


def changed(wished: Mapping[str, Any], current: Settings) -> Iterator[str]:
    """The keys whose wished value isn't the current one."""
    return (key for key, value in wished.items() if key in current and current[key] != value)
