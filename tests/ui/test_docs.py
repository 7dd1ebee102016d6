"""The page and its documentation name the same tabs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

DOCS = Path(__file__).resolve().parents[2] / "docs" / "README.md"


def test_every_tab_has_a_page_of_the_documentation(server: Any) -> None:
    parts = httpx.get(f"{server.url}/config", timeout=60).json()["components"]
    props = [part["props"] for part in parts if part["type"] == "tabitem"]
    tabs = [each["label"] for each in props if str(each.get("elem_id", "")).startswith("tab_")]
    assert len(tabs) >= 12
    rows = re.findall(r"^\| (.+?) \| \[", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(tabs) - {"Download models"} <= set(rows)
