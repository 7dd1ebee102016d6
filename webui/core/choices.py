"""What a user can choose by name, as data: samplers, schedules, upscalers, Extras steps and more.

Functions are named by import path, so that this page loads no torch; an extension writes f"{__name__}:double".
Names, aliases and options are A1111's, since API clients and infotexts use them. A new sampler or schedule is one
more row. `Choices` holds what this server has: ours, and what extensions register.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, get_args

from webui.core.errors import InvalidRequest, NotFound, nearest
from webui.core.operations import CodeFormerRestoring, GFPGANRestoring, Upscaling
from webui.core.packaged import FETCHABLE, Fetchable
from webui.core.params import Params

if TYPE_CHECKING:
    from webui.core.request import GenerationRequest, GenerationResult
    from webui.core.settings import Settings


@dataclass(frozen=True)
class Sampler:
    """A sampling method.

    function: import path of `sample_<name>` in webui.diffusion.samplers or newer_samplers.
    scheduler: the schedule that "Automatic" means for it, by name; None means uniform.
    calls_per_step: network calls a step (2 for second order), which prompt editing counts.
    timesteps: steps through the model's integer timesteps in the variance-preserving scale (DDIM).
    walk: how it walks the levels: "plain" one after the other, "restart" with jumps back up, "fast" and "adaptive"
        over a range that it divides itself, "unipc" by a clock of its own.
    consistency: the network is read as a latent consistency model.
    cfg_factor: what it multiplies the CFG scale by.
    arguments: further keyword arguments of the function.
    group: "a1111" for those that A1111 has, "newer" for those that came after.
    """

    name: str
    function: str
    aliases: tuple[str, ...] = ()
    scheduler: str | None = None
    calls_per_step: int = 1
    uses_ensd: bool = False
    brownian_noise: bool = False
    discard_next_to_last_sigma: bool = False
    timesteps: bool = False
    walk: Literal["plain", "restart", "fast", "adaptive", "unipc"] = "plain"
    consistency: bool = False
    cfg_factor: float = 1.0
    extra_options: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    group: Literal["a1111", "newer"] = "a1111"

    @property
    def is_plain_ode(self) -> bool:
        """It walks down the levels and adds no noise, as every model can be sampled, flows too."""
        return (self.walk, self.cfg_factor) == ("plain", 1) and not (
            self.uses_ensd or self.brownian_noise or self.timesteps or self.consistency
        )

    @property
    def options(self) -> dict[str, str]:
        """The options as /sdapi/v1/samplers lists them."""
        rows: dict[str, Any] = {
            "scheduler": self.scheduler,
            "discard_next_to_last_sigma": self.discard_next_to_last_sigma,
            "uses_ensd": self.uses_ensd,
            "second_order": self.calls_per_step == 2,
            "brownian_noise": self.brownian_noise,
            **self.arguments,
        }
        return {key: str(value) for key, value in rows.items() if value}


@dataclass(frozen=True)
class Scheduler:
    """A noise schedule. function: import path in webui.diffusion.schedules; None for Automatic."""

    name: str
    label: str
    function: str | None
    aliases: tuple[str, ...] = ()
    default_rho: float = -1.0
    need_inner_model: bool = False


@dataclass(frozen=True)
class UpscaleNetwork:
    """The network of an upscaler.

    tiles: the settings that say how large its tiles are and how far they overlap. scale: as far as is known without
    the file. file: its weights, None as long as they aren't there; `missing` says then what to do. address: where it
    comes from, or lies. model_name: as A1111 lists it.
    """

    tiles: tuple[str, str]
    scale: int
    file: Path | None
    address: str
    model_name: str | None = None
    missing: str = ""


@dataclass(frozen=True)
class Upscaler:
    """A way to enlarge a picture.

    function: import path of `(image, scale, enlarger) -> image`, which may enlarge by another factor than asked, see
    `webui.pipeline.upscaling.Enlarger`; None is no way of its own. network: None for plain resizing.

    refusal: why it can't be used in this version, "" if it can.
    """

    name: str
    function: str | None
    network: UpscaleNetwork | None = None
    refusal: str = ""

    def require(self) -> None:
        """Raises: InvalidRequest when it can't be used in this version, or its weights aren't there."""
        if self.refusal:
            raise InvalidRequest(self.refusal)
        if self.network is not None and (self.network.file is None or not self.network.file.exists()):
            raise InvalidRequest(self.network.missing or f"{self.name} is gone; refresh the list of upscalers.")


@dataclass(frozen=True)
class FaceRestorer:
    """A way to restore faces.

    function: import path of `(image, restorer, models, weight) -> image`, see `ModelManager.borrow`; weight: 0 changes
    faces most, 1 least, where the network heeds it. file: of its network, None without one. detector: files of the
    networks that find faces. missing: what to do about files that aren't there, "" when all are.
    """

    name: str
    function: str
    file: Path | None = None
    detector: tuple[Path, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Captioner:
    """A way to describe a picture.

    function: import path of `(image, captioner, models, settings) -> text`, see `ModelManager.borrow`. aliases: other
    names, such as the API's. files: of its networks and lists, by what they are. missing: what to do about files that
    aren't there, "" when all are. many: as `function`, for several pictures at once, `(images, ...) -> texts`; "" for
    one that takes them one after the other.
    """

    name: str
    function: str
    aliases: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    missing: str = ""
    many: str = ""


@dataclass(frozen=True)
class NetworkKind:
    """A kind of extra network, named in prompts as <name:...>.

    function: import path of `(model, tag, comment) -> context manager`; while it is open the network is on the model.
    """

    name: str
    function: str


@dataclass(frozen=True)
class ExtrasStep:
    """An operation of the Extras tab. Lower `order` comes first; ours are those of A1111: 1000 upscales.

    params: its parameters, which are a panel on the tab and fields of the API; None for one that has none of its own.
    Where it has a field `enabled`, the panel is opened by it. function: import path of
    `(image, values, context) -> image`, see `webui.pipeline.operations.StepContext`. legend: a sentence in its panel.
    frames: whether it is done on the frames of videos, too. elem_ids: element ids of parameters on the tab, where they
    have others than are made of the group's name. check: import path of `(values, choices)`, called when the job is
    submitted, which raises what can't be done; "" for none.
    """

    name: str
    order: int
    params: type[Params] | None
    function: str
    legend: str = ""
    frames: bool = True
    elem_ids: Mapping[str, str] = field(default_factory=dict)
    check: str = ""


@dataclass(frozen=True)
class Axis:
    """A parameter that a plot of many pictures can vary.

    apply: (request, value) -> the request with it; raises InvalidRequest or NotFound for a value that can't be.
    choices: the values to offer, asked when shown; None for free ones.
    cost: of a change from one picture to the next, 0..1; the dearest axis changes least often.
    type: of the values, bool, int, float or str; numbers may be written as ranges.
    prepare: (all values) -> what `apply` takes of each, for an axis whose values depend on each other.
    words: what a legend says of such a value; None for "label: value". tabs: where it is offered.
    """

    label: str
    apply: Callable[[GenerationRequest, Any], GenerationRequest]
    choices: Callable[[], Sequence[str]] | None = None
    cost: float = 0.0
    type: type[bool] | type[int] | type[float] | type[str] = str
    prepare: Callable[[Sequence[Any]], Sequence[Any]] | None = None
    words: Callable[[Any], str] | None = None
    tabs: Sequence[Literal["txt2img", "img2img"]] = ("txt2img", "img2img")

    @property
    def name(self) -> str:
        return self.label


@dataclass(frozen=True)
class Script:
    """What makes many requests of one, within one job; chosen in the dropdown "Script" and by the API's `script_name`.

    It has either `expand` or `run`. Torch is imported inside them.
    expand: (request, settings) -> the requests, called when the job is submitted, so that mistakes are answered at
        once. A seed that it leaves at -1 is drawn for each of them; they wait in the queue as they are.
        settings: those of the job, with the request's own.
    combine: (request, results, job) -> the one result of all that could be made; `joined(results)` where it is None.
        The results are in the order of the requests: without pictures where one failed, fewer when the job was stopped.
    run: (request, job) -> the result, in the worker, where a request depends on the pictures before it; the request's
        seed is drawn. `job.generate(request)` makes pictures.
    params: its parameters, `request.extension(params)`. tabs: where it is offered.
    choices_on: (tab, parameter) -> what the parameter may be there, where the tabs differ; None for as it is declared.
    build: lays its panel out by hand, called with a `webui.ui.panels.GroupPanel`; None for a generated one.
    """

    title: str
    expand: Callable[[GenerationRequest, Settings], Iterable[GenerationRequest]] | None = None
    combine: Callable[[GenerationRequest, Sequence[GenerationResult], Any], GenerationResult] | None = None
    run: Callable[[GenerationRequest, Any], GenerationResult] | None = None
    params: type[Params] | None = None
    tabs: Sequence[Literal["txt2img", "img2img"]] = ("txt2img", "img2img")
    choices_on: Callable[[str, str], Sequence[str] | None] | None = None
    build: Callable[[Any], None] | None = None

    def __post_init__(self) -> None:
        if (self.expand is None) == (self.run is None):
            raise ValueError(f'the script "{self.title}" needs expand or run, and not both')

    @property
    def name(self) -> str:
        return self.title

    def elem_id(self, tab: str, item: str) -> str:
        """The element id of a parameter on a tab, as A1111 makes it of the title."""
        kept = "".join(letter for letter in "_".join(self.title.lower().split()) if letter in ID_LETTERS)
        return f"script_{f'{tab}_' if len(self.tabs) > 1 else ''}{kept}_{item}"


ID_LETTERS = "abcdefghijklmnopqrstuvwxyz_0123456789"
_CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
_SAMPLERS = "webui.diffusion.samplers:sample_"
_NEWER = "webui.diffusion.newer_samplers:sample_"
_SCHEDULES = "webui.diffusion.schedules:"
CFGPP = 1 / 12.5
"""CFG++ takes a scale of 0 to 1: the slider's 12.5 is its 1."""
_UPSCALING = "webui.pipeline.upscaling:"
_OPERATIONS, _CHECKS = "webui.pipeline.operations:", "webui.planning.extras:"

