"""The HTTP application over one gateway."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from litestar import Litestar, Response, route
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from services.gateway.context import Gateway, provide_caller, provide_command, provide_paging
from services.gateway.front.docs import Document, OfflinePage
from services.gateway.front.door import Door
from services.gateway.front.front import UNMATCHED, Front
from services.gateway.routes import arbitration, cognition, intents, mesh, people, policies, swarm
from services.gateway.settings import assert_safe
from services.gateway.wire.bodies import StrictRequest
from services.gateway.wire.problems import AnyRequest, Problem, allow_of, from_error, respond
from shared.contracts.ids import EVERYONE
from shared.metrics.table import HTTP_REQUESTS, STATUSES

log = structlog.get_logger()
VERSION = "0.1.0"
DESCRIPTION = (
    "Personas think continuously, remember, and may only propose; a gate decides, an actuator acts once. "
    "Every answer is folded from one event log; errors are RFC 9457 problem details."
)


def create_app(gateway: Gateway) -> Front:
    """The ASGI application. The caller runs `gateway.feed.run()` and `gateway.feed.run_answers()` beside it.

    Raises `Unsafe` when it would be open to others without a key.
    """
    assert_safe(gateway.settings)

    def provide_gateway() -> Gateway:
        return gateway

    routes = (
        *cognition.ROUTES,
        *mesh.ROUTES,
        *policies.ROUTES,
        *swarm.ROUTES,
        *intents.ROUTES,
        *arbitration.ROUTES,
        *people.ROUTES,
    )
    for path in (UNMATCHED, *sorted({path.replace(":str}", "}") for one in routes for path in one.paths})):
        HTTP_REQUESTS.by.update({(path, status): 0 for status in STATUSES})
    app = Litestar(
        [*_options(routes), *routes],
        dependencies={
            "gateway": Provide(provide_gateway, sync_to_thread=False),
            "page": Provide(provide_paging, sync_to_thread=False),
            "caller": Provide(provide_caller, sync_to_thread=False),
            "command": Provide(provide_command, sync_to_thread=False),
        },
        exception_handlers={Exception: _on_error},
        openapi_config=OpenAPIConfig(
            title="Perpetual Persona Swarms",
            version=VERSION,
            description=DESCRIPTION,
            path="/schema",
            render_plugins=[OfflinePage(), Document()],
            use_handler_docstrings=True,
            components=Components(
                security_schemes={
                    "bearer": SecurityScheme(type="http", scheme="bearer"),
                    "token": SecurityScheme(
                        type="apiKey",
                        security_scheme_in="query",
                        name="token",
                        description="the same token, for an EventSource, which cannot set headers",
                    ),
                }
            ),
            security=[{"bearer": []}, {"token": []}],
        ),
        request_class=StrictRequest,
        request_max_body_size=gateway.settings.max_body_bytes,
        logging_config=None,
    )

    def refused(reason: str, detail: str) -> None:
        gateway.turned_away.note(reason, EVERYONE, None, detail, gateway.clock())

    door = Door(lambda: gateway.projection, gateway.bus.admission, max_body=gateway.settings.max_body_bytes)
    return Front(app, gateway.settings, lambda: gateway.ready, gateway.clock_off, refused, door.let_in)


def _options(routes: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """What OPTIONS answers, for each path; the framework's own names the methods of a path's first route alone."""
    methods: dict[str, set[str]] = {}
    for one in routes:
        for path in one.paths:
            methods.setdefault(path, {"OPTIONS"}).update(one.http_methods)
    return [_option(path, allow_of(found)) for path, found in methods.items()]


def _option(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method="OPTIONS", status_code=204, include_in_schema=False)
    async def options() -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": allow})

    return options


def _on_error(request: AnyRequest, error: Exception) -> Response[bytes]:
    problem = from_error(error)
    if problem is None:
        log.error("request_failed", path=request.scope["path"], exc_info=error)
        problem = Problem(500, "a fault of ours; it is in the gateway's log", reason="internal")
    return respond(problem)
