"""The events that programs call by name (gradio_client): routes of the API, asked within the process.

Each takes and answers what its route does, behind the same login; every other event of the page stays private.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
import httpx
from fastapi import FastAPI

HERE = "http://localhost"


def offer_endpoints(app: FastAPI) -> None:
    """Add txt2img, img2img, progress and interrupt to the page being built. app: has the API's routes."""
    own = _Routes(app)

    async def txt2img(body: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Make pictures from a prompt. The body and the answer are those of POST /sdapi/v1/txt2img."""
        return await own.ask("POST", "/sdapi/v1/txt2img", request, body)

    async def img2img(body: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        """Make pictures from pictures. The body and the answer are those of POST /sdapi/v1/img2img."""
        return await own.ask("POST", "/sdapi/v1/img2img", request, body)

    async def progress(request: gr.Request) -> dict[str, Any]:
        """The job that runs now. The answer is that of GET /sdapi/v1/progress."""
        return await own.ask("GET", "/sdapi/v1/progress", request)

    async def interrupt(request: gr.Request) -> dict[str, Any]:
        """Stop the running job after its step; what it has so far is its result."""
        return await own.ask("POST", "/sdapi/v1/interrupt", request)

    for endpoint in (txt2img, img2img, progress, interrupt):
        gr.api(endpoint, concurrency_limit=None)


class _Routes:
    """The routes of an application, asked in the name of who calls an event."""

    def __init__(self, app: FastAPI):
        self._app = app

    async def ask(self, method: str, path: str, caller: gr.Request, body: dict[str, Any] | None = None) -> Any:
        """The route's answer. Raises: gr.Error with what a refusal says."""
        login = caller.headers.get("authorization")
        client = (caller.client.host, caller.client.port) if caller.client else ("", 0)
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False, client=client)
        async with httpx.AsyncClient(transport=transport, base_url=HERE, timeout=None) as asking:
            answer = await asking.request(
                method, path, json=body, headers={"authorization": login} if login is not None else {}
            )
        if answer.is_success:
            return answer.json()
        raise gr.Error(_sentence(answer), print_exception=False)


def _sentence(answer: httpx.Response) -> str:
    """What an error of the API says, in one line."""
    content = answer.json()
    return str(content.get("errors") or content.get("detail") or content.get("error"))
