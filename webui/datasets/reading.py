"""A training set looked at as a whole, before anything starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from webui.core.errors import InvalidRequest
from webui.core.pictures import decoded_picture, size_of
from webui.core.training_data import DataRequest
from webui.datasets.buckets import BucketRules
from webui.datasets.folders import (
    MOST_PICTURES,
    Picture,
    Subset,
    Subsets,
    caption_file,
    caption_of,
    caption_suffixes,
    pictures_in,
    subsets_in,
)
from webui.datasets.parts import Part, parts_of

NAMED = 5
"""Files that a sentence names one by one."""
SMALLEST = 32
"""Pixels of a side below which a picture is of no use."""
USUAL_ENDINGS = (".txt", ".caption")


@dataclass(frozen=True)
class Findings:
    """What a look at a training set found. errors: sentences; it can't be trained on with any. warnings: it can.

    parts: of each size, with its pictures.
    """

    parts: tuple[tuple[Part, tuple[Picture, ...]], ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def require(self) -> None:
        """Raises: InvalidRequest with all errors."""
        if self.errors:
            raise InvalidRequest(" ".join(self.errors))


def look_at(request: DataRequest, *, sdxl: bool = False, decode: bool = False) -> Findings:
    """Read every picture's head and caption. decode: every picture whole, which finds those that end too early.

    Nothing is written, and no folder or picture is passed over silently: what can't be used is told by name.
    """
    found = [_look_at_part(part, sdxl=sdxl, decode=decode) for part in parts_of(request)]
    errors = dict.fromkeys(error for one in found for error in one.errors)
    warnings = dict.fromkeys(warning for one in found for warning in one.warnings)
    return Findings(tuple(part for one in found for part in one.parts), tuple(errors), tuple(warnings))


def _look_at_part(part: Part, *, sdxl: bool, decode: bool) -> Findings:
    request = part.request
    try:
        rules = BucketRules.of(request, sdxl=sdxl)
        subsets = _subsets_of_part(request)
    except InvalidRequest as error:
        return Findings(errors=(str(error),))
    pictures: list[Picture] = []
    errors: list[str] = []
    warnings = list(subsets.left_out)
    for subset in subsets.found:
        files = pictures_in(subset.folder)
        pictures += _read(subset, files, decode, errors)
        warnings += _about_captions(subset, files)
    if len(pictures) > MOST_PICTURES:
        errors.append(f"There are {len(pictures)} pictures; at most {MOST_PICTURES} can be trained on at once.")
    if pictures and all(picture.subset.options.is_reg for picture in pictures):
        errors.append("There are only class pictures; name a folder with the pictures to be learnt, too.")
    _judge_sizes(pictures, rules, errors, warnings)
    return Findings(((part, tuple(pictures)),), tuple(errors), tuple(warnings))


def subsets_of(request: DataRequest) -> Subsets:
    """All folders of a request. Raises: InvalidRequest for one that isn't there, is empty, or for none at all."""
    parts = [_subsets_of_part(part.request) for part in parts_of(request)]
    return Subsets([one for part in parts for one in part.found], [told for part in parts for told in part.left_out])


def _subsets_of_part(request: DataRequest) -> Subsets:
    found: list[Subset] = []
    left_out: list[str] = []
    for name, is_reg in ((request.train_data_dir, False), (request.reg_data_dir, True)):
        if name.strip():
            every = request.every.replace(is_reg=is_reg)
            parts = subsets_in(Path(name.strip()), every, request)
            found += parts.found
            left_out += parts.left_out
    for options in request.folders:
        folder = Path(options.image_dir.strip())
        if not options.image_dir.strip():
            raise InvalidRequest("A part of the training set names no folder of pictures.")
        if not folder.is_dir():
            raise InvalidRequest(f'There is no folder "{folder}" on the machine that runs Easel.')
        if not pictures_in(folder):
            raise InvalidRequest(f"The folder {folder} holds no pictures to train on.")
        found.append(Subset(folder, options, request))
    if not found:
        raise InvalidRequest("Name the folder with the pictures to train on.")
    for subset in found:
        _check_options(subset)
    return Subsets(found, left_out)


def _check_options(subset: Subset) -> None:
    options = subset.options
    if options.face_crop_aug_range.strip():
        raise InvalidRequest(
            f'Crops around faces ("{options.face_crop_aug_range}") aren\'t made here; crop the pictures in Extras with '
            '"Auto focal point crop", and leave this empty.'
        )
    if subset.naming.crop == "focal" and (options.random_crop or options.alpha_mask):
        raise InvalidRequest(
            "Crops where there is most to see go neither with random crops nor with the alpha channel as weight; "
            "choose the middle."
        )
    if not options.caption_separator and (options.shuffle_caption or options.caption_tag_dropout_rate):
        raise InvalidRequest("Tags can only be shuffled or left out with a separator between them, such as a comma.")


def _read(subset: Subset, files: Sequence[Path], decode: bool, errors: list[str]) -> Iterator[Picture]:
    for file in files:
        try:
            data = file.read_bytes()
            size = decoded_picture(data, file.name).size if decode else size_of(data)
            yield Picture(file, size, caption_of(file, subset), subset, hashlib.sha256(data).hexdigest())
        except OSError as error:
            errors.append(f"{file} can't be read: {error.strerror}.")
        except InvalidRequest as error:
            errors.append(f"{file.parent.name}/{file.name}: {str(error).rstrip('.')}.")


def _about_captions(subset: Subset, files: Sequence[Path]) -> Iterator[str]:
    stems: dict[str, list[str]] = {}
    for file in files:
        stems.setdefault(file.stem, []).append(file.name)
    for names in stems.values():
        if len(names) > 1:
            yield f"{' and '.join(names)} in {subset.folder.name} share one caption, since only their endings differ."
    options = subset.options
    if subset.naming.caption_from != "file" or options.is_reg:
        return
    suffixes = caption_suffixes(options.caption_extension)
    without = [file for file in files if caption_file(file, suffixes) is None]
    other = next((found for file in without if (found := caption_file(file, USUAL_ENDINGS))), None)
    if other is not None:
        yield (
            f"{len(without)} pictures in {subset.folder.name} have no caption ending in {options.caption_extension}, "
            f"but there are others, such as {other.name}; name that ending to use them."
        )
    elif without and not options.class_tokens and not options.caption_prefix:
        yield (
            f"{len(without)} pictures in {subset.folder.name} have no caption ({_some(without)}) and are trained "
            "with an empty one; give a trigger word, or describe them."
        )


def _judge_sizes(pictures: Sequence[Picture], rules: BucketRules, errors: list[str], warnings: list[str]) -> None:
    enlarged: list[Path] = []
    for picture in pictures:
        name = f"{picture.subset.folder.name}/{picture.path.name}"
        width, height = picture.size
        if min(picture.size) < SMALLEST:
            errors.append(
                f"{name} is only {width}x{height}, too small to learn anything from; leave it out or replace it."
            )
            continue
        try:
            placement = rules.place(picture.size)
        except InvalidRequest as error:
            errors.append(f"{name} can't be used: {error}.")
            continue
        if placement.resized[0] > width * 1.01:
            enlarged.append(picture.path)
    if enlarged:
        warnings.append(
            f"{len(enlarged)} of {len(pictures)} pictures are smaller than they are trained at and will be enlarged, "
            f"which makes them soft ({_some(enlarged)})."
        )


def _some(files: Sequence[Path]) -> str:
    names = ", ".join(file.name for file in files[:NAMED])
    return names if len(files) <= NAMED else f"{names}, ..."
