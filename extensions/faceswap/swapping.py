"""A picture's faces exchanged, in the worker: who is looked for, who takes their place, and what is done afterwards."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from webui.extensions.api import (
    BadModelFile,
    InvalidRequest,
    NotFound,
    WebuiError,
    decoded_picture,
    find_faces,
    restore_faces,
)

from . import face_models
from .analysis import Analyser, roles_in
from .content import THRESHOLD, explicitness
from .faces import MALE, Face, chosen
from .geometry import Pixels
from .masks import Masking
from .parameters import FACE_MODEL, FOLDER, SWAPPER, Swap
from .parsing import FaceParser, parser_file
from .sessions import CPU, KIND, Networks, offered
from .swapper import Manner, Swapper, swap_face

log = logging.getLogger(__name__)

CONTENT_CHECK, UNLOAD = "reactor_content_check", "reactor_unload"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif")
MOST_SOURCES = 500
REMEMBERED_BYTES = 2**16
"""What the faces of a picture that are remembered take, about."""
LICENCE = "inswapper_128.onnx is free for non-commercial research only and not part of Easel"


@dataclass(frozen=True)
class Source:
    """Who takes the places: the faces of a picture, or one face that was kept. told: what it is, without its name."""

    faces: Sequence[Face]
    told: str
    kept: bool = False


@dataclass(frozen=True)
class Bench:
    """What swapping needs of the job around it. models: see `ModelManager.borrow`. folder: of models.

    tell: takes sentences for the user. folder_of: the folder that a user names.
    """

    models: Any
    choices: Any
    settings: Any
    job: Any
    folder: Path
    tell: Callable[[str], None]
    folder_of: Callable[[str], Path]


@dataclass(frozen=True)
class Swapped:
    """exchanged: how many faces; 0 leaves the picture as it was, but for a forced upscaling."""

    image: Image.Image
    exchanged: int = 0


@dataclass
class Swapping:
    """A swap as it was asked for, for any number of pictures."""

    options: Swap
    bench: Bench
    networks: Networks = field(init=False)
    _known: dict[int, list[Source]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        device = self.options.device
        if device != "CPU" and offered(device) == [CPU]:
            self.bench.tell("ReActor: this onnxruntime knows no graphics card; faces are exchanged on the CPU.")
            device = "CPU"
        self.networks = Networks(self.bench.models, device)

    # Finding

    def faces(self, pixels: Pixels, *, source: bool) -> Sequence[Face]:
        """All faces of a picture, remembered for the next time if that is wished. Raises: WebuiError."""
        options = self.options
        roles = roles_in(self.bench.folder)

        def find() -> list[Face]:
            analyser = Analyser(self.networks, roles, self._by_free_detector)
            return analyser.find(pixels, options.det_thresh, options.det_maxnum, identities=source)

        if not (options.source_hash_check if source else options.target_hash_check):
            return find()
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        which = "source" if source else "target"
        key = (KIND, which, digest, roles.identity, options.det_thresh, options.det_maxnum)
        with self.bench.models.borrow(key, find, REMEMBERED_BYTES) as faces:
            return faces

    def _by_free_detector(self, pixels: Pixels) -> list[tuple[Any, Any, float]]:
        found = find_faces(pixels, self.bench.folder, self.bench.models)
        return [(face.box, face.points, face.score) for face in found]

    def sources(self, seed: int) -> list[Source]:
        """Who takes the places; each makes a result of its own. seed: what a random one follows from.

        Raises: WebuiError when there is none.
        """
        key = seed if self.options.random_image else 0
        if key not in self._known:
            self._known[key] = self._found(seed)
        return self._known[key]

    def _found(self, seed: int) -> list[Source]:
        options = self.options
        if options.select_source == FACE_MODEL:
            name = options.face_model.removesuffix(face_models.ENDING)
            return [Source((face_models.load(self.bench.folder, name),), f"face model {name}", kept=True)]
        if options.select_source == FOLDER:
            return self._from_folder(seed)
        return [self._described(data, f"source picture {n}", "picture") for n, data in enumerate(options.pictures, 1)]

    def _from_folder(self, seed: int) -> list[Source]:
        folder = self.bench.folder_of(self.options.source_folder)
        try:
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        except OSError as error:
            raise NotFound(f'ReActor: the folder "{folder}" can\'t be read: {error.strerror}.') from error
        if not files:
            raise NotFound(f'ReActor: the folder "{folder}" holds no pictures.')
        if len(files) > MOST_SOURCES and not self.options.random_image:
            raise InvalidRequest(f'ReActor: "{folder}" holds {len(files)} pictures; at most {MOST_SOURCES} go at once.')
        if self.options.random_image:
            files = [random.Random(seed).choice(files)]
        found = []
        for file in files:
            try:
                found.append(self._described(file.read_bytes(), file.name, "folder"))
            except (OSError, InvalidRequest) as error:
                if len(files) == 1:
                    raise NotFound(f"ReActor: {file.name} can't be read: {error}") from error
                self.bench.tell(f"ReActor left out {file.name}: {error}")
        if not found:
            raise NotFound(f'ReActor: no picture in "{folder}" can be used.')
        return found

    def _described(self, data: bytes, name: str, told: str) -> Source:
        """Raises: WebuiError for what is no picture, shows no face, or when nothing here tells who a face is."""
        pixels = np.asarray(decoded_picture(data, f"The {name}").convert("RGB"))
        faces = chosen(self.faces(pixels, source=True), self.options.gender_source, self.options.order_source)
        if not faces:
            sought = "" if self.options.gender_source == "No" else f' for "{self.options.gender_source}"'
            raise InvalidRequest(f"ReActor found no face in the {name}{sought}; lower the threshold or take another.")
        if any(face.embedding is None for face in faces):
            raise BadModelFile(
                "ReActor can't tell who a face is: put w600k_r50.onnx of insightface's buffalo_l (for non-commercial "
                "research only) into models/insightface/models/buffalo_l, or choose a face model."
            )
        return Source(faces, told)

    # Exchanging

    def swap(self, image: Image.Image, source: Source) -> Swapped:
        """The picture with its faces exchanged, restored and upscaled as is wished; alpha stays.

        What can't be done is told and left out. Raises: BadModelFile for a swapper that doesn't work.
        """
        options, alpha = self.options, image.getchannel("A") if "A" in image.getbands() else None
        pixels = np.asarray(image.convert("RGB"))
        exchanged = 0
        if self._is_allowed(pixels):
            pixels, exchanged = self._exchanged(pixels, source)
        if not exchanged and not options.upscale_force:
            return Swapped(image)
        made = Image.fromarray(pixels)
        steps = [self._restored, self._upscaled] if options.restore_first else [self._upscaled, self._restored]
        for step in steps:
            if exchanged or step == self._upscaled:
                made = step(made)
        if alpha is not None:
            made.putalpha(alpha if alpha.size == made.size else alpha.resize(made.size, Image.Resampling.LANCZOS))
        return Swapped(made, exchanged)

    def _is_allowed(self, pixels: Pixels) -> bool:
        if not self.bench.settings[CONTENT_CHECK]:
            return True
        if explicitness(pixels, self.networks) < THRESHOLD:
            return True
        self.bench.tell(
            "ReActor left a picture as it was, since the content check takes it for explicit. The check may err; "
            'Settings > ReActor > "Check content" switches it off.'
        )
        return False

    def _exchanged(self, pixels: Pixels, source: Source) -> tuple[Pixels, int]:
        options = self.options
        faces = self.faces(pixels, source=False)
        targets = chosen(faces, options.gender_target, options.order_target)
        if not targets:
            what = "no face" if not faces else f'no face for "{options.gender_target}" among {len(faces)}'
            self.bench.tell(f"ReActor found {what} in the picture; it is as it was.")
            return pixels, 0
        self._log_all(faces)
        count = 0
        with (
            self._masking() as masking,
            self.networks.lent(swapper_file(self.bench.folder, options.model), Swapper.made_of) as swapper,
        ):
            manner = Manner(int(options.side), options.match_colors, masking)
            for place, number in enumerate(options.target_numbers):
                index = options.source_numbers[place if len(options.source_numbers) > 1 else 0]
                index = 0 if source.kept else index
                if number >= len(targets) or index >= len(source.faces):
                    which, there = ("target", targets) if number >= len(targets) else ("source", source.faces)
                    asked = number if which == "target" else index
                    self.bench.tell(f"ReActor: there is no {which} face {asked}; {len(there)} are there, from 0 on.")
                    continue
                target, giver = targets[number], source.faces[index]
                assert giver.embedding is not None
                pixels = swap_face(pixels, target, giver.embedding, swapper, manner)
                count += 1
                self._note(number, target, index, giver)
        return pixels, count

    @contextmanager
    def _masking(self) -> Iterator[Masking]:
        """What of a swapped face may be seen. Raises: BadModelFile."""
        options = self.options
        shape, covered = options.mask_face, options.keep_covered
        file = parser_file(self.bench.folder) if shape or covered else None
        if file is None:
            yield Masking(shape, covered)
            return
        stat = file.stat()
        key = (KIND, "parser", str(file), stat.st_size, stat.st_mtime_ns)
        with self.bench.models.borrow(key, lambda: FaceParser.read(file), stat.st_size) as parser:
            yield Masking(shape, covered, parser)

    def _note(self, number: int, target: Face, index: int, giver: Face) -> None:
        if self.options.console_log_level == "No log":
            return
        for which, place, face in (("Source", index, giver), ("Target", number, target)):
            gender = {MALE: "M", None: "?"}.get(face.gender, "F")
            log.info("%sFaceIndex=%d;Age=%s;Gender=%s", which, place, face.age, gender)
        self.bench.tell(f"ReActor: face {number} ({target.described}) became source face {index} ({giver.described}).")

    def _log_all(self, faces: Sequence[Face]) -> None:
        if self.options.console_log_level == "Default":
            for face in faces:
                log.info("Face at %s, score %.3f, %s", face.box.round().tolist(), face.score, face.described)

    # Afterwards

    def _restored(self, image: Image.Image) -> Image.Image:
        options, bench = self.options, self.bench
        if options.face_restorer_name == "None" or not options.face_restorer_visibility:
            return image
        try:
            made = restore_faces(
                image, options.face_restorer_name, options.codeformer_weight, bench.choices, bench.models
            )
        except WebuiError as error:
            bench.tell(f"ReActor: faces were not restored. {error}")
            return image
        return Image.blend(image, made.convert("RGB"), options.face_restorer_visibility)

    def _upscaled(self, image: Image.Image) -> Image.Image:
        options, bench = self.options, self.bench
        name, scale = options.upscaler_name, options.upscaler_scale
        if name in ("", "None"):
            return image
        megapixels, most = image.width * image.height * scale**2 / 1e6, bench.settings["img_max_size_mp"]
        try:
            if megapixels > most:
                raise InvalidRequest(
                    f"It would have {megapixels:.0f} megapixels; setting img_max_size_mp allows {most:g}."
                )
            made = bench.job.with_settings(bench.settings).enlarge(image, name, scale)
        except WebuiError as error:
            bench.tell(f"ReActor: the picture was not upscaled. {error}")
            return image
        if scale == 1:
            made = made if made.size == image.size else made.resize(image.size, Image.Resampling.LANCZOS)
            return Image.blend(image, made.convert("RGB"), options.upscaler_visibility)
        return made

    def put_away(self) -> None:
        """Let go of the networks, if that is wished after each run."""
        if self.bench.settings[UNLOAD]:
            self.bench.models.forget(KIND)


def swappers_in(models: Path) -> list[str]:
    """The swapper files that the user has, by name."""
    return sorted(file.name for file in (models / "insightface").glob("*.onnx") if file.is_file())


def swapper_file(models: Path, name: str) -> Path:
    """Raises: InvalidRequest naming file, folder and licence."""
    known = swappers_in(models)
    wanted = name if name.endswith(".onnx") else f"{name}.onnx"
    if wanted in known:
        return models / "insightface" / wanted
    if known:
        raise InvalidRequest(
            f'ReActor has no swapper "{name[:100]}"; in models/insightface there are: {", ".join(known[:5])}.'
        )
    raise InvalidRequest(f"ReActor needs its swapper: put {SWAPPER} into models/insightface. {LICENCE}.")
