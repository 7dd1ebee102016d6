"""What the API answers when it doesn't answer: one sentence, as JSON, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from webui.core.errors import WebuiError

log = logging.getLogger(__name__)

FAULT = "Something went wrong inside Easel; the log has the details."


class FieldProblem(BaseModel):
    loc: list[str | int] = Field(description="Where in the request")
    msg: str
    type: str


class ErrorAnswer(BaseModel):
    """A1111's shape of every error."""

    error: str = Field(description="The kind of error")
    detail: str | list[FieldProblem] = Field(description="A sentence, or for a 422 the fields that were refused")
    body: str = Field(description="Always empty")
    errors: str = Field(description="The same as one sentence; empty where `detail` is one already")


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "The request can't be understood",
        401: "User name or password are wrong or missing",
        403: "Not allowed",
        404: "What the request names doesn't exist",
        405: "The path doesn't take this method",
        409: "The job was taken out of the queue",
        413: "The body is too large",
        415: "The body is not JSON",
        421: "The request was meant for another host",
        422: "A value is refused",
        429: "Too many requests wait already",
        500: "Something went wrong inside Easel",
        501: "Not in this version",
        502: "Another machine can't be reached",
        503: "The server is stopping",
    }.items()
}
"""What any route may answer besides its own answer."""


class NotInThisVersion(WebuiError):
    """A1111 has it and Easel doesn't yet."""

    status = 501


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error in A1111's shape: {error, detail, body, errors}, `detail` and `errors` for people."""
    app.add_exception_handler(WebuiError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)


def error_answer(
    status: int, name: str, detail: Any, sentence: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    content = {"error": name, "detail": detail, "body": "", "errors": sentence}
    return JSONResponse(content, status, dict(headers) if headers else None)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, WebuiError)
    return error_answer(error.status, type(error).__name__, str(error), str(error))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Pydantic's report without the values in it, which may be huge or no JSON, and the same as a sentence."""
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    detail = [{"loc": list(item["loc"]), "msg": item["msg"], "type": item["type"]} for item in problems[:20]]
    sentence = "; ".join(sentence_of(item) for item in problems[:20]) + "."
    return error_answer(422, "InvalidRequest", detail, sentence)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return error_answer(error.status_code, "HTTPException", error.detail, "", error.headers)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_answer(500, "InternalError", FAULT, FAULT)


def sentence_of(problem: Mapping[str, Any]) -> str:
    """'width must be greater than or equal to 8, got 5' from one item of pydantic's report."""
    name = ".".join(str(part) for part in problem["loc"] if part != "body") or "The body"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "json_invalid":
        return "The body is not valid JSON"
    reason = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    reason = reason[:1].lower() + reason[1:]
    return f"{name} must be {reason}, got {brief(problem.get('input'))}"


def brief(value: object, longest: int = 60) -> str:
    """A value for a sentence, cut short before anything long is built from it."""
    if isinstance(value, str | bytes | list | tuple | dict) and len(value) > longest:
        return f"{type(value).__name__} of length {len(value)}"
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= longest else text[: longest - 1] + "…"