SAMPLERS: tuple[Sampler, ...] = (
    Sampler("DPM++ 2M", _SAMPLERS + "dpmpp_2m", ("k_dpmpp_2m",), "karras"),
    Sampler(
        "DPM++ SDE",
        _SAMPLERS + "dpmpp_sde",
        ("k_dpmpp_sde",),
        "karras",
        calls_per_step=2,
        brownian_noise=True,
        extra_options=("s_noise",),
    ),
    Sampler(
        "DPM++ 2M SDE",
        _SAMPLERS + "dpmpp_2m_sde",
        ("k_dpmpp_2m_sde",),
        "exponential",
        brownian_noise=True,
        extra_options=("s_noise",),
    ),
    Sampler(
        "DPM++ 2M SDE Heun",
        _SAMPLERS + "dpmpp_2m_sde",
        ("k_dpmpp_2m_sde_heun",),
        "exponential",
        brownian_noise=True,
        extra_options=("s_noise",),
        arguments={"solver_type": "heun"},
    ),
    Sampler(
        "DPM++ 2S a",
        _SAMPLERS + "dpmpp_2s_ancestral",
        ("k_dpmpp_2s_a",),
        "karras",
        calls_per_step=2,
        uses_ensd=True,
        extra_options=("s_noise",),
    ),
    Sampler(
        "DPM++ 3M SDE",
        _SAMPLERS + "dpmpp_3m_sde",
        ("k_dpmpp_3m_sde",),
        "exponential",
        discard_next_to_last_sigma=True,
        brownian_noise=True,
        extra_options=("s_noise",),
    ),
    Sampler("Euler a", _SAMPLERS + "euler_ancestral", ("k_euler_a", "k_euler_ancestral"), uses_ensd=True),
    Sampler("Euler", _SAMPLERS + "euler", ("k_euler",), extra_options=_CHURN),
    Sampler("LMS", _SAMPLERS + "lms", ("k_lms",)),
    Sampler("Heun", _SAMPLERS + "heun", ("k_heun",), calls_per_step=2, extra_options=_CHURN),
    Sampler(
        "DPM2",
        _SAMPLERS + "dpm_2",
        ("k_dpm_2",),
        "karras",
        calls_per_step=2,
        discard_next_to_last_sigma=True,
        extra_options=_CHURN,
    ),
    Sampler(
        "DPM2 a",
        _SAMPLERS + "dpm_2_ancestral",
        ("k_dpm_2_a",),
        "karras",
        calls_per_step=2,
        uses_ensd=True,
        discard_next_to_last_sigma=True,
        extra_options=("s_noise",),
    ),
    Sampler(
        "DPM fast", _SAMPLERS + "dpm_fast", ("k_dpm_fast",), uses_ensd=True, walk="fast", extra_options=("s_noise",)
    ),
    Sampler("DPM adaptive", _SAMPLERS + "dpm_adaptive", ("k_dpm_ad",), uses_ensd=True, walk="adaptive"),
    Sampler("Restart", _SAMPLERS + "restart", ("restart",), "karras", calls_per_step=2, walk="restart"),
    Sampler("DDIM", _SAMPLERS + "ddim", ("ddim",), timesteps=True),
    Sampler("DDIM CFG++", _SAMPLERS + "ddim_cfgpp", ("ddim_cfgpp",), timesteps=True, cfg_factor=CFGPP),
    Sampler("PLMS", _SAMPLERS + "plms", ("plms",), timesteps=True),
    Sampler("UniPC", _SAMPLERS + "unipc", ("unipc",), timesteps=True, walk="unipc"),
    Sampler("LCM", _SAMPLERS + "lcm", ("k_lcm",), consistency=True),
    Sampler("DEIS", _NEWER + "deis", ("deis",), group="newer"),
    Sampler("IPNDM", _NEWER + "ipndm", ("ipndm",), group="newer"),
    Sampler("Res Multistep", _NEWER + "res_multistep", ("res_multistep",), "karras", group="newer"),
    Sampler("Gradient Estimation", _NEWER + "gradient_estimation", ("gradient_estimation",), group="newer"),
    Sampler(
        "SA-Solver",
        _NEWER + "sa_solver",
        ("sa_solver",),
        "karras",
        uses_ensd=True,
        extra_options=("s_noise",),
        group="newer",
    ),
    Sampler(
        "ER SDE",
        _NEWER + "er_sde",
        ("er_sde",),
        "karras",
        uses_ensd=True,
        extra_options=("s_noise",),
        group="newer",
    ),
    Sampler("Euler CFG++", _NEWER + "euler_cfgpp", ("euler_cfg_pp",), cfg_factor=CFGPP, group="newer"),
    Sampler(
        "Euler a CFG++",
        _NEWER + "euler_ancestral_cfgpp",
        ("euler_ancestral_cfg_pp",),
        uses_ensd=True,
        cfg_factor=CFGPP,
        extra_options=("s_noise",),
        group="newer",
    ),
    Sampler(
        "DPM++ 2M CFG++", _NEWER + "dpmpp_2m_cfgpp", ("dpmpp_2m_cfg_pp",), "karras", cfg_factor=CFGPP, group="newer"
    ),
    Sampler("TCD", _NEWER + "tcd", ("k_tcd",), "sgm_uniform", uses_ensd=True, group="newer"),
)

