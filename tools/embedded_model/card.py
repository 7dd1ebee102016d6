"""What docs/embedded-model.md says of the shipped file: written from figures.json, never by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "embedded-model.md"
OUT = REPOSITORY / "docs" / "embedded-model"
FIGURES = OUT / "figures.json"
BEGIN, END = "<!-- {}: written by the stage evaluate -->\n\n", "\n<!-- end -->"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def table(figures: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    real = figures["judge_on_real_renders"]
    rows = [
        (f"a classifier trained on real renders sees the subject asked for, of {figures['subjects']} "
         f"({percent(real['top1'])} on real renders)", percent(figures["subject_top1"])),
        ("the subject is among its first five", percent(figures["subject_top5"])),
        (f"it sees the style asked for ({percent(real['style'])} on real renders)", percent(figures["style"])),
        ("the border's colour is nearest to the one asked for "
         f"(mean distance {figures['background_distance_rgb']:.0f} of 441 in RGB)", percent(figures["background"])),
    ]  # fmt: skip
    if held := figures["held_out_pairs"]:
        name = f"subject, style of {held['pairs']} pairs of subject and style that were held out"
        rows.append((name, f"{percent(held['top1'])}, {percent(held['style'])}"))
    for key, subject in (("weights", "the subject"), ("weights_small", "a subject asked for as small")):
        probabilities = ", ".join(f"{figures[key][weight]:.3f}" for weight in ("0.5", "1.0", "1.5"))
        name = f"the classifier's mean probability of {subject} at `(word:0.5)`, `(word:1.0)`, `(word:1.5)`"
        rows.append((name, probabilities))
    negative, inpainting, vae = figures["negative"], figures["inpainting"], figures["vae_psnr_db"]
    rows += [
        ("share of border pixels in the colour a prompt tends to, without and with that colour as negative prompt",
         f"{percent(negative['without'])}, {percent(negative['with'])}"),
        ("inpainting: greatest change of a level outside of the mask, mean change inside (0 to 255)",
         f"{inpainting['outside_max']}, {inpainting['inside_mean']:.1f}"),
        ("mean change of a level from one seed to the next (0 to 255)", f"{figures['seeds_mean_distance']:.1f}"),
        ("VAE, composites of the subjects, PSNR", f"{vae['subjects']:.1f} dB"),
        ("VAE, emoji it never saw, PSNR", f"{vae['held_out']:.1f} dB"),
        (f"pictures a second, {figures['machine']}", f"{figures['pictures_per_s']:.2f}"),
    ]  # fmt: skip
    lines = [f"{figures['generated']} pictures, {figures['sampler']}, {figures['native_size']} px:", ""]
    lines += ["| measured | figure |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def knows(figures: dict[str, Any]) -> str:
    """What it draws, for those who write prompts."""
    styles = ", ".join(f"`{style} style`" for style in figures["styles"])
    names = ", ".join(sorted(figures["subject_names"]))
    many = figures["all_subjects"]
    things = f"These {many} things" if many == len(figures["subject_names"]) else f"{many:,} things, among them"
    colours, size = ", ".join(figures["colours"]), figures["native_size"]
    examples = ", ".join(f"`{example}`" for example in figures["examples"])
    return (
        f"{things}: {names}; in {len(figures['styles'])} styles: {styles}; over {len(figures['colours'])} background "
        f"colours: {colours}. It was trained at {size} x {size} px, so use that size. "
        f"Prompts to begin with: {examples}.\n"
    )


def sizes(figures: dict[str, Any]) -> str:
    """The networks' widths, as Markdown."""
    own, parameters = figures["sizes"], {part: f"{count / 1e6:.1f} M" for part, count in figures["parameters"].items()}
    unet, vae = (", ".join(map(str, own[part])) for part in ("unet", "vae"))
    return (
        "| part | widths | parameters |\n|---|---|---|\n"
        f"| U-Net | {unet}; {own['unet_heads']} heads; {own['unet_groups']} norm groups; context {own['text']} "
        f"| {parameters['unet']} |\n"
        f"| VAE | {vae}; {own['vae_groups']} norm groups | {parameters['vae']} |\n"
        f"| text encoder | {own['text']} wide, {own['text_layers']} layers, {own['text_heads']} heads "
        f"| {parameters['text']}, most of them the token table |\n"
    )


BLOCKS = {"knows": knows, "figures": table, "sizes": sizes}


def with_blocks(text: str, figures: dict[str, Any]) -> str:
    """The document with its blocks written anew. Raises: ValueError where one has no place in it."""
    for name, write in BLOCKS.items():
        before, rest = text.split(BEGIN.format(name), 1)
        _, after = rest.split(END, 1)
        text = before + BEGIN.format(name) + write(figures) + END + after
    return text


def update(figures: dict[str, Any], document: Path = DOCUMENT) -> None:
    document.write_text(with_blocks(document.read_text(), figures))
