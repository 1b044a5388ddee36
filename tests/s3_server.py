"""An S3 server on loopback: moto's, whose conditional puts are made atomic, and that can be told to fail.

moto looks whether a key is there, and then writes it: of four clients that put one new key with `If-None-Match: *` at
once, sometimes two are told that they made it. S3 lets one of them, and Lance's commits rest on that; so changes take
turns here."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

KEY, SECRET = "canary-key-AKIA5150", "canary-secret-9f3c77d1e0"
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
Fault = Callable[[str, str], str | None]
"""From the method and path of a request to what becomes of it: None (nothing), 'lost' (done, but the answer is a 500),
'refused' (403), 'busy' (503, not done), 'down' (500, not done), 'unconditional' (done whatever is there already)."""


class _Requests(MotoRequestHandler):
    def log(self, *arguments: Any) -> None:
        """Nothing: thousands of lines."""


class S3Server:
    """Started when made; buckets are kept in memory until `close`."""

    def __init__(self) -> None:
        self._moto: Application = DomainDispatcherApplication(create_backend_app)
        self._turn = threading.Lock()
        self._fault: Fault = lambda method, path: None
        self.num_requests: Counter[str] = Counter()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Requests)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": self.url,
            "AWS_ALLOW_HTTP": "true",
        }

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Ask `fault` of every request."""
        self._fault = fault
        try:
            yield
        finally:
            self._fault = lambda method, path: None

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.num_requests[method] += 1
        fate = self._fault(method, path)
        if fate == "refused":
            return _error(start_response, "403 Forbidden", "AccessDenied")
        if fate == "busy":
            return _error(start_response, "503 Slow Down", "SlowDown")
        if fate == "down":
            return _error(start_response, "500 Internal Server Error", "InternalError")
        if fate == "unconditional":
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if method in ("GET", "HEAD"):
            return self._moto(environ, start_response)
        with self._turn:
            answer = list(self._moto(environ, (lambda *_: None) if fate == "lost" else start_response))
        return _error(start_response, "500 Internal Server Error", "InternalError") if fate == "lost" else answer


def _error(start_response: Any, status: str, code: str) -> list[bytes]:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def main() -> None:
    """Say where a new bucket is and which environment reaches it, and serve until stdin is closed."""
    server = S3Server()
    server.client().create_bucket(Bucket="bucket")
    print("s3://bucket", *(f"{name}={value}" for name, value in server.environment.items()), flush=True)
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    main()
