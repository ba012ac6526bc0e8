"""The page: draw a digit in a browser and see what every sampled network says of it."""

from bnn.app.address import Address, accounts_in, api_keys_in
from bnn.app.page import build_page
from bnn.app.serve import launch, served

__all__ = ["Address", "accounts_in", "api_keys_in", "build_page", "launch", "served"]
