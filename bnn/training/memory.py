"""How memory is kept between steps."""

import torch

_LARGEST = (32 << 20) - (64 << 10)  # bytes: glibc learns from blocks below 32 MiB


def keep_freed_memory() -> None:
    """Has glibc keep up to 64 MiB that were freed, instead of giving them back to the system at every step.

    What is given back is fetched anew, page by page, which took a sixth of a training step. glibc keeps twice
    the largest block of its own kind that was ever freed (mallopt(3), M_MMAP_THRESHOLD): so one is freed, to
    which nothing was written. Another allocator takes no notice.
    """
    torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")
