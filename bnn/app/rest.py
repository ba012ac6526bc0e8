"""Plain HTTP for programs: the decisions of `Classifier.predict` and `bnn.read`, and how the server does.

It is a FastAPI application of its own, so that its OpenAPI page lists these routes and nothing of Gradio's.
"""

import base64
import binascii
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from bnn import __version__
from bnn.app.address import Address
from bnn.app.answers import (
    Decision,
    Judged,
    JudgedQueued,
    ManyImages,
    NotJudged,
    OneImage,
    Problem,
    Queued,
    Readiness,
    ReadPicture,
    State,
)
from bnn.app.arrivals import Arrivals
from bnn.app.bounds import AsgiApp, Message, Receive, Send, declared
from bnn.app.gate import HEALTH
from bnn.app.keeping import FULL, refusals
from bnn.app.keys import problem
from bnn.app.measures import Measures
from bnn.app.sheets import require_few_marks
from bnn.app.uploads import (
    MOST_IMAGES,
    MOST_PIXELS_TOGETHER,
    Unusable,
    Upload,
    contents,
    prepared_upload,
)
from bnn.classifier import STREAMED, Classifier
from bnn.data.archives import MOST_BYTES
from bnn.data.preprocess import Prepared, brightness_of
from bnn.decisions import plain_reading
from bnn.errors import InputError
from bnn.prediction import Prediction
from bnn.reading import read

if TYPE_CHECKING:
    from bnn.review.store import ReviewQueue

MOST_WAITING = 200  # requests that wait for their turn
HELD = 4  # times the longest request: of so many bytes are all together that are received or judged
NDJSON = "application/x-ndjson"
UNREADABLE = "unreadable"  # beside the reasons of decisions
_log = logging.getLogger(__name__)

Done = TypeVar("Done")
ToQueue = Annotated[
    bool, Query(description="Whether, if it is refused, it is put into the queue for review.")
]


def rest(
    classifier: Classifier, address: Address, arrivals: Arrivals, review: "ReviewQueue | None" = None
) -> AsgiApp:
    """The application; to be made where the server's loop runs.

    Args:
        classifier: decides.
        address: where it is served.
        arrivals: are told of every decision.
        review: where refused images are put that a program asks to have put there.
    """
    measures, turn = Measures(), CapacityLimiter(1)  # judging at once would only share the cores
    judge = _Judge(classifier, measures, arrivals, review)
    app = FastAPI(
        title="bnn",
        version=__version__,
        description="A digit, or “I don't know”, and why.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # it would have the browser ask another host
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": address.root_path or "/"}],
        dependencies=[Depends(HTTPBearer(auto_error=False))],
    )
    app.add_exception_handler(AnyHTTPException, _told)
    app.add_exception_handler(Exception, _broken)

    def require_turn() -> None:
        if turn.statistics().tasks_waiting >= MOST_WAITING:
            raise HTTPException(503, "Too many requests wait: try again later.", {"retry-after": "1"})

    async def in_turn(work: Callable[..., Done], *given: Any) -> Done:
        require_turn()
        return await run_sync(work, *given, limiter=turn)

    async def require_queue(*, queue: bool) -> None:
        if queue and review is None:
            raise HTTPException(400, "No queue is kept here: it takes bnn serve --queue.")
        if queue and review is not None and not await run_sync(_told_by, review.has_room):
            raise HTTPException(507, FULL)

    @app.post(
        "/v1/classify",
        response_model=Queued | Decision,
        responses=_problems(422, 507),
        openapi_extra=_body(OneImage),
    )
    async def classify(request: Request, queue: ToQueue = False) -> dict[str, Any]:
        """Decides on one image: a file as the body, in a form, or in base64."""
        await require_queue(queue=queue)
        return await in_turn(judge.classify, await _one(request), queue)

    @app.post(
        "/v1/classify-batch",
        response_class=StreamingResponse,
        responses=_problems(507) | {200: {"content": {NDJSON: {"schema": _LINES}}}},
        openapi_extra=_body(ManyImages),
    )
    async def classify_batch(request: Request, queue: ToQueue = False) -> StreamingResponse:
        """Decides on many images, in a form or in base64: a line of JSON each, as they are decided."""
        await require_queue(queue=queue)
        uploads = await _uploads(request)
        if not uploads:
            raise HTTPException(400, "Give image files, in a form or as JSON.")
        lines = judge.lines(uploads, to_queue=queue)
        # Caddy 2.6 drops a stream whose head comes while it still notes that the request was sent.
        first = await in_turn(b"".join, islice(lines, STREAMED))

        async def parts() -> AsyncIterator[bytes]:
            yield first
            while part := await run_sync(b"".join, islice(lines, STREAMED), limiter=turn):
                yield part

        return StreamingResponse(parts(), media_type=NDJSON)

    @app.post("/v1/read", response_model=ReadPicture, responses=_problems(422), openapi_extra=_body(OneImage))
    async def read_picture(request: Request) -> dict[str, Any]:
        """Reads the digits of a picture: of a number, a line, a form's field or a page."""
        return await in_turn(judge.read, await _one(request))

    @app.get(HEALTH, response_model=State)
    def health() -> dict[str, object]:
        """Whether the server is up, to anyone."""
        return {"status": "ok", "draws": len(classifier.ensemble), "rule": classifier.rule.to_dict()}

    @app.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
    def ready(response: Response) -> dict[str, object]:
        """Whether another request would be taken now: else status 503."""
        waiting = turn.statistics().tasks_waiting
        is_ready = waiting < MOST_WAITING
        response.status_code = 200 if is_ready else 503
        return {"status": "ready" if is_ready else "busy", "waiting": waiting}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """Requests, times, images by what became of them, for Prometheus."""
        return Response(measures.text(), media_type=CONTENT_TYPE_LATEST)

    if review is not None:
        measures.watch(review.progress)

    paths = [str(path) for path in app.openapi()["paths"]]
    return measures.measured(_held(app, address.max_upload), paths)


