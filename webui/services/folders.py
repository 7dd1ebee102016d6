"""Folders of the server that a visitor of the page names."""

from __future__ import annotations

from pathlib import Path

from webui.core.errors import InvalidRequest, Refused
from webui.services.services import Services


def folder_of(services: Services, name: str) -> Path:
    """The folder meant, below the data folder unless absolute; it need not exist.

    Who reaches the server from elsewhere without a login may only name folders that are served anyway; and while the
    public link of --share is open, so may everyone.
    Raises: Refused for others and with --hide-ui-dir-config, InvalidRequest for no name or an impossible one.
    """
    flags, paths = services.flags, services.paths
    if flags.hide_ui_dir_config:
        raise Refused("Folders can't be chosen from the page here (--hide-ui-dir-config).")
    plain = name.strip().strip('"')
    if not plain or "\0" in plain:
        raise InvalidRequest("Name a folder on the machine that runs Easel.")
    try:
        folder = (paths.data / plain).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):
        raise InvalidRequest(f'"{plain[:200]}" is no folder.') from None
    served = (paths.outputs, *map(Path, flags.gradio_allowed_path))
    if any(folder.is_relative_to(place.resolve()) for place in served):
        return folder
    if flags.share:
        raise Refused(
            f"{folder} can't be used while the server is reached through a public link (--share): only folders below "
            f"{paths.outputs}, and those of --gradio-allowed-path, can."
        )
    if not (flags.is_local or flags.credentials):
        raise Refused(
            f"{folder} can't be used from another machine without a login; start Easel with --gradio-auth, or with "
            f'--gradio-allowed-path "{folder}".'
        )
    return folder
