"""/easel/v1/reproduce: whether a picture can come out the same here, asked before anything runs."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.api.images import picture_bytes
from webui.core.errors import InvalidRequest
from webui.core.pictures import read_infotext
from webui.services.reproduce import check
from webui.services.services import Services

State = Literal["same", "different", "unknown"]


class ReproduceBody(BaseModel):
    infotext: str = Field("", max_length=400_000, description="Text of a picture; not needed with `image`")
    image: str = Field("", description="A picture in base64, whose further texts tell more than the infotext")


class FactAnswer(BaseModel):
    name: str
    state: State
    wanted: str = Field(description="What the picture says")
    here: str = Field(description="What would be used now")
    note: str = Field(description="What to do about it")
    minor: bool = Field(description="Whether it changes the last digits of a picture at most")


class ReproduceAnswer(BaseModel):
    verdict: State = Field(description="The worst of the facts that aren't minor")
    sentence: str
    infotext: str = Field(description="The text that was judged")
    facts: list[FactAnswer]


def reproduce_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/easel/v1", tags=["pictures"])

    @router.post("/reproduce")
    def reproduce(body: ReproduceBody) -> ReproduceAnswer:
        """Hold what a picture pins down (checkpoint, VAE, networks, random numbers, precision, ...) against here."""
        infotext = body.infotext
        texts: dict[str, str] = {}
        if body.image:
            found, texts = read_infotext(picture_bytes(body.image, "image"))
            infotext = infotext or found or ""
        if not infotext.strip():
            raise InvalidRequest("There is nothing to judge: send an infotext, or a picture that carries one.")
        made = check(services, infotext, texts)
        facts = [FactAnswer(**vars(fact)) for fact in made.facts]
        return ReproduceAnswer(verdict=made.verdict, sentence=made.sentence, infotext=infotext, facts=facts)

    return router
