"""The page's Blocks, which tell who may see the files that events return."""

from __future__ import annotations

from typing import Any

import gradio as gr

from webui.ui.visitors.visitors import Visitors


class PageBlocks(gr.Blocks):
    visitors: Visitors | None = None
    """Who is told of the files that events return, once the page is mounted."""

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        result = await super().process_api(*args, **options)
        request = options.get("request")
        if self.visitors is not None and request is not None:
            self.visitors.hand_out(result["data"], request[0] if isinstance(request, list) else request)
        return result
