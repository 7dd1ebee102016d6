"""Every parameter of an animation, in the order of the settings file; page, API and files derive from this class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from webui.extensions.api import Params, param

FLOWS = ("None", "RAFT", "DIS Medium", "DIS Fine", "Farneback")
FILLS = ("fill", "original", "latent noise", "latent nothing")
DEPTH_ALGORITHMS = (
    "Midas+AdaBins (old)", "Zoe+AdaBins (old)", "Midas-3-Hybrid", "AdaBins", "Zoe", "Leres", "Depth Anything",
)  # fmt: skip
UNITS = 5


@dataclass(frozen=True)
class Keyed:
    """Marks a parameter that is a schedule. of_texts: its values are texts, not numbers."""

    of_texts: bool = False


Schedule = Annotated[str, Keyed()]
TextSchedule = Annotated[str, Keyed(of_texts=True)]


def _schedule(value: str, label: str) -> Any:
    return param(value, label=label)


def _switch(value: bool, label: str) -> Any:
    return param(value, label=label)


class ControlUnit(Params):
    """One ControlNet unit; in files and the API its keys begin with cn_1_ to cn_5_."""

    overwrite_frames: bool = _switch(True, "Overwrite existing input frames")
    vid_path: str = param("", label="Input video or picture")
    mask_vid_path: str = param("", label="Mask video or picture")
    enabled: bool = _switch(False, "Enable")
    low_vram: bool = _switch(False, "Low VRAM")
    pixel_perfect: bool = _switch(False, "Pixel Perfect")
    module: str = param("none", label="Preprocessor")
    model: str = param("None", label="Model")
    weight: Schedule = _schedule("0:(1)", "Weight")
    guidance_start: Schedule = _schedule("0:(0.0)", "Starting control step")
    guidance_end: Schedule = _schedule("0:(1.0)", "Ending control step")
    processor_res: int = param(64, label="Resolution of the preprocessor", slider=(64, 2048, 8))
    threshold_a: float = param(64, label="Threshold A", slider=(0, 255, 1))
    threshold_b: float = param(64, label="Threshold B", slider=(0, 255, 1))
    resize_mode: str = param("Inner Fit (Scale to Fit)", label="Resize mode")
    control_mode: str = param("Balanced", label="Control mode")
    loopback_mode: bool = _switch(False, "Loopback mode")


class Settings(Params):
    """An animation as it was asked for; the seed may be -1."""

    W: int = param(512, label="Width", ge=8, le=8192, slider=(64, 2048, 64))
    H: int = param(512, label="Height", ge=8, le=8192, slider=(64, 2048, 64))
    show_info_on_ui: bool = _switch(True, "Show more info")
    tiling: bool = _switch(False, "Tiling")
    restore_faces: bool = _switch(False, "Restore faces")
    seed_resize_from_w: int = param(0, label="Resize seed from width", ge=0, le=8192)
    seed_resize_from_h: int = param(0, label="Resize seed from height", ge=0, le=8192)
    seed: int = param(-1, label="Seed", ge=-1, le=2**63 - 1)
    sampler: str = param("Euler a", label="Sampler", choices="samplers")
    steps: int = param(25, label="Steps", ge=1, le=200, step=1)
    batch_name: str = param("Deforum_{timestring}", label="Batch name", max_length=1000)
    seed_behavior: str = param(
        "iter", label="Seed behavior", choices=("iter", "fixed", "random", "ladder", "alternate", "schedule")
    )
    seed_iter_N: int = param(1, label="Seed iter N", ge=1, le=1_000_000)
    use_init: bool = _switch(False, "Use init")
    strength: float = param(0.8, label="Strength", ge=0, le=1, step=0.01)
    strength_0_no_init: bool = _switch(True, "Strength 0 no init")
    init_image: str | None = param(None, label="Init image")
    use_mask: bool = _switch(False, "Use mask")
    use_alpha_as_mask: bool = _switch(False, "Use alpha as mask")
    mask_file: str = param("https://deforum.github.io/a1/M1.jpg", label="Mask file")
    invert_mask: bool = _switch(False, "Invert mask")
    mask_contrast_adjust: float = param(1.0, label="Mask contrast", ge=0, le=100)
    mask_brightness_adjust: float = param(1.0, label="Mask brightness", ge=0, le=100)
    overlay_mask: bool = _switch(True, "Overlay mask")
    mask_overlay_blur: float = param(4, label="Mask overlay blur", ge=0, le=64, step=1)
    fill: str = param("original", label="Mask fill", choices=FILLS)
    full_res_mask: bool = _switch(True, "Full res mask")
    full_res_mask_padding: int = param(4, label="Full res mask padding", ge=0, le=512, step=1)
    reroll_blank_frames: str = param("ignore", label="Reroll blank frames", choices=("reroll", "interrupt", "ignore"))
    reroll_patience: int = param(10, label="Reroll patience", ge=0, le=1000)
    motion_preview_mode: bool = _switch(False, "Motion preview mode (dry run)")

    prompts: dict[str, str] = param({"0": "a quiet valley at dawn, morning mist"}, label="Prompts")
    positive_prompts: str = param("", label="Prompts positive")
    negative_prompts: str = param("", label="Prompts negative")

    animation_mode: str = param("2D", label="Animation mode", choices=("2D", "3D", "Video Input", "Interpolation"))
    max_frames: int = param(120, label="Max frames", ge=1, le=1_000_000)
    border: str = param("replicate", label="Border mode", choices=("replicate", "wrap"))
    angle: Schedule = _schedule("0: (0)", "Angle")
    zoom: Schedule = _schedule("0: (1.0025+0.002*sin(1.25*3.14*t/30))", "Zoom")
    translation_x: Schedule = _schedule("0: (0)", "Translation X")
    translation_y: Schedule = _schedule("0: (0)", "Translation Y")
    translation_z: Schedule = _schedule("0: (1.75)", "Translation Z")
    transform_center_x: Schedule = _schedule("0: (0.5)", "Transform center X")
    transform_center_y: Schedule = _schedule("0: (0.5)", "Transform center Y")
    rotation_3d_x: Schedule = _schedule("0: (0)", "Rotation 3D X")
    rotation_3d_y: Schedule = _schedule("0: (0)", "Rotation 3D Y")
    rotation_3d_z: Schedule = _schedule("0: (0)", "Rotation 3D Z")
    enable_perspective_flip: bool = _switch(False, "Enable perspective flip")
    perspective_flip_theta: Schedule = _schedule("0: (0)", "Perspective flip theta")
    perspective_flip_phi: Schedule = _schedule("0: (0)", "Perspective flip phi")
    perspective_flip_gamma: Schedule = _schedule("0: (0)", "Perspective flip gamma")
    perspective_flip_fv: Schedule = _schedule("0: (53)", "Perspective flip fv")
    noise_schedule: Schedule = _schedule("0: (0.065)", "Noise")
    strength_schedule: Schedule = _schedule("0: (0.65)", "Strength")
    contrast_schedule: Schedule = _schedule("0: (1.0)", "Contrast")
    cfg_scale_schedule: Schedule = _schedule("0: (7)", "CFG scale")
    enable_steps_scheduling: bool = _switch(False, "Enable steps scheduling")
    steps_schedule: Schedule = _schedule("0: (25)", "Steps")
    fov_schedule: Schedule = _schedule("0: (70)", "FOV")
    aspect_ratio_schedule: Schedule = _schedule("0: (1)", "Aspect ratio")
    aspect_ratio_use_old_formula: bool = _switch(False, "Use old aspect ratio formula")
    near_schedule: Schedule = _schedule("0: (200)", "Near")
    far_schedule: Schedule = _schedule("0: (10000)", "Far")
    seed_schedule: Schedule = _schedule('0:(s), 1:(-1), "max_f-2":(-1), "max_f-1":(s)', "Seed")
    pix2pix_img_cfg_scale_schedule: Schedule = _schedule("0:(1.5)", "Pix2Pix image CFG")
    enable_subseed_scheduling: bool = _switch(False, "Enable subseed scheduling")
    subseed_schedule: Schedule = _schedule("0: (1)", "Subseed")
    subseed_strength_schedule: Schedule = _schedule("0: (0)", "Subseed strength")
    enable_sampler_scheduling: bool = _switch(False, "Enable sampler scheduling")
    sampler_schedule: TextSchedule = _schedule('0: ("Euler a")', "Sampler")
    use_noise_mask: bool = _switch(False, "Use noise mask")
    mask_schedule: TextSchedule = _schedule('0: ("{video_mask}")', "Mask")
    noise_mask_schedule: TextSchedule = _schedule('0: ("{video_mask}")', "Noise mask")
    enable_checkpoint_scheduling: bool = _switch(False, "Enable checkpoint scheduling")
    checkpoint_schedule: TextSchedule = _schedule('0: ("model1.ckpt"), 100: ("model2.safetensors")', "Checkpoint")
    enable_clipskip_scheduling: bool = _switch(False, "Enable CLIP skip scheduling")
    clipskip_schedule: Schedule = _schedule("0: (2)", "CLIP skip")
    enable_noise_multiplier_scheduling: bool = _switch(True, "Enable noise multiplier scheduling")
    noise_multiplier_schedule: Schedule = _schedule("0: (1.05)", "Noise multiplier")
    resume_from_timestring: bool = _switch(False, "Resume from timestring")
    resume_timestring: str = param("20230129210106", label="Resume timestring")
    enable_ddim_eta_scheduling: bool = _switch(False, "Enable DDIM eta scheduling")
    ddim_eta_schedule: Schedule = _schedule("0: (0)", "DDIM eta")
    enable_ancestral_eta_scheduling: bool = _switch(False, "Enable ancestral eta scheduling")
    ancestral_eta_schedule: Schedule = _schedule("0: (1)", "Ancestral eta")
    amount_schedule: Schedule = _schedule("0: (0.1)", "Anti-blur amount")
    kernel_schedule: Schedule = _schedule("0: (5)", "Anti-blur kernel size")
    sigma_schedule: Schedule = _schedule("0: (1)", "Anti-blur sigma")
    threshold_schedule: Schedule = _schedule("0: (0)", "Anti-blur threshold")
    color_coherence: str = param(
        "LAB", label="Color coherence", choices=("None", "HSV", "LAB", "RGB", "Video Input", "Image")
    )
    color_coherence_image_path: str = param("", label="Color coherence image")
    color_coherence_video_every_N_frames: int = param(1, label="Color coherence video every N frames", ge=1, le=10_000)
    color_force_grayscale: bool = _switch(False, "Color force grayscale")
    legacy_colormatch: bool = _switch(False, "Legacy colormatch")
    diffusion_cadence: int = param(2, label="Cadence", ge=1, le=50, step=1)
    optical_flow_cadence: str = param("None", label="Optical flow cadence", choices=FLOWS)
    cadence_flow_factor_schedule: Schedule = _schedule("0: (1)", "Cadence flow factor")
    optical_flow_redo_generation: str = param("None", label="Optical flow generation", choices=FLOWS)
    redo_flow_factor_schedule: Schedule = _schedule("0: (1)", "Generation flow factor")
    diffusion_redo: int = param(0, label="Redo generation", ge=0, le=50, step=1)
    noise_type: str = param("perlin", label="Noise type", choices=("uniform", "perlin"))
    perlin_octaves: int = param(4, label="Perlin octaves", ge=1, le=7, step=1)
    perlin_persistence: float = param(0.5, label="Perlin persistence", ge=0, le=1, step=0.02)
    use_depth_warping: bool = _switch(True, "Use depth warping")
    depth_algorithm: str = param(
        "Midas-3-Hybrid",
        label="Depth algorithm",
        choices=DEPTH_ALGORITHMS,
    )
    midas_weight: float = param(0.2, label="MiDaS/Zoe weight", ge=0, le=1, step=0.05)
    padding_mode: str = param("border", label="Padding mode", choices=("border", "reflection", "zeros"))
    sampling_mode: str = param("bicubic", label="Sampling mode", choices=("bicubic", "bilinear", "nearest"))
    save_depth_maps: bool = _switch(False, "Save depth maps")

    video_init_path: str = param("https://deforum.github.io/a1/V1.mp4", label="Video init path")
    extract_nth_frame: int = param(1, label="Extract nth frame", ge=1, le=100_000)
    extract_from_frame: int = param(0, label="Extract from frame", ge=0)
    extract_to_frame: int = param(-1, label="Extract to frame", ge=-1)
    overwrite_extracted_frames: bool = _switch(False, "Overwrite extracted frames")
    use_mask_video: bool = _switch(False, "Use mask video")
    video_mask_path: str = param("https://deforum.github.io/a1/VM1.mp4", label="Video mask path")

    hybrid_comp_alpha_schedule: Schedule = _schedule("0:(0.5)", "Comp alpha")
    hybrid_comp_mask_blend_alpha_schedule: Schedule = _schedule("0:(0.5)", "Comp mask blend alpha")
    hybrid_comp_mask_contrast_schedule: Schedule = _schedule("0:(1)", "Comp mask contrast")
    hybrid_comp_mask_auto_contrast_cutoff_high_schedule: Schedule = _schedule("0:(100)", "Auto contrast cutoff high")
    hybrid_comp_mask_auto_contrast_cutoff_low_schedule: Schedule = _schedule("0:(0)", "Auto contrast cutoff low")
    hybrid_flow_factor_schedule: Schedule = _schedule("0:(1)", "Flow factor")
    hybrid_generate_inputframes: bool = _switch(False, "Generate inputframes")
    hybrid_generate_human_masks: str = param(
        "None", label="Generate human masks", choices=("None", "PNGs", "Video", "Both")
    )
    hybrid_use_first_frame_as_init_image: bool = _switch(True, "First frame as init image")
    hybrid_motion: str = param("None", label="Hybrid motion", choices=("None", "Optical Flow", "Perspective", "Affine"))
    hybrid_motion_use_prev_img: bool = _switch(False, "Motion use prev img")
    hybrid_flow_consistency: bool = _switch(False, "Flow consistency mask")
    hybrid_consistency_blur: int = param(2, label="Consistency mask blur", ge=0, le=16, step=1)
    hybrid_flow_method: str = param("RAFT", label="Flow method", choices=FLOWS[1:])
    hybrid_composite: str = param(
        "None", label="Hybrid composite", choices=("None", "Normal", "Before Motion", "After Generation")
    )
    hybrid_use_init_image: bool = _switch(False, "Use init image as video")
    hybrid_comp_mask_type: str = param(
        "None", label="Comp mask type", choices=("None", "Depth", "Video Depth", "Blend", "Difference")
    )
    hybrid_comp_mask_inverse: bool = _switch(False, "Comp mask inverse")
    hybrid_comp_mask_equalize: str = param(
        "None", label="Comp mask equalize", choices=("None", "Before", "After", "Both")
    )
    hybrid_comp_mask_auto_contrast: bool = _switch(False, "Comp mask auto contrast")
    hybrid_comp_save_extra_frames: bool = _switch(False, "Comp save extra frames")

    parseq_manifest: str | None = param(None, label="Parseq manifest")
    parseq_use_deltas: bool = _switch(True, "Use delta values for movement parameters")
    parseq_non_schedule_overrides: bool = _switch(True, "Use FPS, max_frames and cadence from the manifest")

    use_looper: bool = _switch(False, "Enable guided images mode")
    init_images: str = param(
        '{\n    "0": "https://deforum.github.io/a1/Gi1.png",\n    "max_f/4-5": "https://deforum.github.io/a1/Gi2.png",\n'
        '    "max_f/2-10": "https://deforum.github.io/a1/Gi3.png",\n'
        '    "3*max_f/4-15": "https://deforum.github.io/a1/Gi4.jpg",\n'
        '    "max_f-20": "https://deforum.github.io/a1/Gi1.png"\n}',
        label="Images to use for keyframe guidance",
    )
    image_strength_schedule: Schedule = _schedule("0:(0.75)", "Image strength")
    blendFactorMax: Schedule = _schedule("0:(0.35)", "Blend factor max")
    blendFactorSlope: Schedule = _schedule("0:(0.25)", "Blend factor slope")
    tweening_frames_schedule: Schedule = _schedule("0:(20)", "Tweening frames")
    color_correction_factor: Schedule = _schedule("0:(0.075)", "Color correction factor")

    controlnet: tuple[ControlUnit, ...] = (ControlUnit(),) * UNITS

    skip_video_creation: bool = _switch(False, "Skip video creation")
    fps: float = param(15, label="FPS", ge=1, le=240, step=1)
    make_gif: bool = _switch(False, "Make GIF")
    delete_imgs: bool = _switch(False, "Delete images")
    delete_input_frames: bool = _switch(False, "Delete all inputframes")
    add_soundtrack: str = param("None", label="Add soundtrack", choices=("None", "File", "Init Video"))
    soundtrack_path: str = param("https://deforum.github.io/a1/A1.mp3", label="Soundtrack path")
    r_upscale_video: bool = _switch(False, "Upscale")
    r_upscale_factor: str = param("x2", label="Upscale factor", choices=("x2", "x3", "x4"))
    r_upscale_model: str = param(
        "realesr-animevideov3",
        label="Upscale model",
        choices=("realesr-animevideov3", "realesrgan-x4plus", "realesrgan-x4plus-anime", "Lanczos"),
    )
    r_upscale_keep_imgs: bool = _switch(True, "Keep images")
    store_frames_in_ram: bool = _switch(False, "Store frames in RAM")
    frame_interpolation_engine: str = param(
        "None", label="Engine", choices=("None", "Optical flow", "RIFE v4.6", "FILM")
    )
    frame_interpolation_x_amount: int = param(2, label="Interpolate X", ge=2, le=10, step=1)
    frame_interpolation_slow_mo_enabled: bool = _switch(False, "Slow-mo")
    frame_interpolation_slow_mo_amount: int = param(2, label="Slow-mo X", ge=2, le=10, step=1)
    frame_interpolation_keep_imgs: bool = _switch(False, "Keep frames between")
    frame_interpolation_use_upscaled: bool = _switch(False, "Use upscaled")

    perlin_w: int = param(8, label="Perlin width", ge=1, le=64)
    perlin_h: int = param(8, label="Perlin height", ge=1, le=64)
    original_arithmetic: bool = param(
        False,
        label="Original arithmetic",
        help="Compute the perspective flip, colour matching, contrast and anti-blur exactly as old animations were "
        "made, with their known slips.",
    )

    @property
    def width(self) -> int:
        """Of the frames, in pixels: W down to a multiple of 8."""
        return self.W - self.W % 8

    @property
    def height(self) -> int:
        return self.H - self.H % 8


def unit_schedules(settings: Settings) -> dict[str, str]:
    """The schedules of the ControlNet units that are on, by their keys in files, such as "cn_1_weight"."""
    return {
        f"cn_{number}_{name}": getattr(unit, name)
        for number, unit in enumerate(settings.controlnet, 1)
        if unit.enabled
        for name, field in ControlUnit.model_fields.items()
        if Keyed() in field.metadata
    }