class _Judge:
    """What is done in a thread; whatever it raises for its caller is an `HTTPException`."""

    def __init__(
        self, classifier: Classifier, measures: Measures, arrivals: Arrivals, review: "ReviewQueue | None"
    ) -> None:
        self._classifier, self._measures = classifier, measures
        self._arrivals, self._review = arrivals, review

    def classify(self, upload: Upload, to_queue: bool) -> dict[str, Any]:
        found = self._prepared(upload)
        if isinstance(found, Unusable):
            raise HTTPException(422, f"The image cannot be judged: {found.why}")
        prediction = self._classifier.predict(found[0])
        decision = self._plain(prediction)
        if to_queue:
            decision["queued"] = self._queued(upload.name, found[0], prediction)
        return decision

    def read(self, upload: Upload) -> dict[str, Any]:
        try:
            require_few_marks(brightness_of(upload.content))
            reading = read(upload.content, self._classifier)
        except InputError as error:
            self._measures.count([UNREADABLE])
            raise HTTPException(422, f"The picture cannot be read: {error}") from error
        self._measures.count(mark.reason for mark in reading.marks)
        return plain_reading(reading)

    def lines(self, uploads: Iterable[Upload], *, to_queue: bool = False) -> Iterator[bytes]:
        """A line of JSON an image, as it is decided on; of one that cannot be judged, why."""
        waiting: deque[tuple[int, str, Prepared]] = deque()
        failed: deque[tuple[int, bytes]] = deque()  # lines that wait for those of images before them

        def usable() -> Iterator[Prepared]:
            pixels = 0
            for number, item in enumerate(contents(uploads)):
                found = item if isinstance(item, Unusable) else self._prepared(item)
                if isinstance(found, Unusable):
                    line = _line(NotJudged(image=number, file=item.name, error=found.why))
                    failed.append((number, line))
                    continue
                pixels += found[1]
                if pixels > MOST_PIXELS_TOGETHER:
                    most = f"{MOST_PIXELS_TOGETHER / 10**6:,.0f} million pixels"
                    raise InputError(f"these have more than {most} together: send them in parts.")
                waiting.append((number, item.name, found[0]))
                yield found[0]

        def within_limits() -> Iterator[Prepared]:
            try:
                yield from usable()
            except InputError as error:  # those before it are judged nevertheless
                failed.append((MOST_IMAGES, _line(NotJudged(image=None, file="", error=str(error)))))

        for prediction in self._classifier.predict_stream(within_limits()):
            number, name, prepared = waiting.popleft()
            while failed and failed[0][0] < number:
                yield failed.popleft()[1]
            about: dict[str, Any] = {"image": number, "file": name, **self._plain(prediction)}
            if to_queue:
                yield _line(JudgedQueued(**about, queued=self._queued(name, prepared, prediction)))
            else:
                yield _line(Judged(**about))
        yield from (line for _, line in failed)

    def _prepared(self, upload: Upload) -> tuple[Prepared, int] | Unusable:
        found = prepared_upload(upload, self._classifier.task.layout)
        if isinstance(found, Unusable):
            self._measures.count([UNREADABLE])
        return found

    def _queued(self, name: str, prepared: Prepared, prediction: Prediction) -> bool:
        """Puts the image into the queue, if it was refused, and says whether it is there."""
        found = refusals(prediction, [name], prepared)
        if self._review is None or not found:
            return False
        try:
            added = self._review.add(found)
        except InputError as error:  # the decision holds nevertheless
            _log.warning("bnn: %s", error)
            return False
        return added.added + added.known > 0

    def _plain(self, prediction: Prediction) -> dict[str, Any]:
        self._measures.count(prediction.reasons.tolist())
        self._arrivals.see(prediction)
        (decision,) = prediction.plain()
        return decision


