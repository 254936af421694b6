"""The management API: what people configure and look at, on FastAPI.

Each router is bound to a gateway; here they become one application, whose errors are RFC 9457 problems like those of
every other door, also where the framework has words of its own.
"""

from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from hookbrook.errors import BadRequest, MethodNotAllowed, NotFound, Problem
from hookbrook.http.api_connections import Connections
from hookbrook.http.api_deliveries import Deliveries
from hookbrook.http.api_document import document, operation_id
from hookbrook.http.api_endpoints import Endpoints
from hookbrook.http.api_erasure import Erasure
from hookbrook.http.api_explain import Explain
from hookbrook.http.api_health import Health
from hookbrook.http.api_jobs import Jobs
from hookbrook.http.api_keys import Keys
from hookbrook.http.api_page import Page
from hookbrook.http.api_signing import Signing
from hookbrook.http.api_sources import Sources
from hookbrook.http.api_trial import Trial
from hookbrook.http.api_trigger import Trigger
from hookbrook.http.api_types import Types
from hookbrook.http.gateway import Gateway
from hookbrook.http.ingest import Ingest
from hookbrook.http.problems import App, Problems, problem_response
from hookbrook.http.request import Door, invalid_from


def build_api(gateway: Gateway, ingest: App | None = None) -> FastAPI:
    """The application for everything that is not a hot door; `ingest` is the one that samples are sent through."""
    api = FastAPI(
        title="Hookbrook",
        version=version("hookbrook"),
        description="A self-hosted event gateway: webhooks come in, webhooks go out, and browsers watch live over"
        " Server-Sent Events.",
        redoc_url=None,
        # A path with one slash too many is a mistake; a redirect would lose the body of a POST.
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        # Two shapes for one thing, in and out, would only differ in what has a default.
        separate_input_output_schemas=False,
    )
    for part in (
        *(Sources, Endpoints, Signing, Deliveries, Explain, Erasure, Jobs, Types),
        *(Trial, Connections, Keys, Health),
    ):
        api.include_router(part(gateway).router())
    api.include_router(Trigger(gateway, ingest or Ingest(gateway)).router())
    api.include_router(Page().router())
    api.add_exception_handler(Problem, _on_problem)
    api.add_exception_handler(RequestValidationError, _on_validation)
    api.add_exception_handler(HTTPException, _on_http)
    api.add_middleware(Door, gateway=gateway)
    api.add_middleware(Problems)
    document(api)
    return api


def _response(problem: Problem) -> Response:
    status, headers, body = problem_response(problem)
    response = Response(body, status)
    response.raw_headers = headers
    return response


async def _on_problem(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Problem)
    return _response(exc)


async def _on_validation(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    return _response(invalid_from(exc.errors()))


async def _on_http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    match exc.status_code:
        case 404:
            return _response(NotFound("There is nothing at this address."))
        case 405:
            allowed = (exc.headers or {}).get("Allow", "")
            detail = f"{request.method} is not possible here; {allowed} is."
            return _response(MethodNotAllowed(detail, headers={"Allow": allowed}))
    return _response(BadRequest(str(exc.detail)))
