"""Easel's version, and the version of the program whose pictures it reproduces."""

from __future__ import annotations

VERSION = "0.1.0"
A1111_VERSION = "v1.10.1"
"""Written into infotexts: it tells readers which rules the picture was made by."""
