"""Runs the notebook `tour.ipynb` from top to bottom and stores it with what it printed and drew.

The notebook itself is the source: change it by hand or in Jupyter, then run this, so that what is stored is
what the code does now, without the times and versions of the machine that it ran on.
"""

from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

TOUR = Path(__file__).with_name("tour.ipynb")
PATIENCE = 900  # s to wait for the kernel and for what it prints: the machine may be busy


def main() -> None:
    """Stores the notebook anew; where a cell of it fails, it stays as it was."""
    notebook = nbformat.read(TOUR, as_version=4)
    stored = dict(notebook.metadata)
    # Jupyter looks for kernels nowhere, and so takes the Python that runs this.
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    where = {"metadata": {"path": str(TOUR.parent)}}
    NotebookClient(
        notebook,
        km=kernel,
        resources=where,
        startup_timeout=PATIENCE,
        iopub_timeout=PATIENCE,
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    notebook.metadata.update(stored)  # Jupyter has added the version of Python
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
