"""Tiling: pictures whose left and right, and top and bottom, edges fit together.

Every convolution of the UNet and the VAE reads around the edge instead of zeros beyond it, so the latent and the
picture are tori.
"""

from contextlib import contextmanager

from webui.extensions.api import hookimpl


@hookimpl
def prepare_model(model, plan):
    return wrapped_around(model.unet, model.vae.module) if plan.tiling else None


@contextmanager
def wrapped_around(*networks):
    """The networks with circular padding; each layer's own padding mode is put back at the end."""
    from torch.nn import Conv2d

    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, Conv2d)]
    modes = [layer.padding_mode for layer in layers]
    try:
        for layer in layers:
            layer.padding_mode = "circular"
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.padding_mode = mode