SCHEDULERS: tuple[Scheduler, ...] = (
    Scheduler("automatic", "Automatic", None),
    Scheduler("uniform", "Uniform", _SCHEDULES + "uniform_sigmas", need_inner_model=True),
    Scheduler("karras", "Karras", _SCHEDULES + "karras_sigmas", default_rho=7.0),
    Scheduler("exponential", "Exponential", _SCHEDULES + "exponential_sigmas"),
    Scheduler("polyexponential", "Polyexponential", _SCHEDULES + "polyexponential_sigmas", default_rho=1.0),
    Scheduler("sgm_uniform", "SGM Uniform", _SCHEDULES + "sgm_uniform_sigmas", ("SGMUniform",), need_inner_model=True),
    Scheduler("kl_optimal", "KL Optimal", _SCHEDULES + "kl_optimal_sigmas"),
    Scheduler("align_your_steps", "Align Your Steps", _SCHEDULES + "align_your_steps_sigmas"),
    Scheduler("simple", "Simple", _SCHEDULES + "simple_sigmas", need_inner_model=True),
    Scheduler("normal", "Normal", _SCHEDULES + "normal_sigmas", need_inner_model=True),
    Scheduler("ddim", "DDIM", _SCHEDULES + "ddim_uniform_sigmas", need_inner_model=True),
    Scheduler("beta", "Beta", _SCHEDULES + "beta_sigmas", need_inner_model=True),
)

