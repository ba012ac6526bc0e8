"""The page: draw a digit in a browser and see what every sampled network says of it."""

from bnn.page.page import build_page, launch, start

__all__ = ["build_page", "launch", "start"]
