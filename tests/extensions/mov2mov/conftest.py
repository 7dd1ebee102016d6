"""A served Easel, as the tests of the API have it."""

from tests.api.conftest import easel

__all__ = ["easel"]
