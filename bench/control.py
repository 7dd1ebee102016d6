"""Seconds per step of SD 1.5 with one ControlNet: Easel beside diffusers' own pipeline, on the same weights."""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from bench.measure import Report, conditions
from bench.step import DTYPE_FLAGS, a_model, add_step_options, edge_of

SLOWER_THAN_PIPELINE = 1.05


def add_options(parser: argparse.ArgumentParser) -> None:
    add_step_options(parser)
    parser.add_argument("--dtype", choices=tuple(DTYPE_FLAGS), default="fp32")


def run(options: argparse.Namespace) -> Report:
    from diffusers import ControlNetModel
    from PIL import Image
    from safetensors.torch import save_file

    from bench.networks import Arm, ControlArm, EaselArm, sample_in_turn, torch  # after the environment is set

    pixels = edge_of(options)
    setup = {"rounds": options.rounds, "steps": options.steps, "pixels": pixels, "small": options.small}
    report = Report("control", setup | {"dtype": options.dtype}, conditions())
    report.setup |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    with a_model(options) as checkpoint, tempfile.TemporaryDirectory(prefix="easel-control-") as folder:
        easel = EaselArm(checkpoint, pixels, DTYPE_FLAGS[options.dtype], Path(folder))
        torch.manual_seed(0)
        network = ControlNetModel.from_unet(easel.model.unet)
        for zero in (*network.controlnet_down_blocks, network.controlnet_mid_block):
            torch.nn.init.normal_(zero.weight, std=0.01)
        nets = Path(folder) / "models" / "ControlNet"
        nets.mkdir(parents=True)
        save_file({name: part.contiguous() for name, part in network.state_dict().items()}, nets / "net.safetensors")
        picture = Image.linear_gradient("L").convert("RGB").resize((pixels, pixels))
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        unit = {
            "enabled": True,
            "model": "net",
            "image": stream.getvalue(),
        }
        easel.extend("ControlNet", {"units": [unit]})
        arms: dict[str, Arm] = {"Easel": easel, "diffusers": ControlArm(easel.model, network, picture, pixels)}
        series = sample_in_turn(arms, options.rounds, options.steps)
    report.series = list(series.values())
    report.compare("Easel by diffusers", series["Easel"], series["diffusers"], SLOWER_THAN_PIPELINE)
    return report
