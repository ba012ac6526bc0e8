"""Opens the drawing page: the same as `bnn serve`. See `python serve.py --help`."""

import sys

from bnn.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
