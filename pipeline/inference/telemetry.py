"""Names of OpenTelemetry's conventions (GenAI, HTTP, server) for the log fields and metrics of a request.

Only the names: nothing of OpenTelemetry is imported, and who wants traces or exporters finds the fields already called
as expected."""

from __future__ import annotations

import re
from typing import Any

from pipeline.errors import EndpointError
from pipeline.inference.endpoint import Endpoint

# The conventions name a provider by the protocol spoken where the product behind it is not known.
PROVIDER = "openai"
STATUS = re.compile(r"http_(\d{3})")


def operation_of(stage: str) -> str:
    """`gen_ai.operation.name` of a stage's requests: from messages to a completion is 'chat', whichever route carries
    it."""
    return "render" if stage == "render" else "chat"


def request_fields(endpoint: Endpoint, stage: str, request_id: str, error: EndpointError) -> dict[str, Any]:
    """`extra=` of a log record about an attempt at `endpoint` that failed with `error`; what is not known is left
    out."""
    address, port = endpoint.host_and_port
    status = STATUS.fullmatch(error.kind)
    fields = {
        "gen_ai.operation.name": operation_of(stage),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": endpoint.model,
        "server.address": address,
        "server.port": port,
        "error.type": error.kind,
        "http.response.status_code": int(status[1]) if status else None,
        "lanpo.stage": stage,
        "lanpo.request.id": request_id,
    }
    return {name: value for name, value in fields.items() if value is not None}
