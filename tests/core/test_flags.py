"""The command line as A1111's users type it, and the sentences about what can't be meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from webui.core.flags import (
    IDLE_SWITCHES,
    IDLE_VALUES,
    MOOT_SWITCHES,
    MOOT_VALUES,
    STARTED_IN,
    BadFlag,
    Flags,
    flag_parser,
    parse_flags,
)

ROOT = Path(__file__).resolve().parents[2]


def flags_of(*argv: str, **environ: str) -> Flags:
    flags, warnings = parse_flags(argv, environ)
    assert warnings == []
    return flags


def test_defaults() -> None:
    flags = flags_of()
    assert flags == Flags()
    assert (flags.port, flags.host, flags.is_local) == (7860, "127.0.0.1", True)
    assert flags.precision == "autocast"
    assert flags.device == "auto"


def test_every_flag_of_a1111_is_known_with_its_arity(parity: Path) -> None:
    recorded = json.loads((parity / "cmdline-args.json").read_text())
    ours = {name: action for action in flag_parser()._actions for name in action.option_strings}
    assert {name for entry in recorded for name in entry["flags"]} - set(ours) == set()
    for entry in recorded:
        for name in entry["flags"]:
            takes_value = entry["nargs"] != 0
            assert (ours[name].nargs != 0) == takes_value, name
            if entry["nargs"] == "+":
                assert ours[name].nargs == "+", name


def test_idle_flags_are_listed_in_one_warning_and_moot_ones_not_at_all() -> None:
    idle = [*IDLE_SWITCHES, *(word for name in IDLE_VALUES for word in (name, "7"))]
    moot = [*MOOT_SWITCHES, *(word for name in MOOT_VALUES for word in (name, "7"))]
    flags, warnings = parse_flags([*idle, *moot], {})
    assert flags == Flags()
    assert len(warnings) == 1
    assert warnings[0].startswith("Accepted without effect in this version: ")
    assert all(name in warnings[0] for name in IDLE_SWITCHES + IDLE_VALUES)
    assert not any(f" {name}," in warnings[0] for name in MOOT_SWITCHES + MOOT_VALUES)


def test_unknown_flags_warn_with_the_nearest_and_take_their_values_along() -> None:
    flags, warnings = parse_flags(["--prot", "80", "--no-hlaf", "--port", "81", "--zzzzqqqq=1"], {})
    assert flags.port == 81
    assert warnings == [
        'Unknown flag "--prot" is ignored; the closest is "--port".',
        'Unknown flag "--no-hlaf" is ignored; the closest is "--no-half".',
        'Unknown flag "--zzzzqqqq" is ignored.',
    ]


def test_a_stray_word_is_named() -> None:
    assert parse_flags(["tset"], {})[1] == ['"tset" on the command line is not a flag and is ignored.']


def test_commandline_args_are_appended_and_win() -> None:
    flags = flags_of("--port", "7000", "--no-half", COMMANDLINE_ARGS='--port 7001 --ckpt "a model.safetensors"')
    assert flags.port == 7001
    assert flags.no_half
    assert flags.ckpt == Path.cwd() / "a model.safetensors"


def test_unbalanced_quotes_in_commandline_args() -> None:
    with pytest.raises(BadFlag, match="COMMANDLINE_ARGS can't be read"):
        parse_flags([], {"COMMANDLINE_ARGS": '--ckpt "oops'})


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--port", "99999"], '--port wants a number from 1 to 65535, not "99999".'),
        (["--port", "0"], '--port wants a number from 1 to 65535, not "0".'),
        (["--port", "web"], '--port wants a number from 1 to 65535, not "web".'),
        (["--port"], "--port needs a value."),
        (["--theme", "--listen"], "--theme needs a value."),
        (["--listen=yes"], "--listen is a switch and takes no value."),
        (["--precision", "foo"], '--precision wants one of full, half, autocast, not "foo".'),
        (["--precision", "half", "--no-half"], "--precision half contradicts"),
        (["--device", "gpu"], '--device wants auto, cpu, cuda, cuda:N, mps or xpu, not "gpu".'),
        (["--device-id", "first"], '--device-id wants a whole number, not "first".'),
        (["--loglevel", "loud"], "--loglevel wants one of CRITICAL, ERROR, WARNING, INFO, DEBUG"),
        (["--theme", "pink"], "--theme wants one of light, dark"),
        (["--timeout-keep-alive", "-5"], "--timeout-keep-alive"),
        (["--subpath", "a/../b"], "--subpath wants letters"),
        (["--cors-allow-origins-regex", "("], "--cors-allow-origins-regex is not a regular expression"),
        (["--gradio-auth-path", "no-such-file"], "can't be read"),
    ],
)
def test_bad_values_get_one_sentence(argv: list[str], sentence: str) -> None:
    with pytest.raises(BadFlag) as caught:
        parse_flags(argv, {})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_host_and_reach() -> None:
    assert flags_of("--listen").host == "0.0.0.0"
    assert not flags_of("--listen").is_local
    assert flags_of("--listen", "--server-name", "10.0.0.5").host == "10.0.0.5"
    assert flags_of("--server-name", "::1").is_local
    assert not flags_of("--share").is_local


def test_the_api_alone_has_its_own_port() -> None:
    assert flags_of("--nowebui").port == 7861
    assert flags_of("--nowebui", "--port", "7860").port == 7860
    assert not flags_of("--nowebui").port_given


@pytest.mark.parametrize(
    ("argv", "device"),
    [
        (["--device", "cuda:1"], "cuda:1"),
        (["--device-id", "2"], "cuda:2"),
        (["--device", "cuda", "--device-id", "3"], "cuda:3"),
        (["--device", "CPU"], "cpu"),
        (["--use-cpu", "all"], "cpu"),
        (["--use-ipex"], "xpu"),
        (["--device", "mps", "--device-id", "1"], "mps"),
    ],
)
def test_device(argv: list[str], device: str) -> None:
    assert flags_of(*argv).device == device


def test_use_cpu_for_single_modules_has_no_effect_yet() -> None:
    flags, warnings = parse_flags(["--use-cpu", "interrogate", "codeformer"], {})
    assert flags.device == "auto"
    assert warnings == ["Accepted without effect in this version: --use-cpu codeformer interrogate."]


def test_subpath_is_normalised() -> None:
    assert flags_of("--subpath", "/sd/ui/").subpath == "/sd/ui"
    assert flags_of("--subpath", "/").subpath == ""


def test_credentials_from_flag_and_file_and_none_in_messages(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("ann:b:c, dan:e\n\nfay:g\n")
    flags = flags_of("--gradio-auth", "u:p", "--gradio-auth-path", str(users), "--api-auth", "x:y")
    assert flags.credentials == (("u", "p"), ("ann", "b:c"), ("dan", "e"), ("fay", "g"))
    assert flags.api_credentials == (("x", "y"),)
    assert "b:c" not in repr(flags)
    with pytest.raises(BadFlag) as caught:
        parse_flags(["--api-auth", "topsecret"], {})
    assert "topsecret" not in str(caught.value)


def test_relative_paths_start_where_the_user_stood(tmp_path: Path) -> None:
    flags = flags_of("--data-dir", "data", "--styles-file", "../a*.csv", **{STARTED_IN: str(tmp_path / "here")})
    assert flags.data_dir == tmp_path / "here" / "data"
    assert flags.styles_files == (tmp_path / "a*.csv",)


def test_only_the_standard_library_is_needed() -> None:
    code = "import sys; from webui.core.flags import parse_flags; parse_flags(['--listen'], {}); print(sys.path)"
    run = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
