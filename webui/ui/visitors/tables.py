"""Every route that Gradio serves and every component an event may have, each with who may use it and for what.

A route or component that isn't here is not served; `tests/ui/test_visitors.py` compares the tables with the page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final


class Use(Enum):
    """What is asked of a request before Gradio gets it."""

    OPEN = "nothing: the program's own files, the same for everyone"
    PAGE = "nothing; the answer makes the browser a visitor"
    SIGN_IN = "name and password, with a pause after wrong ones"
    VISITOR = "a browser that has loaded the page"
    EVENT = "a visitor (anyone for a public event), a session of theirs, and only files of theirs"
    SESSION = "the session named is the visitor's"
    FILE = "a file the visitor uploaded or was given"
    ABSENT = "not served"


GRADIO = "/gradio_api"

ROUTES: Final[Mapping[str, Use]] = {
    "GET /": Use.PAGE,
    "HEAD /": Use.PAGE,
    "GET /config": Use.OPEN,  # Gradio's own login_check stands before it
    "POST /login": Use.SIGN_IN,
    "GET /logout": Use.OPEN,
    "GET /static/{path:path}": Use.OPEN,
    "GET /assets/{path:path}": Use.OPEN,
    "GET /svelte/{path:path}": Use.OPEN,
    "GET /favicon.ico": Use.OPEN,
    "GET /theme.css": Use.OPEN,
    "GET /robots.txt": Use.OPEN,
    "GET /manifest.json": Use.OPEN,
    f"GET {GRADIO}/theme.css": Use.OPEN,
    f"GET {GRADIO}/app_id": Use.OPEN,
    f"GET {GRADIO}/info": Use.OPEN,
    f"GET {GRADIO}/startup-events": Use.OPEN,
    f"GET {GRADIO}/login_check": Use.OPEN,
    f"GET {GRADIO}/user": Use.OPEN,
    f"POST {GRADIO}/queue/join": Use.EVENT,
    f"POST {GRADIO}/run/{{api_name}}": Use.EVENT,
    f"POST {GRADIO}/api/{{api_name}}": Use.EVENT,
    f"POST {GRADIO}/call/{{api_name}}": Use.EVENT,
    f"GET {GRADIO}/call/{{api_name}}/{{event_id}}": Use.SESSION,  # Gradio takes a session's name for the id too
    f"GET {GRADIO}/queue/data": Use.SESSION,
    f"POST {GRADIO}/cancel": Use.SESSION,
    f"GET {GRADIO}/heartbeat/{{session_hash}}": Use.SESSION,
    f"POST {GRADIO}/reset": Use.VISITOR,  # does nothing
    f"GET {GRADIO}/upload_progress": Use.VISITOR,
    f"GET {GRADIO}/file={{path_or_url:path}}": Use.FILE,
    f"HEAD {GRADIO}/file={{path_or_url:path}}": Use.FILE,
    f"GET {GRADIO}/file/{{path:path}}": Use.FILE,
    f"POST {GRADIO}/upload": Use.ABSENT,  # ours stands before it: webui/ui/visitors/uploads.py
    f"GET {GRADIO}/token": Use.ABSENT,  # would show scripts the cookie they must not see
    f"GET {GRADIO}/proxy={{url_path:path}}": Use.ABSENT,
    f"HEAD {GRADIO}/proxy={{url_path:path}}": Use.ABSENT,
    f"GET {GRADIO}/custom_component/{{id}}/{{environment}}/{{type}}/{{file_name}}": Use.OPEN,  # of extensions
    f"POST {GRADIO}/component_server": Use.ABSENT,
    f"POST {GRADIO}/call/v2/{{api_name}}": Use.ABSENT,
    f"GET {GRADIO}/call/v2/{{api_name}}/{{event_id}}": Use.ABSENT,
    f"POST {GRADIO}/stream/{{event_id}}": Use.ABSENT,
    f"POST {GRADIO}/stream/{{event_id}}/close": Use.ABSENT,
    f"GET {GRADIO}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist.m3u8": Use.ABSENT,
    f"GET {GRADIO}/stream/{{session_hash}}/{{run}}/{{component_id}}/{{segment_id}}.{{ext}}": Use.ABSENT,
    f"GET {GRADIO}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist-file": Use.ABSENT,
    f"GET {GRADIO}/deep_link": Use.ABSENT,
    f"GET {GRADIO}/dev/reload": Use.ABSENT,
    f"GET {GRADIO}/openapi.json": Use.ABSENT,
    f"GET {GRADIO}/queue/status": Use.ABSENT,
    f"GET {GRADIO}/runs": Use.ABSENT,
    f"POST {GRADIO}/process_recording": Use.ABSENT,
    f"POST {GRADIO}/vibe-edit": Use.ABSENT,
    f"POST {GRADIO}/undo-vibe-edit": Use.ABSENT,
    f"GET {GRADIO}/vibe-code": Use.ABSENT,
    f"POST {GRADIO}/vibe-code": Use.ABSENT,
    f"POST {GRADIO}/vibe-starter-queries": Use.ABSENT,
    "GET /openapi.json": Use.ABSENT,  # FastAPI's of the whole server stands before it
    "HEAD /openapi.json": Use.ABSENT,
    "GET /monitoring": Use.ABSENT,
    "GET /monitoring/summary": Use.ABSENT,
    "GET /monitoring/{key}": Use.ABSENT,
    "GET /pwa_icon": Use.ABSENT,
    "GET /pwa_icon/{size}": Use.ABSENT,
}

FILES_IN: Final[Mapping[str, int]] = {
    "Textbox": 0,
    "Slider": 0,
    "Dropdown": 0,
    "Checkbox": 0,
    "CheckboxGroup": 0,
    "Number": 0,
    "Radio": 0,
    "HTML": 0,
    "Button": 0,
    "State": 0,  # kept by the server; what a browser sends for it is not looked at
    "Image": 1,
    "File": 1000,
    "Gallery": 1000,
    "ImageEditor": 100,  # background, layers, the whole
    "ColorPicker": 0,
    "Video": 1,
    "Audio": 1,
    "DownloadButton": 1,
    "Markdown": 0,
    "Dataframe": 0,
    "Timer": 0,
    "Api": 0,  # JSON of a public event
}
"""Files that an event may be given, or may return, for each component of its own, by the component's class."""

PUBLIC: Final = frozenset({"txt2img", "img2img", "progress", "interrupt"})
"""Events that anyone may call by name, gradio_client for one: they ask the API, behind its login (endpoints.py)."""


def files_in(component: type) -> int:
    """Of a component's class; one of an extension's own counts as what it derives from, as none when that is new."""
    return next((FILES_IN[kind.__name__] for kind in component.__mro__ if kind.__name__ in FILES_IN), 0)


def use_of(method: str, path: str) -> Use:
    """What is asked of a request for one of Gradio's routes; ABSENT for what isn't in the table."""
    wanted = f"{method} {path.rstrip('/') or '/'}"
    for pattern, use in _PATTERNS:
        if pattern.fullmatch(wanted):
            return use
    return Use.ABSENT


def _pattern(route: str) -> re.Pattern[str]:
    escaped = re.split(r"(\{[^}]*\})", route)
    parts = (re.escape(part) if "{" not in part else ".*" if ":path}" in part else "[^/]+" for part in escaped)
    return re.compile("".join(parts), re.DOTALL)


_PATTERNS: Final = [
    (_pattern(route), use) for route, use in sorted(ROUTES.items(), key=lambda row: row[1] is not Use.ABSENT)
]