ATTENTIONS: Mapping[str, bool | None] = {
    "Automatic": None,
    "xformers": False,
    "sdp-no-mem - scaled dot product without memory efficient attention": False,
    "sdp - scaled dot product": False,
    "sub-quadratic": True,
    "V1 - original v1": True,
    "InvokeAI": True,
    "Doggettx": True,
    "None": True,
}
"""A1111's names of attention optimizations; whether it is written out instead of torch's fused attention.

Automatic writes it out in A1111, and here with --precision full, the mode for equal pictures."""

LATENT_UPSCALERS: Mapping[str, tuple[str, bool]] = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
"""Interpolation mode and antialiasing of each."""

UPSCALERS: tuple[Upscaler, ...] = (
    Upscaler("None", None),
    Upscaler("Lanczos", _UPSCALING + "by_lanczos"),
    Upscaler("Nearest", _UPSCALING + "by_nearest"),
)
NO_UPSCALER = UPSCALERS[0]
EXTRAS_STEPS = (
    ExtrasStep("Upscale", 1000, Upscaling, _OPERATIONS + "upscale_step", check=_CHECKS + "check_upscalers"),
    ExtrasStep("GFPGAN", 2000, GFPGANRestoring, _OPERATIONS + "gfpgan_step", check=_CHECKS + "check_gfpgan"),
    ExtrasStep(
        "CodeFormer",
        3000,
        CodeFormerRestoring,
        _OPERATIONS + "codeformer_step",
        check=_CHECKS + "check_codeformer",
    ),
)
SAME_CHECKPOINT, SAME_SAMPLER, SAME_SCHEDULER = "Use same checkpoint", "Use same sampler", "Use same scheduler"


