"""Where Easel's files lie, and how a name that a user gave becomes a path inside a folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from webui.core.errors import NotFound, Refused
from webui.core.file_names import safe_name
from webui.core.flags import Flags


@dataclass(frozen=True)
class Paths:
    """Absolute paths. --data-dir moves everything but the code, what it ships and what another flag names.

    code: the folder of launch.py. checkpoints: every folder that is searched for checkpoints, the user's first.
    extensions: the user's own; builtin_extensions: those that ship (the same folder without --data-dir).
    model_folders: the list of further folders whose models are used (webui.core.layouts).
    styles: the file new styles are written to. hypernetworks, vae, lora: inside models unless a flag moves them.
    """

    code: Path
    data: Path
    models: Path
    checkpoints: tuple[Path, ...]
    vae: Path
    lora: Path
    hypernetworks: Path
    embeddings: Path
    outputs: Path
    extensions: Path
    builtin_extensions: Path
    config: Path
    ui_config: Path
    styles: Path
    params_txt: Path
    model_folders: Path
    cache: Path
    categories: Path
    log: Path
    tmp: Path
    jobs: Path
    users: Path

    @classmethod
    def of(cls, flags: Flags) -> Paths:
        """Where things lie for these flags; touches no file."""
        code = Path(__file__).resolve().parents[2]
        data = flags.data_dir or code
        models = flags.models_dir or data / "models"
        checkpoints = (models / "Stable-diffusion", flags.ckpt_dir, code / "models" / "Stable-diffusion")
        return cls(
            code=code,
            data=data,
            models=models,
            checkpoints=tuple(dict.fromkeys(folder for folder in checkpoints if folder)),
            vae=flags.vae_dir or models / "VAE",
            lora=flags.lora_dir or models / "Lora",
            hypernetworks=flags.hypernetwork_dir or models / "hypernetworks",
            embeddings=flags.embeddings_dir or data / "embeddings",
            outputs=data / "outputs",
            extensions=data / "extensions",
            builtin_extensions=code / "extensions",
            config=flags.ui_settings_file or data / "config.json",
            ui_config=flags.ui_config_file or data / "ui-config.json",
            styles=next((file for file in flags.styles_files if "*" not in file.name), data / "styles.csv"),
            params_txt=data / "params.txt",
            model_folders=data / "model-folders.txt",
            cache=data / "cache",
            categories=data / "interrogate",
            log=data / "log",
            tmp=data / "tmp",
            jobs=data / "jobs",
            users=data / "users",
        )

    @property
    def rescue(self) -> tuple[Path, ...]:
        """Folders for pictures whose own folder can't be written, in this order; not made before they are needed."""
        return self.outputs / "rescued", Path.home() / "easel-rescued"

    def make_folders(self) -> None:
        """Create the user's folders that aren't there yet.

        Raises: OSError where that isn't allowed.
        """
        own = (self.checkpoints[0], self.vae, self.lora, self.hypernetworks, self.embeddings)
        for folder in (*own, self.outputs, self.extensions, self.cache, self.log, self.tmp, self.jobs):
            folder.mkdir(parents=True, exist_ok=True)


def child(root: Path, name: str, *, must_exist: bool = True) -> Path:
    """The file or folder `name` inside `root`, resolved.

    name: as a user or a request gave it, parts separated by "/"; "%2e" and the like are literal characters.
    Raises: Refused for a name that leads outside (absolute, with a drive or a share, "..", through a symbolic link)
    or that no file can have; NotFound when there is no such file and must_exist.
    """
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    outside = windows.anchor or posix.is_absolute() or ".." in windows.parts or ".." in posix.parts
    if outside or "\0" in name or not posix.parts:
        raise Refused(f'"{_shown(name)}" is not a name inside {root.name}: use a plain name without "..".')
    try:
        path = (root / name).resolve()
        inside = path.is_relative_to(root.resolve())
        found = inside and path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, not encodable
        raise Refused(f'"{_shown(name)}" can\'t be the name of a file.') from error
    if not inside:
        raise Refused(f'"{_shown(name)}" leads out of {root.name} and is not followed.')
    if must_exist and not found:
        raise NotFound(f'There is no "{_shown(name)}" in {root.name}. Refresh the list if it was just added.')
    return path


def inside(root: Path, parts: Iterable[str]) -> Path:
    """The folder below `root` that the names lead to, each cleaned; it need not exist.

    Raises: Refused where a symbolic link on the way leads out of `root`, or goes in a circle.
    """
    names = [name for part in parts if (name := safe_name(part))]
    try:
        place, folder = root.resolve(), root.joinpath(*names).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, names too long together
        raise Refused(f"{root} has no folder {_shown('/'.join(names))}: {error}.") from error
    if not folder.is_relative_to(place):
        raise Refused(f"{_shown('/'.join(names))} in {root} is a link that leads to {folder}; it isn't followed.")
    return root.joinpath(*names)


def _shown(name: str) -> str:
    """The name, printable and short enough for a sentence."""
    printable = name.encode("unicode_escape").decode("ascii") if not name.isprintable() else name
    return printable if len(printable) <= 120 else f"{printable[:117]}..."
