"""The script img2img alternative test: the noise is looked for that would have become the picture, and sampling begins
with it, by another prompt.
"""

from dataclasses import replace

from webui.extensions.api import DenoiserHook, Params, Script, Step, hookimpl, param

TITLE = "img2img alternative test"
NOTE = "* `CFG Scale` should be 2 or lower."


class Img2ImgAlternative(Params, title=TITLE):
    """How the noise is looked for.

    st, cfg: the steps and the guidance scale on the way back. randomness: how much of it is other noise, by the seed.
    sigma_adjustment: each step back begins at the level where x is, instead of the one where it goes.
    """

    override_sampler: bool = param(True, label="Override `Sampling method` to Euler?(this method is built for it)")
    override_prompt: bool = param(
        True, label="Override `prompt` to the same value as `original prompt`?(and `negative prompt`)"
    )
    original_prompt: str = param("", label="Original prompt", infotext="Decode prompt", max_length=200_000)
    original_negative_prompt: str = param(
        "", label="Original negative prompt", infotext="Decode negative prompt", max_length=200_000
    )
    override_steps: bool = param(True, label="Override `Sampling Steps` to the same value as `Decode steps`?")
    st: int = param(50, label="Decode steps", infotext="Decode steps", ge=1, le=1000, slider=(1, 150, 1))
    override_strength: bool = param(True, label="Override `Denoising strength` to 1?")
    cfg: float = param(1.0, label="Decode CFG scale", infotext="Decode CFG scale", ge=0, le=100, slider=(0, 15, 0.1))
    randomness: float = param(0.0, label="Randomness", infotext="Randomness", ge=0, le=1, step=0.01)
    sigma_adjustment: bool = param(
        False, label="Sigma adjustment for finding noise for image", infotext="Sigma Adjustment"
    )

    @classmethod
    def from_api(cls, args):
        """In A1111's list a sentence for the reader comes first."""
        return super().from_api(args[1:] if isinstance(args, list) else args)

    def to_infotext(self, *, everything=False):
        """All of it in any case, as A1111 tells it."""
        return {
            "Decode prompt": self.original_prompt,
            "Decode negative prompt": self.original_negative_prompt,
            "Decode CFG scale": self.cfg,
            "Decode steps": self.st,
            "Randomness": self.randomness,
            "Sigma Adjustment": self.sigma_adjustment,
        }


@hookimpl
def register_choices(choices):
    choices.add(Script(TITLE, expand=expand, params=Img2ImgAlternative, tabs=["img2img"], build=build))


def build(panel):
    import gradio as gr

    gr.Markdown(NOTE)
    panel.place_all()


def expand(request, settings):
    """The one request with what is overridden; its pass begins otherwise."""
    values = request.extension(Img2ImgAlternative)
    changes = {"extensions": {**request.extensions, Img2ImgAlternative.__name__: values}}
    if values.override_sampler:
        changes["sampler"] = "Euler"
    if values.override_prompt:
        changes |= {"prompt": values.original_prompt, "negative_prompt": values.original_negative_prompt}
    if values.override_steps:
        changes["steps"] = values.st
    if values.override_strength:
        changes["image"] = request.image.replace(denoising_strength=1.0)
    return [request.replace(**changes)]


@hookimpl
def wrap_sampling(sample, this_pass):
    values = this_pass.plan.request.extensions.get(Img2ImgAlternative.__name__)
    if values is None or this_pass.kind != "source":
        return None

    def sampled(parts):
        way = WayBack(parts, values, this_pass.job)
        count = len(this_pass.indices)
        conds = this_pass.encode([values.original_prompt] * count, [values.original_negative_prompt] * count)
        guidance = replace(parts.guidance, cfg_scale=values.cfg, min_sigma=0.0, skip_early=0.0)
        walked = sample(replace(parts, conds=conds, guidance=guidance, hooks=(*parts.hooks, way)))
        if way.noise is None:  # told to stop
            return walked
        return sample(replace(parts, noise=BegunWith(start_of(way, parts, values), parts.noise)))

    return sampled


def start_of(way, parts, values):
    """(B, C, h, w) what the pass begins with over the picture, so that x is the noise alone."""
    share = values.randomness
    noise = way.noise
    if share:
        noise = ((1 - share) * noise + share * parts.noise.next()) / (share**2 + (1 - share) ** 2) ** 0.5
    return noise - parts.start / way.levels[-1]


class BegunWith:
    """Random numbers whose first ones are given. The others: where the next ones come from."""

    def __init__(self, first, others):
        self.source = others.source
        self._first, self._others = first, others

    def next(self):
        first, self._first = self._first, None
        return self._others.next() if first is None else first


class WayBack(DenoiserHook):
    """Walks from the picture up to noise by Euler's method when the denoiser is first asked, which it takes over then.

    levels: (n + 1) noise levels, rising from 0. noise: (B, C, h, w), once it is found.
    Source: Karras et al. 2022, arXiv:2206.00364, eq. 3, integrated backwards.
    """

    order = -1000  # within what blends in a mask

    def __init__(self, parts, values, job):
        import torch

        table = parts.table
        timesteps = torch.linspace(table.timestep(table.sigma_max), table.timestep(table.sigma_min), values.st)
        self.levels = [0.0, *reversed(table.sigmas_at(timesteps).tolist())]
        self.noise = None
        self._start, self._adjusted, self._job = parts.start, values.sigma_adjustment, job

    def wrap_denoiser(self, denoise):
        def taken_over(x, sigma, step):
            if self.noise is None and self._job.completes_pass:
                self.noise = self._walked(denoise)
            return x  # clean already, so that what is left of the walk down costs nothing

        return taken_over

    def _walked(self, denoise):
        """The noise; None when the job is told to stop."""
        x, levels = self._start, self.levels
        for index in range(1, len(levels)):
            low, high = levels[index - 1 : index + 1]
            level = low if self._adjusted else high
            if not level:  # no noise yet: nothing is predicted but the picture
                continue
            if not self._job.completes_pass:
                return None
            clean = denoise(x, level, Step(index - 1, len(levels) - 1, level, high))
            x = x + (x - clean) / level * (high - low)
        return x / levels[-1] if self._adjusted else x / x.std()
