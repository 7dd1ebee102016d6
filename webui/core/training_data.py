"""What a training learns from: folders of pictures with captions, and how the loop is handed them.

Names and defaults are kohya's (sd-scripts); what A1111's Train tab has beside them says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from webui.core.params import Params, group_list, param

if TYPE_CHECKING:
    import numpy as np

MOST_FOLDERS = 1000
MOST_DATASETS = 100


class DataFolder(Params):
    """A folder of pictures and what happens to its pictures and captions; kohya's "subset".

    num_repeats: how often each picture comes in an epoch. is_reg: class pictures, for prior preservation.
    class_tokens: the caption of pictures that have no caption file. caption_extension: of those files; several are
    tried in order, "caption, txt". keep_tokens: how many tags at the front stay where they are. keep_tokens_separator:
    what ends the part that stays, "" for none; a second one begins a part that stays at the end.
    secondary_separator: replaced by the separator once the tags are joined. caption_dropout_every_n_epochs: 0 for
    never. token_warmup_step: until this step captions grow from `token_warmup_min` tags to all; below 1, a share of
    the training. alpha_mask: the picture's transparency weighs the loss. face_crop_aug_range: "2.0,4.0", "" for off.
    """

    image_dir: str = param("", label="Folder")
    num_repeats: int = param(1, label="Repeats", ge=1, le=10_000)
    is_reg: bool = param(False, label="Class pictures (prior preservation)")
    class_tokens: str = param("", label="Caption of pictures without one", max_length=2000)
    caption_extension: str = param(".caption, .txt", label="Caption file extension", max_length=100)
    caption_separator: str = param(",", label="Separator of tags", max_length=10)
    shuffle_caption: bool = param(False, label="Shuffle tags")
    keep_tokens: int = param(0, label="Keep this many tags in front", ge=0, le=1000)
    keep_tokens_separator: str = param("", label="Separator after the tags that stay", max_length=20)
    secondary_separator: str = param("", label="Secondary separator", max_length=20)
    enable_wildcard: bool = param(False, label="Read {a|b} in captions as a choice, and each line as a caption")
    caption_prefix: str = param("", label="Before every caption", max_length=2000)
    caption_suffix: str = param("", label="After every caption", max_length=2000)
    caption_dropout_rate: float = param(0.0, label="Leave captions out", ge=0, le=1, step=0.01)
    caption_dropout_every_n_epochs: int = param(0, label="Leave captions out every N epochs", ge=0, le=10_000)
    caption_tag_dropout_rate: float = param(0.0, label="Leave tags out", ge=0, le=1, step=0.01)
    token_warmup_min: int = param(1, label="Tags at the beginning", ge=1, le=1000)
    token_warmup_step: float = param(0.0, label="Steps until captions are whole", ge=0, le=10_000_000)
    color_aug: bool = param(False, label="Vary colours")
    flip_aug: bool = param(False, label="Mirror half of the pictures")
    random_crop: bool = param(False, label="Crop at random places")
    face_crop_aug_range: str = param("", label="Crop around faces by", max_length=40)
    alpha_mask: bool = param(False, label="Use PNG alpha channel as loss weight")


class Sizes(Params):
    """At which sizes pictures are trained on.

    resolution: "512" or "width,height"; of the pictures, or, with buckets, the area of each. bucket_reso_steps: a
    multiple of 8, of 32 for SDXL. bucket_no_upscale: small pictures stay small; the limits don't hold then.
    """

    resolution: str = param("512", label="Resolution", max_length=20)
    enable_bucket: bool = param(True, label="Sort pictures into buckets by shape")
    min_bucket_reso: int = param(256, label="Smallest side", ge=64, le=8192)
    max_bucket_reso: int = param(1024, label="Largest side", ge=64, le=8192)
    bucket_reso_steps: int = param(64, label="Sides are multiples of", ge=8, le=512)
    bucket_no_upscale: bool = param(False, label="Don't enlarge small pictures")
    resize_interpolation: Literal["", "nearest", "bilinear", "bicubic", "lanczos", "area", "box"] = param(
        "",
        label="Resize by",
        choices=("", "nearest", "bilinear", "bicubic", "lanczos", "area", "box"),
        help='"" takes the area when shrinking and Lanczos when growing.',
    )


class Dataset(Sizes):
    """Folders whose pictures are trained on at sizes of their own, beside others; one of kohya's several "datasets".

    batch_size: of its batches, 0 for the training's.
    """

    batch_size: int = param(0, label="Batch size", ge=0, le=256)
    folders: tuple[DataFolder, ...] = group_list(DataFolder, count=0, most=MOST_FOLDERS)


class DataRequest(Sizes):
    """Which pictures, and at which sizes.

    train_data_dir, reg_data_dir: folders of folders as kohya names them, "10_sks man": 10 repeats, then the caption of
    pictures without one; each is read with the options of `every`. folders: further folders with options of their own.
    datasets: further folders at sizes of their own.
    crop: how a picture comes to its size: "center" scales to cover and cuts, "focal" cuts where there is most to see,
    "none", for which buckets must be off, takes the picture's own size rounded down to 8 pixels (A1111's "Do not resize
    images"), and only pictures of one size go into a batch.
    prior: how class pictures come in: "mixed" are items of the dataset like others, repeated to match the train
    pictures (kohya); "paired" puts as many class pictures beside the train pictures of every batch (DreamBooth's
    original: the dataset is as long as the longer of the two, each counted round).
    caption_from: "file", or "name": the picture's name without digits, brackets and dashes, "_" as a space
    (fast-DreamBooth); "name" appends the caption file's text when `name_and_file` is on. "words" is A1111's: the whole
    file, else the name without the digits and dashes in front, or what `word_regex` finds in it, joined by `word_join`.
    """

    train_data_dir: str = param("", label="Folder of training folders")
    reg_data_dir: str = param("", label="Folder of class folders")
    every: DataFolder = DataFolder()
    folders: tuple[DataFolder, ...] = group_list(DataFolder, count=0, most=MOST_FOLDERS)
    datasets: tuple[Dataset, ...] = group_list(Dataset, count=0, most=MOST_DATASETS)
    crop: Literal["center", "focal", "none"] = param("center", label="Crop", choices=("center", "focal", "none"))
    prior: Literal["mixed", "paired"] = param("mixed", label="Class pictures", choices=("mixed", "paired"))
    caption_from: Literal["file", "name", "words"] = param(
        "file", label="Captions from", choices=("file", "name", "words")
    )
    name_and_file: bool = param(False, label="Append the caption file to the name")
    word_regex: str = param("", label="Words of a name (regular expression)", max_length=1000)
    word_join: str = param(" ", label="Between words of a name", max_length=100)


@dataclass(frozen=True)
class Item:
    """One picture as it is trained on, already cropped, resized, mirrored.

    key: tells its pixels from all others', across runs too (the file's content, crop, size, mirrored or not): its
    latent is kept under it. "" for pixels that are made anew each time (varied colours, random crops).
    read: the pixels, (H, W, 3) uint8 RGB, sides multiples of 8; it opens the file, so call it only when needed.
    caption: after shuffling, dropouts, prefix; "" for none. path: the picture's file, as text.
    weight: of its loss, 1.0 but for class pictures of a "mixed" dataset, which have prior_loss_weight.
    is_prior: a class picture. mask: the weight of each pixel, (H, W) float32 in [0, 1], None for 1 everywhere.
    original: (width, height) of the file; crop: (left, top) where it was cut after resizing, for SDXL.
    """

    key: str
    read: Callable[[], np.ndarray]
    caption: str
    path: str
    size: tuple[int, int]
    weight: float = 1.0
    is_prior: bool = False
    mask: Callable[[], np.ndarray] | None = None
    original: tuple[int, int] = (0, 0)
    crop: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Batch:
    """Items of one size (width, height); of a "paired" dataset, the train items and then as many class items."""

    items: tuple[Item, ...]


@dataclass(frozen=True)
class DataFacts:
    """What is known about a dataset before the training, and what a LoRA's metadata say of it.

    pictures, prior_pictures: items of an epoch, repeats counted. metadata: kohya's keys without "ss_" that tell of
    data, values as JSON takes them: num_train_images, num_reg_images, resolution, enable_bucket, bucket_info,
    dataset_dirs, reg_dataset_dirs, tag_frequency, shuffle_caption ... largest: (width, height) of the largest bucket.
    comments: what a user should know (pictures without captions, folders passed over), a sentence each.
    """

    pictures: int
    prior_pictures: int
    largest: tuple[int, int]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    comments: tuple[str, ...] = ()


class TrainingData(Protocol):
    """A dataset as the loop walks it: the same seed gives the same batches, whenever and wherever it begins.

    Made by `webui.datasets.opening.open_data(request: DataRequest, *, batch_size: int, seed: int, sdxl: bool,
    prior_loss_weight: float, total_batches: int, focus) -> TrainingData`, without torch. It raises InvalidRequest with
    sentences for what can't be trained on (no pictures, a folder that isn't there, contradicting options).
    """

    @property
    def facts(self) -> DataFacts: ...

    def batches_in(self, epoch: int) -> int:
        """How many batches an epoch has. epoch: from 0. The same for all epochs in kohya's datasets."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the `start`-th on.

        All chance comes from the seed, the epoch and the place in it, so that a training that goes on at `start`
        gets what it would have got. Raises: InvalidRequest for a picture that can't be read any more.
        """
