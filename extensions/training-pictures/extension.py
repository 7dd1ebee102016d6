"""Pictures made ready for training, as operations of Extras: split, cropped, mirrored, described.

Each is one of A1111's, under its name, with its parameters, and in its place of the order.
"""

from webui.extensions.api import Captioner, ExtrasStep, Params, hookimpl, param

from .cropping import AutoSizedCrop, FocalCrop, SplitOversized

BLIP, DEEPBOORU = "BLIP", "Deepbooru"


_choices = []


def captioners():
    """Their names as they are now; A1111's two first."""
    found = [name for choices in _choices for name in choices.names(Captioner)]
    return tuple(sorted(found, key=lambda name: ((DEEPBOORU, BLIP, name).index(name), name)))


class FlippedCopies(Params, title="Create flipped copies"):
    """Further pictures, mirrored."""

    enabled: bool = param(False, label="Create flipped copies")
    option: tuple[str, ...] = param(
        ("Horizontal",), label="Copies", choices=("Horizontal", "Vertical", "Both"), kind="checkboxgroup"
    )


class PictureCaption(Params, title="Caption"):
    """What the picture shows, in a text file beside it."""

    enabled: bool = param(False, label="Caption")
    option: tuple[str, ...] = param((DEEPBOORU,), label="Described by", choices=captioners, kind="checkboxgroup")


@hookimpl
def register_choices(choices):
    _choices[:] = [choices]
    choices.add(
        ExtrasStep(
            "Split oversized images",
            4000,
            SplitOversized,
            f"{SplitOversized.__module__}:split",
            frames=False,
            elem_ids={"threshold": "postprocess_split_threshold", "overlap": "postprocess_overlap_ratio"},
        ),
        ExtrasStep(
            "Auto focal point crop",
            4010,
            FocalCrop,
            f"{FocalCrop.__module__}:crop_to_focal_point",
            frames=False,
            elem_ids={
                "face_weight": "postprocess_focal_crop_face_weight",
                "entropy_weight": "postprocess_focal_crop_entropy_weight",
                "edges_weight": "postprocess_focal_crop_edges_weight",
                "debug": "train_process_focal_crop_debug",
            },
        ),
        ExtrasStep(
            "Auto-sized crop",
            4020,
            AutoSizedCrop,
            f"{AutoSizedCrop.__module__}:crop_to_fitting_size",
            legend="Each image is center-cropped with an automatically chosen width and height.",
            frames=False,
            elem_ids={
                "min_side": "postprocess_multicrop_mindim",
                "max_side": "postprocess_multicrop_maxdim",
                "min_area": "postprocess_multicrop_minarea",
                "max_area": "postprocess_multicrop_maxarea",
                "objective": "postprocess_multicrop_objective",
                "threshold": "postprocess_multicrop_threshold",
            },
        ),
        ExtrasStep("Create flipped copies", 4030, FlippedCopies, f"{__name__}:add_flipped", frames=False),
        ExtrasStep(
            "Caption",
            4040,
            PictureCaption,
            f"{__name__}:add_captions",
            frames=False,
            check=f"{__name__}:check_captioners",
        ),
    )


def add_flipped(image, values, context):
    from PIL import ImageOps

    if values.enabled:
        if "Horizontal" in values.option:
            context.add(ImageOps.mirror(image))
        if "Vertical" in values.option:
            context.add(ImageOps.flip(image))
        if "Both" in values.option:
            context.add(ImageOps.flip(ImageOps.mirror(image)))
    return image


def check_captioners(values, choices):
    for name in values.option if values.enabled else ():
        choices.find_captioner(name)


def add_captions(image, values, context):
    for name in values.option if values.enabled else ():
        context.add_caption(context.describe(image, name))
    return image
