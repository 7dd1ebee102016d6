"""A training set from its folders, looked at as a whole before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from webui.core.errors import InvalidRequest
from webui.core.pictures import size_of
from webui.datasets.buckets import BucketRules
from webui.datasets.epochs import Dataset, placed_in_buckets
from webui.datasets.folders import MOST_PICTURES, CaptionSource, Picture, Subset, caption_file, caption_of, pictures_in
from webui.datasets.pixels import require_picture

NAMED = 5
"""Files that a sentence names one by one."""


@dataclass(frozen=True)
class Findings:
    """What a look at a training set found. errors: sentences; it can't be trained on with any. warnings: it can."""

    pictures: tuple[Picture, ...]
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def require(self) -> None:
        """Raises: InvalidRequest with all errors."""
        if self.errors:
            raise InvalidRequest(" ".join(self.errors))


def look_at(subsets: Sequence[Subset], rules: BucketRules, *, decode: bool = False) -> Findings:
    """Read every picture's head and caption. decode: every picture whole, which finds those that end too early.

    Nothing is written, and no folder or picture is passed over silently: what can't be used is an error that names it.
    """
    pictures: list[Picture] = []
    errors: list[str] = []
    warnings: list[str] = []
    try:
        rules.check()
    except InvalidRequest as error:
        errors.append(str(error))
    for subset in subsets:
        try:
            files = pictures_in(subset.folder)
        except InvalidRequest as error:
            errors.append(str(error))
            continue
        if not files:
            errors.append(f"The folder {subset.folder} holds no pictures to train on.")
        pictures += _read(subset, files, decode, errors)
        warnings += _about_captions(subset, files)
    if len(pictures) > MOST_PICTURES:
        errors.append(f"There are {len(pictures)} pictures; at most {MOST_PICTURES} can be trained on at once.")
    if pictures and all(picture.subset.is_class for picture in pictures):
        errors.append("There are only class pictures; name a folder with the pictures to be learnt, too.")
    sized, too_small = _sizes(pictures, rules)
    errors += too_small
    warnings += sized
    return Findings(tuple(pictures), tuple(errors), tuple(warnings))


def dataset_of(subsets: Sequence[Subset], rules: BucketRules, batch_size: int = 1, seed: int = 0) -> Dataset:
    """The training set in these folders. Raises: InvalidRequest with a sentence about each thing that is wrong."""
    findings = look_at(subsets, rules)
    findings.require()
    return placed_in_buckets(findings.pictures, rules, batch_size, seed)


def _read(subset: Subset, files: Sequence[Path], decode: bool, errors: list[str]) -> Iterator[Picture]:
    for file in files:
        try:
            data = file.read_bytes()
            size = require_picture(data, file.name) if decode else size_of(data)
            yield Picture(file, size, caption_of(file, subset), subset)
        except OSError as error:
            errors.append(f"{file} can't be read: {error.strerror}.")
        except InvalidRequest as error:
            told = str(error).removeprefix(f"{file.name}: ")
            errors.append(f"{file.parent.name}/{file.name}: {told[:1].upper()}{told[1:].rstrip('.')}.")


def _about_captions(subset: Subset, files: Sequence[Path]) -> Iterator[str]:
    stems: dict[str, list[str]] = {}
    for file in files:
        stems.setdefault(file.stem, []).append(file.name)
    for names in stems.values():
        if len(names) > 1:
            yield f"{' and '.join(names)} in {subset.folder.name} share one caption, since only their endings differ."
    if subset.caption_source is not CaptionSource.FILES or subset.is_class:
        return
    without = [file for file in files if caption_file(file, subset.caption_suffix) is None]
    if without and subset.caption_suffix and any(caption_file(file) for file in without):
        found = next(found for file in without if (found := caption_file(file)))
        yield (
            f"{len(without)} pictures in {subset.folder.name} have no caption ending in {subset.caption_suffix}, but "
            f"there are others, such as {found.name}; choose that ending to use them."
        )
    elif without and not subset.words:
        yield (
            f"{len(without)} pictures in {subset.folder.name} have no caption ({_some(without)}) and are trained "
            "with an empty one; give a trigger word, or describe them."
        )


def _sizes(pictures: Sequence[Picture], rules: BucketRules) -> tuple[list[str], list[str]]:
    """Sentences about pictures that are enlarged, and about those that are too small."""
    errors: list[str] = []
    enlarged: list[Path] = []
    for picture in pictures:
        try:
            placement = rules.place(picture.size)
        except InvalidRequest as error:
            errors.append(f"{picture.subset.folder.name}/{picture.path.name} can't be used: {error}.")
            continue
        if min(picture.size) < 32:
            errors.append(
                f"{picture.subset.folder.name}/{picture.path.name} is only {picture.size[0]}x{picture.size[1]}, too "
                "small to learn anything from; leave it out or replace it."
            )
        elif placement.resized[0] > picture.size[0] * 1.01:
            enlarged.append(picture.path)
    if not enlarged:
        return [], errors
    return [
        f"{len(enlarged)} of {len(pictures)} pictures are smaller than they are trained at and will be enlarged, which "
        f"makes them soft ({_some(enlarged)})."
    ], errors


def _some(files: Sequence[Path]) -> str:
    names = ", ".join(file.name for file in files[:NAMED])
    return names if len(files) <= NAMED else f"{names}, ..."
