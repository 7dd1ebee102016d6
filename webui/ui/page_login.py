"""The page's login for routes that Gradio doesn't serve itself."""

from __future__ import annotations

from fastapi import HTTPException, Request
from gradio.routes import App


class PageLogin:
    """A dependency that lets through whoever has logged in on the page, everyone where no login is asked for."""

    def __init__(self, required: bool):
        self._required = required
        self._page: App | None = None

    def belongs_to(self, page: App) -> None:
        """Name the page whose visitors are let in."""
        self._page = page

    async def __call__(self, request: Request) -> None:
        if not self._required:
            return
        page = self._page
        names = [] if page is None else [f"access-token-{page.cookie_id}", f"access-token-unsecure-{page.cookie_id}"]
        if page is None or not any(request.cookies.get(name) in page.tokens for name in names):
            raise HTTPException(401, "Log in on the page first.")
