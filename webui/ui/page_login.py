"""The page's login: the route that takes name and password, and the question for routes that Gradio doesn't serve."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import JSONResponse
from gradio.routes import App

from webui.services.logins import Logins
from webui.ui.visitors.sessions import PageSessions, cookie_header


class PageLogin:
    """A dependency that lets through whoever has logged in on the page, everyone where no login is asked for."""

    def __init__(self, credentials: Sequence[tuple[str, str]], sessions: PageSessions):
        self._logins = Logins(credentials)
        self._sessions = sessions
        self._page: App | None = None

    def belongs_to(self, page: App) -> None:
        """Name the page whose visitors are let in."""
        self._page = page

    async def __call__(self, request: Request) -> None:
        if not self._logins.required:
            return
        page = self._page
        if page is None or not any(token in page.tokens for token in self._tokens(page, request)):
            raise HTTPException(401, "Log in on the page first.")

    def routes(self) -> APIRouter:
        """In place of Gradio's own login, which knows no pause and lets other sites' requests carry its cookie."""
        router = APIRouter(tags=["page"])

        @router.post("/login")
        @router.post("/login/", include_in_schema=False)
        def login(
            request: Request, username: Annotated[str, Form()] = "", password: Annotated[str, Form()] = ""
        ) -> JSONResponse:
            """Enter by name and password; every login is a new session."""
            page = self._page
            assert page is not None, "the page is mounted before anyone asks"
            address = request.client.host if request.client else ""
            user = self._logins.user(f"{username.strip()}:{password}".encode(), address)
            if user is None:
                raise HTTPException(400, "Incorrect credentials.")
            for token in self._tokens(page, request):
                page.tokens.pop(token, None)
            page.tokens[token := secrets.token_urlsafe(32)] = user
            answer = JSONResponse({"success": True}, headers={"Cache-Control": "no-store"})
            for header in (
                cookie_header(f"access-token-{page.cookie_id}", token, request.scope),
                self._sessions.new_cookie(request.scope, user),
            ):
                answer.headers.append("set-cookie", header)
            return answer

        return router

    @staticmethod
    def _tokens(page: App, request: Request) -> list[str]:
        """What a request brings along as proof of a login."""
        names = (f"access-token-{page.cookie_id}", f"access-token-unsecure-{page.cookie_id}")
        return [request.cookies[name] for name in names if name in request.cookies]
