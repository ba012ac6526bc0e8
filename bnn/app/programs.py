"""Endpoints for programs: the same decisions as `Classifier.predict`, on uploaded files."""

from typing import Any

import gradio as gr

from bnn.app.many import as_plain, decisions
from bnn.app.uploads import SavedFile, read_files
from bnn.classifier import Classifier
from bnn.errors import InputError


def endpoints(classifier: Classifier) -> None:
    """Adds `/classify` and `/classify_batch` to the `gr.Blocks` where it is called; they show nothing."""
    with gr.Row(visible=False):
        file, files = gr.File(label="image"), gr.File(file_count="multiple", label="files")
        answer, answers = gr.JSON(label="decision"), gr.JSON(label="decisions")
        one, many = gr.Button(), gr.Button()

    def classify(image: str | None) -> dict[str, Any]:
        """Decides on one image file: label (null for a refusal), reason, probabilities, uncertainties."""
        judged = _judged(classifier, [image] if image else [])
        if judged["unreadable"]:
            raise gr.Error(
                f"The image cannot be judged: {judged['unreadable'][0]['why']}", print_exception=False
            )
        if len(judged["images"]) != 1:
            raise gr.Error(
                "Give one image file; /classify_batch takes several, and archives.", print_exception=False
            )
        return dict(judged["images"][0])

    def classify_batch(images: list[str] | None) -> dict[str, Any]:
        """Decides on image files and zip archives of them: {"images": [...], "unreadable": [...]}."""
        return _judged(classifier, images or [])

    one.click(classify, file, answer, api_name="classify", concurrency_limit=1, concurrency_id="programs")
    many.click(
        classify_batch, files, answers, api_name="classify_batch", concurrency_limit=1, concurrency_id="many"
    )


def _judged(classifier: Classifier, paths: list[str]) -> dict[str, Any]:
    try:
        return as_plain(decisions(classifier, read_files(map(SavedFile.at, paths), classifier.task.layout)))
    except InputError as error:
        raise gr.Error(f"Nothing was judged: {error}", print_exception=False) from error
