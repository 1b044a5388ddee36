"""Collects the keys and passwords that a configuration names, which must not be written anywhere."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from pipeline.config import Config
from pipeline.runtime.files import is_uri
from pipeline.storage.object_store import CREDENTIALS


def secrets_of(config: Config) -> tuple[str, ...]:
    """The keys that the endpoints of `config` name by environment variable, passwords within their URLs, and the
    credentials of an object store."""
    endpoints = config.named_endpoints
    keys = {os.environ.get(endpoint.api_key_env, "") for endpoint in endpoints if endpoint.api_key_env}
    passwords = {unquote(urlsplit(endpoint.url).password or "") for endpoint in endpoints}
    of_store = {os.environ.get(name, "") for name in CREDENTIALS if is_uri(config.run.store)}
    return tuple(sorted((keys | passwords | of_store) - {""}))
