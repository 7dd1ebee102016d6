"""Which networks enlarge pictures here: A1111's by name, whether or not their weights are there, and all files.

A file in one of the folders is listed by its name; one that holds the weights of a network that A1111 names stands
for that. No file is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from webui.catalog.files import FileCatalog
from webui.core.choices import UpscaleNetwork, Upscaler
from webui.core.packaged import UPSCALER_WEIGHTS
from webui.core.settings import SettingsStore

SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin")
FUNCTION = "webui.pipeline.upscaling:by_network"

_GITHUB = "https://github.com/"
_REALESRGAN = _GITHUB + "xinntao/Real-ESRGAN/releases/download/"
_DAT = _GITHUB + "n0kovo/dat_upscaler_models/raw/main/DAT/"
_KAIR = _GITHUB + "cszn/KAIR/releases/download/v1.0/"
_SWINIR = _GITHUB + "JingyunLiang/SwinIR/releases/download/v0.0/"

ESRGAN_TILES = ("ESRGAN_tile", "ESRGAN_tile_overlap")
DAT_TILES = ("DAT_tile", "DAT_tile_overlap")
FOLDERS: Mapping[str, tuple[str, str]] = {
    "ESRGAN": ESRGAN_TILES,
    "RealESRGAN": ESRGAN_TILES,
    "BSRGAN": ESRGAN_TILES,
    "upscale_models": ESRGAN_TILES,
    "DAT": DAT_TILES,
    "HAT": DAT_TILES,
    "SwinIR": ("SWIN_tile", "SWIN_tile_overlap"),
    "ScuNET": ("SCUNET_tile", "SCUNET_tile_overlap"),
}
"""Folder below that of models -> the settings for the tiles of its files: their size, and how far they overlap."""


@dataclass(frozen=True)
class Known:
    """A network that A1111 names. stems: names of its file, without suffix. enabled_by: the setting that shows it.

    model_name: as A1111 lists it.
    """

    name: str
    folder: str
    address: str
    stems: tuple[str, ...]
    scale: int = 4
    enabled_by: str | None = None
    model_name: str | None = None


KNOWN = (
    *(Known(f"DAT x{n}", "DAT", f"{_DAT}DAT_x{n}.pth", (f"DAT_x{n}",), n, "dat_enabled_models") for n in (2, 3, 4)),
    Known("ESRGAN_4x", "ESRGAN", f"{_KAIR}ESRGAN.pth", ("ESRGAN_4x", "ESRGAN"), model_name="ESRGAN_4x"),
    *(
        Known(name, "RealESRGAN", _REALESRGAN + path, (Path(path).stem,), scale, "realesrgan_enabled_models")
        for name, path, scale in (
            ("R-ESRGAN General 4xV3", "v0.2.5.0/realesr-general-x4v3.pth", 4),
            ("R-ESRGAN General WDN 4xV3", "v0.2.5.0/realesr-general-wdn-x4v3.pth", 4),
            ("R-ESRGAN AnimeVideo", "v0.2.5.0/realesr-animevideov3.pth", 4),
            ("R-ESRGAN 4x+", "v0.1.0/RealESRGAN_x4plus.pth", 4),
            ("R-ESRGAN 4x+ Anime6B", "v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth", 4),
            ("R-ESRGAN 2x+", "v0.2.1/RealESRGAN_x2plus.pth", 2),
        )
    ),
    Known(
        "ScuNET GAN",
        "ScuNET",
        f"{_KAIR}scunet_color_real_gan.pth",
        ("scunet_color_real_gan", "ScuNET"),
        model_name="ScuNET GAN",
    ),
    Known(
        "ScuNET PSNR",
        "ScuNET",
        f"{_KAIR}scunet_color_real_psnr.pth",
        ("scunet_color_real_psnr", "ScuNETPSNR"),
        model_name="ScuNET GAN",
    ),
    Known(
        "SwinIR 4x",
        "SwinIR",
        f"{_SWINIR}003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN.pth",
        ("003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN", "SwinIR_4x"),
        model_name="SwinIR 4x",
    ),
)
REALESRGAN_MODELS = tuple(known for known in KNOWN if known.enabled_by == "realesrgan_enabled_models")
LDSR = Upscaler(
    "LDSR",
    FUNCTION,
    refusal="LDSR isn't in this version: it is a diffusion model of its own. Choose another upscaler.",
)


class UpscalerCatalog:
    """Networks that enlarge pictures. Safe to use from several threads.

    models: the folder of models. more: further folders with files as ESRGAN's are.
    """

    def __init__(self, models: Path, more: Sequence[Path], settings: SettingsStore):
        self.models = models
        self._settings = settings
        self._files = {name: FileCatalog([models / name], SUFFIXES) for name in FOLDERS}
        self._files[""] = FileCatalog(more, SUFFIXES)

    def all(self) -> tuple[Upscaler, ...]:
        """By name, without regard to case; what a setting hides is left out."""
        return tuple(sorted(self._listed(), key=lambda upscaler: upscaler.name.lower()))

    def _listed(self) -> Iterator[Upscaler]:
        settings = self._settings.snapshot()
        taken: set[Path] = set()
        for known in KNOWN:
            network = self._network(known)
            if network.file is not None:
                taken.add(network.file)
            if known.enabled_by is None or known.name in settings[known.enabled_by]:
                yield Upscaler(known.name, FUNCTION, network)
        yield LDSR
        names = {known.name.lower() for known in KNOWN}
        for folder, catalog in self._files.items():
            catalog.poll()
            for file in catalog.all():
                if file.path in taken or file.stem.lower() in names:
                    continue
                names.add(file.stem.lower())
                network = UpscaleNetwork(FOLDERS.get(folder, ESRGAN_TILES), 4, file.path, str(file.path), file.stem)
                yield Upscaler(file.stem, FUNCTION, network)

    def _network(self, known: Known) -> UpscaleNetwork:
        catalog = self._files[known.folder]
        catalog.poll()
        files = {file.stem.lower(): file.path for file in reversed(catalog.all())}
        file = next((files[stem.lower()] for stem in known.stems if stem.lower() in files), None)
        packaged = next((weights for weights in UPSCALER_WEIGHTS if weights.name == known.name), None)
        missing = packaged.missing if packaged else _missing(known)
        tiles = FOLDERS[known.folder]
        network = UpscaleNetwork(tiles, known.scale, None, known.address, known.model_name, missing)
        return network if file is None else replace(network, file=file, address=str(file))


def _missing(known: Known) -> str:
    file = known.address.rpartition("/")[2]
    return f"{known.name} has no weights here: put {file} ({known.address}) into the folder models/{known.folder}."
