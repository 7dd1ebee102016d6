"""A served Easel and a browser, as the tests of API and page have them."""

from tests.api.conftest import easel
from tests.ui.conftest import browser

__all__ = ["browser", "easel"]
