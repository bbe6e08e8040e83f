"""What a client asks first: is this the service that it knows how to talk to."""

from typing import Final

from fastapi import APIRouter

from service.api.datarobot.fields import Json, Shown
from service.api.datarobot.paging import Page

router = APIRouter(tags=["handshake"])
MAJOR: Final = 2
MINOR: Final = 33


class Version(Shown):
    """Of the API that is spoken here."""

    major: int
    minor: int
    version_string: str


class Project(Shown):
    """There are none here."""


@router.get("/projects/", response_model=Page[Project])
async def list_projects() -> Json:
    """Always empty: clients ask for it to see whether they are let in."""
    return Json(Page[Project](count=0, next=None, previous=None, data=[], total_count=0))


@router.get("/version/", response_model=Version)
async def get_version() -> Json:
    return Json(Version(major=MAJOR, minor=MINOR, version_string=f"{MAJOR}.{MINOR}.0"))
