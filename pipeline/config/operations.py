"""Settings of what an operator watches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.base import Section


class OperationsSection(Section):
    """What an operator watches."""

    port: int = Field(
        0, ge=0, le=65535, description="Serve /metrics, /livez and /readyz on 127.0.0.1 at this port; 0: do not."
    )
    log_format: Literal["text", "json"] = Field("text", description="Format of logs/orchestrator.log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    stuck_after_s: Annotated[float, Field(gt=0)] = Field(
        120.0,
        description="The watchdog names what waits for three times as long as others of its kind did, and for this "
        "long at least; and what reaches its deadline.",
    )
