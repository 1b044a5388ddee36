"""`python -m servers.launch --run RUN --index I --port P --model DIR`: starts and supervises one vLLM server of a run.

The settings are those of the run's config.json. vLLM's output goes to RUN/logs/server-I.log, the launcher's own to
stderr. Exit status: 0 when told to stop (SIGTERM, SIGINT, or the parent's end), 2 with a message when the server cannot
be started or kept running. Readiness is the caller's to find out over HTTP. Imports neither torch nor vllm."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import sys
from functools import partial
from pathlib import Path

from pipeline.errors import ConfigError, UserError
from pipeline.run.folder import RunFolder
from pipeline.runtime.child_process import end_with_parent
from servers.command import HOST, Machine, check_port, server_command, server_environment
from servers.model_folder import check_model_folder
from servers.process_tree import adopt_orphans
from servers.supervisor import Supervisor

LOOK_TIMEOUT_S = 2.0


def answers(port: int) -> bool:
    """Whether the server on `port` answers /health with 200 now."""
    connection = http.client.HTTPConnection(HOST, port, timeout=LOOK_TIMEOUT_S)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


def supervisor_of(run: RunFolder, index: int, port: int, model: Path, machine: Machine) -> Supervisor:
    """The supervisor of server `index`, not yet started. Raises ConfigError, ModelError or ServerStartError."""
    config = run.config()
    if not 0 <= index < config.servers.num_servers:
        raise ConfigError(f"--index {index} is not below servers.num_servers = {config.servers.num_servers}")
    command = server_command(config, index, port, check_model_folder(model), machine)
    environment = server_environment(config, index, machine, os.environ)
    check_port(port)
    run.logs.mkdir(exist_ok=True)
    return Supervisor(
        command,
        environment,
        run.logs / f"server-{index}.log",
        partial(answers, port),
        max_restarts=config.servers.max_restarts,
        startup_timeout_s=config.servers.startup_timeout_s,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m servers.launch", description="Start and supervise one vLLM server of a run."
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--index", type=int, required=True, help="number of this server, from 0")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--model", type=Path, required=True, help="local model folder")
    arguments = parser.parse_args(argv)
    end_with_parent()
    adopt_orphans()
    try:
        run = RunFolder.open(arguments.run)
        asyncio.run(supervisor_of(run, arguments.index, arguments.port, arguments.model, Machine.here()).run())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
