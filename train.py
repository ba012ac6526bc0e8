"""Trains the classifier: the same as `bnn train`. See `python train.py --help`."""

import sys

from bnn.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