Choice: TypeAlias = (
    Sampler | Scheduler | Upscaler | FaceRestorer | Captioner | NetworkKind | ExtrasStep | Axis | Script | Fetchable
)
KINDS: tuple[type[Any], ...] = get_args(Choice)
C = TypeVar(
    "C", Sampler, Scheduler, Upscaler, FaceRestorer, Captioner, NetworkKind, ExtrasStep, Axis, Script, Fetchable
)


class Choices:
    """Everything that can be chosen by name on this server. Built at the start and handed on; lists are asked each
    time, so that one of files is never out of date.
    """

    def __init__(self) -> None:
        self._sources: dict[type[Any], list[Callable[[], Iterable[Any]]]] = {kind: [] for kind in KINDS}
        for own in (SAMPLERS, SCHEDULERS, UPSCALERS, EXTRAS_STEPS, FETCHABLE):
            self.add(*own)

    def add(self, *items: Choice) -> None:
        """Offer these. Raises: ValueError for a name of that kind that is taken, TypeError for what is no choice."""
        for item in items:
            if type(item) not in self._sources:
                raise TypeError(
                    f"{item!r:.80} can't be chosen; give one of {', '.join(kind.__name__ for kind in KINDS)}"
                )
            if self._find(item.name, cast("type[Any]", type(item))) is not None:
                raise ValueError(f'there is a {type(item).__name__} called "{item.name}" already')
            self._sources[type(item)].append(lambda item=item: (item,))  # type: ignore[misc]

    def add_list(self, kind: type[C], list_them: Callable[[], Iterable[C]]) -> None:
        """Offer what the function says whenever the list is shown; names that are taken are left out."""
        self._sources[kind].append(list_them)

    def all(self, kind: type[C]) -> tuple[C, ...]:
        """Everything of a kind, ours first."""
        found: dict[str, C] = {}
        for source in self._sources[kind]:
            for item in source():
                found.setdefault(item.name.lower(), item)
        return tuple(found.values())

    def names(self, kind: type[C]) -> tuple[str, ...]:
        return tuple(item.name for item in self.all(kind))

    @property
    def hires_upscalers(self) -> tuple[str, ...]:
        """Names of what can come between two passes: in latents, and by pictures."""
        return (*LATENT_UPSCALERS, *self.names(Upscaler))

    def find_scheduler(self, name: str | None) -> Scheduler:
        """The schedule of that name, label or alias; None or "" is Automatic. Raises: InvalidRequest."""
        found = self._find(name or "automatic", Scheduler)
        if found is None:
            close = nearest(str(name), [item.label for item in self.all(Scheduler)])
            raise InvalidRequest(f'No schedule type is called "{name}"{close}. /sdapi/v1/schedulers lists them all.')
        return found

    def find_sampler(self, name: str, scheduler: str | None = None) -> tuple[Sampler, Scheduler]:
        """The sampler and schedule that a request means.

        Legacy names that end in a schedule ("DPM++ 2M Karras") give both, unless `scheduler` says
        something other than Automatic. Raises: InvalidRequest for an unknown name, with the nearest one.
        """
        sampler, schedule = self._find(name, Sampler), self.find_scheduler(scheduler)
        if sampler is None:
            for candidate in self.all(Scheduler):
                for ending in _spellings(candidate):
                    if name.strip().lower().endswith(" " + ending.lower()):
                        sampler = self._find(name.strip()[: -len(ending) - 1], Sampler)
                        if sampler is not None:
                            return sampler, schedule if schedule.name != "automatic" else candidate
            close = nearest(name, self.names(Sampler))
            raise InvalidRequest(f'No sampler is called "{name}"{close}. /sdapi/v1/samplers lists them all.')
        return sampler, schedule

    def find_upscaler(self, name: str | None) -> Upscaler:
        """The upscaler of that name; None and "" are None. Raises: InvalidRequest naming the closest."""
        wanted = (name or "None").strip()
        found = self._find(wanted, Upscaler)
        if found is None:
            close = nearest(wanted[:100], self.names(Upscaler))
            raise InvalidRequest(f'No upscaler is called "{wanted[:100]}"{close}. /sdapi/v1/upscalers lists them all.')
        return found

    def find_face_restorer(self, name: str) -> FaceRestorer:
        """Raises: InvalidRequest for an unknown one, and for one of which files are missing, with what to do."""
        found = self._find(name, FaceRestorer)
        if found is None:
            close = nearest(name[:100], self.names(FaceRestorer))
            raise InvalidRequest(
                f'No face restorer is called "{name[:100]}"{close}. /sdapi/v1/face-restorers lists them all.'
            )
        if found.missing:
            raise InvalidRequest(found.missing)
        return found

    def find_captioner(self, name: str) -> Captioner:
        """Raises: NotFound for an unknown one, InvalidRequest for one of which files are missing, with what to do."""
        found = self._find(name, Captioner)
        if found is None:
            close = nearest(name[:100], self.names(Captioner))
            raise NotFound(f'Nothing that describes pictures is called "{name[:100]}"{close}.')
        if found.missing:
            raise InvalidRequest(found.missing)
        return found

    def extras_steps(self, first: Sequence[str] = ()) -> tuple[ExtrasStep, ...]:
        """The operations in the order in which they are done. first: names of those that come before all others."""
        places = {name: place for place, name in enumerate(first)}
        return tuple(
            sorted(self.all(ExtrasStep), key=lambda step: (places.get(step.name, len(places)), step.order, step.name))
        )

    def find_hires_upscaler(self, name: str) -> str:
        """What comes between two passes, spelt as in the list. Raises: InvalidRequest naming the closest."""
        wanted, known = name.strip().lower(), self.hires_upscalers
        found = next((item for item in known if item.lower() == wanted), None)
        if found is None:
            raise InvalidRequest(
                f'No upscaler is called "{name[:100]}"{nearest(name[:100], known)}. '
                "/sdapi/v1/upscalers and latent-upscale-modes list them all."
            )
        return found

    def scripts(self, tab: str) -> tuple[Script, ...]:
        """Those offered on txt2img or on img2img, by their titles as the page lists them."""
        return tuple(
            sorted((item for item in self.all(Script) if tab in item.tabs), key=lambda item: item.name.lower())
        )

    def find_script(self, title: str, tab: str) -> Script:
        """The script of that title, in any case of letters. Raises: InvalidRequest naming the closest."""
        wanted, known = title.strip().lower(), self.scripts(tab)
        found = next((script for script in known if script.name.lower() == wanted), None)
        if found is None:
            close = nearest(wanted[:100], [script.name.lower() for script in known])
            raise InvalidRequest(f"Script '{wanted[:100]}' not found{close}.")
        return found

    def resolve_schedule(self, sampler: Sampler, scheduler: Scheduler) -> Scheduler:
        """What Automatic means for this sampler: its own default; Automatic again (uniform) when it has none."""
        if scheduler.name == "automatic" and sampler.scheduler:
            return self.find_scheduler(sampler.scheduler)
        return scheduler

    def _find(self, name: str, kind: type[C]) -> C | None:
        wanted = name.strip().lower()
        spelt = ((item, (spelling.lower() for spelling in _spellings(item))) for item in self.all(kind))
        return next((item for item, spellings in spelt if wanted in spellings), None)


def _spellings(item: Choice) -> tuple[str, ...]:
    label = (item.label,) if isinstance(item, Scheduler) else ()
    return (item.name, *label, *getattr(item, "aliases", ()))


def load_function(path: str) -> Any:
    """The function that an import path such as "webui.diffusion.samplers:sample_euler" names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