def _told_by(work: Callable[[], Done]) -> Done:
    """What `work` gives; where the queue's database cannot be used, its caller is told so."""
    try:
        return work()
    except InputError as error:
        raise HTTPException(503, str(error), {"retry-after": "10"}) from error


def _line(model: BaseModel) -> bytes:
    return model.model_dump_json().encode() + b"\n"


async def _one(request: Request) -> Upload:
    uploads = await _uploads(request)
    if len(uploads) != 1:
        raise HTTPException(400, "Give one image file; /v1/classify-batch takes several.")
    if uploads[0].size > MOST_BYTES:
        raise HTTPException(413, f"An image here may have {MOST_BYTES:,} bytes.")
    return uploads[0]


async def _uploads(request: Request) -> list[Upload]:
    """The files of a request: in a form, in base64, or its whole body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        match kind:
            case "multipart/form-data":
                found = await _in_form(request)
            case "application/json":
                found = _in_json(await request.body(), is_one=request.url.path != "/v1/classify-batch")
            case _:
                body = await request.body()
                found = [Upload("", body)] if body else []
    except ClientDisconnect as error:  # who is gone gets no answer
        raise HTTPException(400, "The request broke off.") from error
    if len(found) > MOST_IMAGES:
        raise HTTPException(413, f"These are more than {MOST_IMAGES:,} images: send them in parts.")
    return found


async def _in_form(request: Request) -> list[Upload]:
    async with request.form(max_files=MOST_IMAGES + 1, max_fields=0) as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        return [Upload(file.filename or "", await file.read()) for file in files]


def _in_json(body: bytes, *, is_one: bool) -> list[Upload]:
    wanted = '{"image": "BASE64"}' if is_one else '{"images": ["BASE64", ...]}'
    try:
        given = (
            [OneImage.model_validate_json(body).image]
            if is_one
            else ManyImages.model_validate_json(body).images
        )
        return [Upload("", base64.b64decode(one, validate=True)) for one in given]
    except (ValidationError, binascii.Error, ValueError) as error:
        raise HTTPException(400, f"As JSON, give {wanted}, files in base64.") from error


def _held(app: AsgiApp, most: int) -> AsgiApp:
    """`app`, but who sends more than `most` bytes gets status 413; all together hold `HELD` times that."""
    together = 0

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal together
        mine = 0
        if declared(scope) > most:
            await problem(send, 413, _too_long(most))
            return

        async def received() -> Message:
            nonlocal mine, together
            message = await receive()
            size = len(message.get("body", b""))
            mine, together = mine + size, together + size
            if mine > most:
                raise HTTPException(413, _too_long(most))
            if together > HELD * most:
                raise HTTPException(
                    503, "Too much is being sent at once: try again later.", {"retry-after": "1"}
                )
            return message

        try:
            await app(scope, received, send)
        except Exception:  # after `_broken` has answered
            _log.exception("bnn: %s %s", scope["method"], scope["path"])
        finally:
            together -= mine

    return run


def _too_long(most: int) -> str:
    return f"A request here may have {most:,} bytes."


async def _told(_: Request, error: Exception) -> Response:
    if not isinstance(error, AnyHTTPException):
        raise error
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _broken(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "This is a fault of the program: please report it."}, 500)


def _problems(*others: int) -> dict[int | str, dict[str, Any]]:
    """What an answer is that is none, for the OpenAPI page."""
    return {status: {"model": Problem} for status in (400, 401, 413, 429, 503, *others)}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """What a request's body may be, for the OpenAPI page."""
    file = {"type": "string", "format": "binary"}
    name, is_one = ("image", True) if model is OneImage else ("images", False)
    form = {"type": "object", "properties": {name: file if is_one else {"type": "array", "items": file}}}
    kinds = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": model.model_json_schema()},
    }
    if is_one:
        kinds["application/octet-stream"] = {"schema": file}
    return {"requestBody": {"required": True, "content": kinds}}


_LINES = {"anyOf": [one.model_json_schema() for one in (Judged, JudgedQueued, NotJudged)]}
