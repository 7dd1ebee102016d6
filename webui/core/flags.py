"""The command line: A1111's flags and our own, read once into an immutable `Flags`.

Standard library only: launch.py reads the flags before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from webui.core.errors import WebuiError, nearest

PORT = 7860
PORT_WITHOUT_UI = 7861
EXIT_BAD_FLAG = 2
STARTED_IN = "EASEL_STARTED_IN"
"""Environment variable: the folder that relative paths on the command line start from (launch.py sets it)."""

LOG_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
PRECISIONS = ("full", "half", "autocast")
THEMES = ("light", "dark")

# A1111's flags that ask for what Easel does anyway, or that did nothing there either: taken in silence.
MOOT_SWITCHES = (
    "-f", "--skip-torch-cuda-test", "--skip-version-check", "--no-download-sd-model", "--do-not-download-clip",
    "--always-batch-cond-uncond", "--unload-gfpgan", "--deepdanbooru", "--show-negative-prompt",
    "--enable-console-prompts", "--gradio-queue", "--add-stop-route", "--deforum-api", "--deforum-simple-api",
)  # fmt: skip
MOOT_VALUES = ("--max-batch-count", "--ngrok-region", "--gradio-img2img-tool", "--gradio-inpaint-tool")

# A1111's flags that have no effect yet: taken, with one warning that lists those given.
IDLE_SWITCHES = (
    "--reinstall-xformers", "--update-check", "--test-server", "--log-startup",
    "--dump-sysinfo", "--no-progressbar-hiding", "--allow-code",
    "--lowram", "--upcast-sampling", "--xformers", "--force-enable-xformers",
    "--xformers-flash-attention", "--opt-split-attention", "--opt-sub-quad-attention",
    "--opt-split-attention-invokeai", "--opt-split-attention-v1", "--opt-sdp-attention", "--opt-sdp-no-mem-attention",
    "--disable-opt-split-attention", "--disable-nan-check", "--disable-model-loading-ram-optimization",
    "--gradio-debug", "--use-textbox-seed", "--disable-console-progressbars", "--disable-safe-unpickle",
    "--administrator", "--disable-tls-verify", "--no-gradio-queue", "--api-server-stop",
    "--unix-filenames-sanitization",
)  # fmt: skip
IDLE_VALUES = (
    "--config", "--gfpgan-dir", "--gfpgan-model", "--textual-inversion-templates-dir", "--localizations-dir",
    "--ngrok", "--ngrok-options", "--codeformer-models-path", "--gfpgan-models-path", "--esrgan-models-path",
    "--bsrgan-models-path", "--realesrgan-models-path", "--dat-models-path", "--clip-models-path",
    "--sub-quad-q-chunk-size", "--sub-quad-kv-chunk-size", "--sub-quad-chunk-threshold",
    "--tls-keyfile", "--tls-certfile",
    "--filenames-max-length", "--ldsr-models-path", "--lyco-dir-backcompat", "--lyco-dir", "--scunet-models-path",
    "--swinir-models-path",
)  # fmt: skip


Group = argparse._ArgumentGroup


class BadFlag(WebuiError):
    """A flag's value can't be used; the program ends with `EXIT_BAD_FLAG`."""


@dataclass(frozen=True)
class Flags:
    """What the command line asked for. Paths are absolute; None: not given.

    port: 7860, or 7861 with --nowebui; port_given: the user named it, so no other one will do.
    credentials, api_credentials: (user, password) pairs of --gradio-auth(-path) and --api-auth.
    device: "auto", "cpu", "mps", "xpu", "cuda" or "cuda:N".
    subpath: "" or "/name" without a slash at its end.
    """

    port: int = PORT
    port_given: bool = False
    listen: bool = False
    server_name: str | None = None
    share: bool = False
    credentials: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    api: bool = True
    api_credentials: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    api_log: bool = False
    nowebui: bool = False
    autolaunch: bool = False
    subpath: str = ""
    loglevel: str | None = None
    cors_allow_origins: tuple[str, ...] = ()
    cors_allow_origins_regex: str | None = None
    gradio_allowed_path: tuple[Path, ...] = ()
    timeout_keep_alive: int = 30
    theme: str | None = None
    hide_ui_dir_config: bool = False
    no_prompt_history: bool = False
    freeze_settings: bool = False
    freeze_settings_in_sections: tuple[str, ...] = ()
    freeze_specific_settings: tuple[str, ...] = ()
    disable_all_extensions: bool = False
    disable_extra_extensions: bool = False
    safe_mode: bool = False
    enable_insecure_extension_access: bool = False
    update_all_extensions: bool = False

    device: str = "auto"
    no_half: bool = False
    no_half_vae: bool = False
    precision: str = "autocast"
    opt_channelslast: bool = False
    medvram: bool = False
    medvram_sdxl: bool = False
    lowvram: bool = False
    no_hashing: bool = False
    skip_load_model_at_start: bool = False

    data_dir: Path | None = None
    models_dir: Path | None = None
    ckpt: Path | None = None
    ckpt_dir: Path | None = None
    vae_dir: Path | None = None
    vae_path: Path | None = None
    embeddings_dir: Path | None = None
    lora_dir: Path | None = None
    hypernetwork_dir: Path | None = None
    extra_models_dirs: tuple[Path, ...] = ()
    ui_settings_file: Path | None = None
    ui_config_file: Path | None = None
    styles_files: tuple[Path, ...] = ()

    skip_venv: bool = False
    skip_install: bool = False
    skip_prepare_environment: bool = False
    skip_python_version_check: bool = False
    reinstall_torch: bool = False

    @property
    def host(self) -> str:
        """The address to listen on: --server-name, or every one with --listen, or this machine only."""
        return self.server_name or ("0.0.0.0" if self.listen else "127.0.0.1")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return not self.share and (self.host in ("localhost", "::1", "[::1]") or self.host.startswith("127."))


def parse_flags(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[Flags, list[str]]:
    """Read `argv` (without the program's name) and then $COMMANDLINE_ARGS; the last of two equal flags wins.

    Returns: the flags, and sentences about those that are unknown or have no effect.
    Raises: BadFlag for a value that can't be used. SystemExit(0) after printing the help for --help.
    """
    parser = flag_parser()
    given, rest = parser.parse_known_args([*argv, *_arguments_of(environ)])
    start = Path(environ.get(STARTED_IN) or Path.cwd())
    use_cpu = {module.lower() for module in given.use_cpu or ()}
    if given.precision == "half" and (given.no_half or given.no_half_vae):
        raise BadFlag("--precision half contradicts --no-half and --no-half-vae: leave one of them out.")

    def path(value: str | None) -> Path | None:
        return None if value is None else Path(os.path.abspath(start / Path(value).expanduser()))

    def paths(values: Sequence[str]) -> tuple[Path, ...]:
        return tuple(found for found in map(path, values) if found)

    flags = Flags(
        port=_port(given.port) if given.port is not None else PORT_WITHOUT_UI if given.nowebui else PORT,
        port_given=given.port is not None,
        listen=given.listen,
        server_name=given.server_name,
        share=given.share,
        credentials=_credentials("--gradio-auth", given.gradio_auth)
        + _credentials_from_file("--gradio-auth-path", path(given.gradio_auth_path)),
        api_credentials=_credentials("--api-auth", given.api_auth),
        api_log=given.api_log,
        nowebui=given.nowebui,
        autolaunch=given.autolaunch,
        subpath=_subpath(given.subpath),
        loglevel=_one_of("--loglevel", given.loglevel, LOG_LEVELS),
        cors_allow_origins=tuple(filter(None, (given.cors_allow_origins or "").split(","))),
        cors_allow_origins_regex=_regex("--cors-allow-origins-regex", given.cors_allow_origins_regex),
        gradio_allowed_path=paths(given.gradio_allowed_path),
        timeout_keep_alive=_whole_number("--timeout-keep-alive", given.timeout_keep_alive),
        theme=_one_of("--theme", given.theme, THEMES),
        hide_ui_dir_config=given.hide_ui_dir_config,
        no_prompt_history=given.no_prompt_history,
        freeze_settings=given.freeze_settings,
        freeze_settings_in_sections=_names(given.freeze_settings_in_sections),
        freeze_specific_settings=_names(given.freeze_specific_settings),
        disable_all_extensions=given.disable_all_extensions,
        disable_extra_extensions=given.disable_extra_extensions,
        safe_mode=given.safe_mode,
        enable_insecure_extension_access=given.enable_insecure_extension_access,
        update_all_extensions=given.update_all_extensions,
        device=_device(given.device, given.device_id, use_cpu, given.use_ipex),
        no_half=given.no_half,
        no_half_vae=given.no_half_vae,
        precision=_one_of("--precision", given.precision, PRECISIONS) or "autocast",
        opt_channelslast=given.opt_channelslast,
        medvram=given.medvram,
        medvram_sdxl=given.medvram_sdxl,
        lowvram=given.lowvram,
        no_hashing=given.no_hashing,
        skip_load_model_at_start=given.skip_load_model_at_start or given.ui_debug_mode,
        data_dir=path(given.data_dir),
        models_dir=path(given.models_dir),
        ckpt=path(given.ckpt),
        ckpt_dir=path(given.ckpt_dir),
        vae_dir=path(given.vae_dir),
        vae_path=path(given.vae_path),
        embeddings_dir=path(given.embeddings_dir),
        lora_dir=path(given.lora_dir),
        hypernetwork_dir=path(given.hypernetwork_dir),
        extra_models_dirs=paths(given.extra_models_dir),
        ui_settings_file=path(given.ui_settings_file),
        ui_config_file=path(given.ui_config_file),
        styles_files=paths(given.styles_file),
        skip_venv=given.skip_venv,
        skip_install=given.skip_install,
        skip_prepare_environment=given.skip_prepare_environment,
        skip_python_version_check=given.skip_python_version_check,
        reinstall_torch=given.reinstall_torch,
    )
    return flags, _warnings(given, rest, use_cpu, parser.names())


def flag_parser(usage: str = "launch.py [flags]", epilog: str = "") -> FlagParser:
    """The parser behind `parse_flags`. Every value stays a string in it, so that our own sentences judge it."""
    parser = FlagParser(
        usage=usage,
        description="Easel, a Stable Diffusion web UI. A1111's flags are known by name.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog + "A1111's flags that are accepted and have no effect in this version:\n"
        + _columns(sorted(IDLE_SWITCHES + IDLE_VALUES)),
        allow_abbrev=False,
    )  # fmt: skip

    _add_server_flags(parser.add_argument_group("server"))
    _add_page_flags(parser.add_argument_group("page"))
    _add_api_flags(parser.add_argument_group("API"))
    _add_engine_flags(parser.add_argument_group("engine"))
    _add_files_flags(parser.add_argument_group("files"))
    _add_launch_flags(parser.add_argument_group("launch.py"))

    for names, how in (
        (MOOT_SWITCHES + IDLE_SWITCHES, "store_true"),
        (MOOT_VALUES + IDLE_VALUES, "store"),
    ):
        for name in names:
            parser.add_argument(name, action=how, help=argparse.SUPPRESS)
    return parser


def _add_server_flags(server: Group) -> None:
    server.add_argument("--port", metavar="N", help=f"port to serve on ({PORT}; {PORT_WITHOUT_UI} with --nowebui)")
    server.add_argument("--listen", action="store_true", help="answer on every network address, not this machine only")
    server.add_argument("--server-name", metavar="HOST", help="answer on this address")
    server.add_argument("--share", action="store_true", help="reach the page through Gradio's public tunnel")
    server.add_argument("--gradio-auth", metavar="USER:PASSWORD[,...]", help="who may open the page")
    server.add_argument("--gradio-auth-path", metavar="FILE", help="the same, read from a file")
    server.add_argument("--subpath", metavar="NAME", help="serve under /NAME, behind a reverse proxy")
    server.add_argument("--autolaunch", action="store_true", help="open the page in the browser once it is up")
    server.add_argument("--cors-allow-origins", metavar="ORIGIN[,...]", help="pages elsewhere that may call the API")
    server.add_argument("--cors-allow-origins-regex", metavar="REGEX", help="the same, as a regular expression")
    server.add_argument("--gradio-allowed-path", metavar="DIR", action="append", default=[],
                        help="a folder that the page may serve files from (may repeat)")  # fmt: skip
    server.add_argument("--timeout-keep-alive", metavar="SECONDS", default="30", help="of idle connections (30)")
    server.add_argument("--loglevel", metavar="LEVEL", help=", ".join(LOG_LEVELS))


def _add_page_flags(page: Group) -> None:
    page.add_argument("--theme", metavar="THEME", help="light or dark")
    page.add_argument("--hide-ui-dir-config", action="store_true", help="keep folders and file names from being edited")
    page.add_argument("--no-prompt-history", action="store_true", help="don't keep the last prompt in params.txt")
    page.add_argument("--freeze-settings", action="store_true", help="keep settings from being edited")
    page.add_argument(
        "--freeze-settings-in-sections", metavar="SECTION[,...]", help="the same of sections, by title or id"
    )
    page.add_argument("--freeze-specific-settings", metavar="KEY[,...]", help="the same of single settings")
    page.add_argument("--disable-all-extensions", action="store_true", help="run without extensions")
    page.add_argument("--disable-extra-extensions", action="store_true", help="run with the built-in extensions only")
    page.add_argument("--safe-mode", action="store_true",
                      help="start without your extensions; the page then finds the one at fault")  # fmt: skip
    page.add_argument("--enable-insecure-extension-access", action="store_true",
                      help="change extensions on the page even where others can reach it")  # fmt: skip
    page.add_argument("--update-all-extensions", action="store_true",
                      help="first bring your extensions to the newest version of their repositories")  # fmt: skip


def _add_api_flags(api: Group) -> None:
    api.add_argument("--api", action="store_true", help="serve the API (always on)")
    api.add_argument("--nowebui", action="store_true", help="serve the API alone, without the page")
    api.add_argument("--api-auth", metavar="USER:PASSWORD[,...]", help="who may call the API")
    api.add_argument("--api-log", action="store_true", help="log every API request")


def _add_engine_flags(engine: Group) -> None:
    engine.add_argument("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N, mps or xpu (auto)")
    engine.add_argument("--device-id", metavar="N", help="the CUDA device, as cuda:N")
    engine.add_argument("--use-cpu", metavar="MODULE", nargs="+", help="all: the same as --device cpu")
    engine.add_argument("--use-ipex", action="store_true", help="the same as --device xpu")
    engine.add_argument("--no-half", action="store_true", help="compute in 32 bits")
    engine.add_argument("--no-half-vae", action="store_true", help="compute the VAE in 32 bits")
    engine.add_argument("--precision", metavar="PRECISION", help="full, half or autocast (autocast)")
    engine.add_argument("--opt-channelslast", action="store_true", help="channels-last memory layout")
    engine.add_argument("--medvram", action="store_true", help="one part of the model on the device at a time")
    engine.add_argument("--medvram-sdxl", action="store_true", help="--medvram for SDXL models only")
    engine.add_argument("--lowvram", action="store_true", help="the U-Net layer by layer, too; slow")
    engine.add_argument("--no-hashing", action="store_true", help="don't compute SHA-256 of model files")
    engine.add_argument("--skip-load-model-at-start", action="store_true", help="load the model at its first use")
    engine.add_argument("--ui-debug-mode", action="store_true", help="the same as --skip-load-model-at-start")


def _add_files_flags(files: Group) -> None:
    files.add_argument("--data-dir", metavar="DIR", help="where settings, models and pictures lie (this folder)")
    files.add_argument("--models-dir", metavar="DIR", help="where models lie (models in --data-dir)")
    files.add_argument("--ckpt", metavar="FILE", help="checkpoint to list and to load")
    files.add_argument("--ckpt-dir", metavar="DIR", help="a folder with more checkpoints")
    files.add_argument("--vae-dir", metavar="DIR")
    files.add_argument("--vae-path", metavar="FILE", help="the VAE for every checkpoint, whatever the settings say")
    files.add_argument("--embeddings-dir", metavar="DIR")
    files.add_argument("--lora-dir", metavar="DIR")
    files.add_argument("--hypernetwork-dir", metavar="DIR")
    files.add_argument("--extra-models-dir", metavar="DIR", action="append", default=[],
                       help="an A1111 or ComfyUI folder whose models are listed too; may repeat")  # fmt: skip
    files.add_argument("--ui-settings-file", metavar="FILE", help="config.json")
    files.add_argument("--ui-config-file", metavar="FILE", help="ui-config.json")
    files.add_argument("--styles-file", metavar="FILE", action="append", default=[],
                       help="styles.csv; may repeat and hold wildcards")  # fmt: skip


def _add_launch_flags(launch: Group) -> None:
    launch.add_argument("--skip-venv", action="store_true", help="run in the active environment, not in venv/")
    launch.add_argument("--skip-install", action="store_true", help="install nothing")
    launch.add_argument("--skip-prepare-environment", action="store_true", help="check and install nothing")
    launch.add_argument("--skip-python-version-check", action="store_true", help="try a Python that isn't supported")
    launch.add_argument("--reinstall-torch", action="store_true", help="install torch anew")


class FlagParser(argparse.ArgumentParser):
    """argparse's parser with our sentences for its complaints."""

    def names(self) -> tuple[str, ...]:
        """Every flag it knows, as it is spelt."""
        return tuple(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Raises: BadFlag instead of printing the usage and ending the program."""
        flag = re.match(r"argument (\S+): (.*)", message)
        if flag and flag[2].startswith("expected"):
            raise BadFlag(f"{flag[1]} needs a value.")
        if flag and flag[2].startswith("ignored explicit argument"):
            raise BadFlag(f"{flag[1]} is a switch and takes no value.")
        raise BadFlag(f"The command line can't be read: {message}.")


def _arguments_of(environ: Mapping[str, str]) -> list[str]:
    line = environ.get("COMMANDLINE_ARGS", "")
    try:
        if os.name == "nt":  # a backslash is part of a path there
            return [word.strip('"') for word in shlex.split(line, posix=False)]
        return shlex.split(line)
    except ValueError as error:
        raise BadFlag(f"COMMANDLINE_ARGS can't be read ({error}): {line}") from error


def _warnings(given: argparse.Namespace, rest: Sequence[str], use_cpu: set[str], known: Sequence[str]) -> list[str]:
    idle = [name for name in IDLE_SWITCHES + IDLE_VALUES if getattr(given, name[2:].replace("-", "_"))]
    if use_cpu - {"all"} and "all" not in use_cpu:
        idle.append(f"--use-cpu {' '.join(sorted(use_cpu))}")
    warnings = [f"Accepted without effect in this version: {', '.join(idle)}."] if idle else []
    value_of_unknown = False
    for word in rest:
        if re.match(r"-+[^\d\W]", word):
            name = word.partition("=")[0]
            warnings.append(f'Unknown flag "{name}" is ignored{nearest(name, known)}.')
            value_of_unknown = True
        elif not value_of_unknown:
            warnings.append(f'"{word}" on the command line is not a flag and is ignored.')
    return warnings


def _whole_number(flag: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise BadFlag(f'{flag} wants a whole number, not "{value}".')
    return int(value)


def _port(value: str) -> int:
    port = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else 0
    if not 1 <= port <= 65535:
        raise BadFlag(f'--port wants a number from 1 to 65535, not "{value}".')
    return port


def _one_of(flag: str, value: str | None, choices: Sequence[str]) -> str | None:
    if value is None:
        return None
    for choice in choices:
        if choice.lower() == value.lower():
            return choice
    raise BadFlag(f'{flag} wants one of {", ".join(choices)}, not "{value}".')


def _device(name: str | None, index: str | None, use_cpu: set[str], use_ipex: bool) -> str:
    if name is None:
        name = "cpu" if "all" in use_cpu else "xpu" if use_ipex else "auto"
    name = name.lower()
    if not re.fullmatch(r"auto|cpu|mps|xpu|cuda(:[0-9]{1,3})?", name):
        raise BadFlag(f'--device wants auto, cpu, cuda, cuda:N, mps or xpu, not "{name}".')
    if index is not None:
        number = _whole_number("--device-id", index)
        if name in ("auto", "cuda"):
            return f"cuda:{number}"
    return name


def _subpath(value: str | None) -> str:
    parts = [part for part in (value or "").split("/") if part]
    if any(part in (".", "..") or not re.fullmatch(r"[A-Za-z0-9._~-]+", part) for part in parts):
        raise BadFlag(f'--subpath wants letters, digits and "-._~" between slashes, not "{value}".')
    return "".join(f"/{part}" for part in parts)


def _names(value: str | None) -> tuple[str, ...]:
    """The names in a list with commas."""
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


def _regex(flag: str, value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise BadFlag(f'{flag} is not a regular expression ({error}): "{value}"') from error
    return value


def _credentials(flag: str, text: str | None) -> tuple[tuple[str, str], ...]:
    """(user, password) pairs of "user:password,user2:password2"; the message of an error shows no password."""
    pairs = []
    for entry in filter(None, ((text or "").strip().split(","))):
        user, colon, password = entry.strip().partition(":")
        if not (user and colon and password):
            raise BadFlag(f"{flag} wants user:password, several of them separated by commas.")
        pairs.append((user, password))
    return tuple(pairs)


def _credentials_from_file(flag: str, path: Path | None) -> tuple[tuple[str, str], ...]:
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFlag(f'{flag}: the file "{path}" can\'t be read ({error}).') from error
    found = tuple(pair for line in lines for pair in _credentials(flag, line))
    if not found:
        raise BadFlag(f'{flag}: the file "{path}" holds no user:password.')
    return found


def _columns(names: Sequence[str], width: int = 110) -> str:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > width:
            lines.append("")
        lines[-1] += f"  {name}"
    return "\n".join(lines)
