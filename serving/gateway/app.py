"""The gateway: the only thing that a hospital's systems talk to. REST for now.

POST /v1/reports                      one radiograph in, its draft report out
GET  /v1/reports/{id}                 the same report again
GET  /v1/reports/{id}/evidence.png    which patches speak for each sentence
GET  /v1/model, /healthz, /readyz
"""

import hashlib
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from model.radiograph import encode_png
from model.records import Report
from serving.gateway import problems
from serving.gateway.evidence import evidence_png
from serving.gateway.inference import Inference, TritonInference
from serving.gateway.problems import Problem
from serving.gateway.request_log import RequestLog
from serving.gateway.settings import Settings
from serving.gateway.store import ReportStore
from serving.gateway.upload import read_upload


def create_app(store: ReportStore, inference: Inference | str) -> FastAPI:
    """Build the gateway around a store and a model: an `Inference`, or the address of a Triton."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if not isinstance(inference, str):
            app.state.inference = inference
            yield
            return
        app.state.inference = triton = TritonInference(inference)  # here, because it belongs to the running event loop
        yield
        await triton.close()

    app = FastAPI(title="S2D-Align gateway", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.store = store
    problems.install(app)
    app.add_middleware(RequestLog)
    _add_routes(app)
    return app


def from_environment() -> FastAPI:
    """The application that uvicorn runs: `uvicorn --factory serving.gateway.app:from_environment`."""
    logging.basicConfig(level=logging.WARNING, format="time=%(asctime)s level=%(levelname)s %(name)s %(message)s")
    logging.getLogger("serving").setLevel(logging.INFO)
    settings = Settings.from_environment()
    return create_app(ReportStore(settings.store_path), settings.triton_address)


def _store(request: Request) -> ReportStore:
    store: ReportStore = request.app.state.store
    return store


def _inference(request: Request) -> Inference:
    inference: Inference = request.app.state.inference
    return inference


Store = Annotated[ReportStore, Depends(_store)]
Model = Annotated[Inference, Depends(_inference)]


def _add_routes(app: FastAPI) -> None:
    app.post("/v1/reports", status_code=201, response_model=Report)(create_report)
    app.get("/v1/reports/{report_id}", response_model=Report)(get_report)
    app.get("/v1/reports/{report_id}/evidence.png", response_class=Response)(get_evidence)
    app.get("/v1/model")(get_model)
    app.get("/healthz")(healthz)
    app.get("/readyz")(readyz)


async def create_report(request: Request, store: Store, model: Model) -> Response:
    """Write the draft report on one radiograph; the same image again gets the stored report (200)."""
    image = await read_upload(request)
    content = f"sha256:{hashlib.sha256(image).hexdigest()}"
    sha256 = (await model.describe())["model"]["sha256"]
    kept = await run_in_threadpool(store.find, content, sha256)
    if kept is not None:
        return _created(request, kept, is_new=False)
    answer = await model.report(image, request.state.request_id)
    # A random id: one made from the image would tell whoever holds the image that a report exists.
    draft = answer.report.model_copy(update={"report_id": str(uuid.uuid4()), "request_id": request.state.request_id})
    names = [content]
    if answer.sop_instance_uid:  # the same image in another file, such as one that a router rewrote
        names.append(f"sop:{answer.sop_instance_uid}")
    kept = await run_in_threadpool(store.add, draft, encode_png(answer.pixels), names)
    return _created(request, kept, is_new=kept.report_id == draft.report_id)


async def get_report(report_id: str, store: Store) -> Report:
    """A report that was given out before."""
    return (await _stored(store, report_id))[0]


async def get_evidence(report_id: str, store: Store) -> Response:
    """The radiograph with the evidence map of each sentence, as one PNG."""
    report, radiograph = await _stored(store, report_id)
    picture = await run_in_threadpool(evidence_png, report, radiograph)
    return Response(picture, media_type="image/png")


async def get_model(model: Model) -> dict[str, Any]:
    """Which model version writes the reports now."""
    return await model.describe()


async def healthz() -> dict[str, str]:
    """The gateway's process is alive."""
    return {"status": "ok"}


async def readyz(store: Store, model: Model) -> dict[str, Any]:
    """A report could be written and kept now; 503 otherwise."""
    described = await model.describe()
    await run_in_threadpool(store.find, "readyz", "")
    return {"status": "ready", "model": described["model"]}


def _created(request: Request, report: Report, *, is_new: bool) -> JSONResponse:
    request.state.outcome = "created" if is_new else "stored"
    location = request.app.url_path_for("get_report", report_id=report.report_id)
    return JSONResponse(report.model_dump(mode="json"), 201 if is_new else 200, {"Location": str(location)})


async def _stored(store: ReportStore, report_id: str) -> tuple[Report, bytes]:
    found = await run_in_threadpool(store.get, report_id)
    if found is None:
        raise Problem(404, "no_such_report", "there is no report with this id")
    return found
