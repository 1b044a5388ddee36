"""Time-outs of an object store, and its errors as messages that a person can act on.

Endpoint, region and credentials come from the environment, by the names that Lance reads (AWS_*, for s3://), and
nothing of them is written anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import StoreError
from pipeline.runtime.files import disk_error, is_uri

# How Lance is to wait. It tries a listing six times and an upload four, whatever is set here: this is what each of
# those tries may take, and what a failure costs in the end is a multiple of it. While a run is under way, an outage of
# half a minute is sat out, and an endpoint that is silent is given up after four minutes.
WORKING: dict[str, str] = {
    "client_max_retries": "16",
    "client_retry_timeout": "30",
    "connect_timeout": "5s",
    "timeout": "20s",
}
# At the first look, an endpoint that is silent is given up after half a minute.
LOOKING: dict[str, str] = {
    "client_max_retries": "0",
    "client_retry_timeout": "5",
    "connect_timeout": "3s",
    "timeout": "5s",
}
ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_CLIENT_SECRET",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
)
"""Variables whose values are masked wherever something is written."""
# In the order in which they are looked for. What comes first is the answer of a server; what comes last, that there was
# none.
_CAUSES: tuple[tuple[str, str], ...] = (
    ("NoSuchBucket|ContainerNotFound", "there is no such bucket; make it, or correct run.store or AWS_ENDPOINT"),
    (
        "Failed to get AWS credentials|CredentialsNotLoaded",
        "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"status: 40[13]\b|status code: 40[13]\b|AccessDenied|Forbidden|Unauthorized",
        (
            "access is refused; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may list the bucket "
            "and get, put and delete its objects"
        ),
    ),
    ("BadScheme", "AWS_ENDPOINT is no https URL; set AWS_ALLOW_HTTP=true if that is meant"),
    ("(?i)PermanentRedirect|redirect without LOCATION", "the bucket is in another region; set AWS_REGION"),
    (
        (
            r"kind: (Connect|Timeout|Request|Decode)\b|HTTP error|status: (5\d\d|429)\b|status code: "
            r"(5\d\d|429)\b|SlowDown|timed out"
        ),
        (
            "it does not answer; check AWS_ENDPOINT and the network (what a run acknowledged is safe, and `train "
            "--resume` goes on)"
        ),
    ),
)
# EPERM, ENOSYS, EOPNOTSUPP and EMLINK of link(2), as Lance reports them.
_NO_HARD_LINKS = r"Unable to rename file: .*\(os error (1|31|38|95)\)"


def storage_options(location: Path | str, patience: Mapping[str, str]) -> dict[str, str] | None:
    """How Lance is to wait for an object store; None for a folder."""
    return dict(patience) if is_uri(location) else None


def failure(error: Exception, location: Path | str) -> Exception:
    """`error` as the user should see it: a full disk, or what is wrong with the object store, by name; anything else
    unchanged.

    Lance's errors differ in their texts only. These may name the key that was used, so none is repeated."""
    text = str(error)
    if not is_uri(location):
        if re.search(_NO_HARD_LINKS, text):
            return StoreError(
                f"{location} is on a file system without hard links, and LanceDB commits by one; put the store "
                "elsewhere with run.store (a folder on another file system, or s3://bucket/prefix)"
            )
        return disk_error(error, location)
    for pattern, cause in _CAUSES:
        if re.search(pattern, text):
            at = urlsplit(next(filter(None, map(os.environ.get, ENDPOINTS)), ""))
            where = f" at {at.hostname}{f':{at.port}' if at.port else ''}" if at.hostname else ""
            return StoreError(f"run.store: {location}{where}: {cause}")
    return error
