"""The project's failures, as one tree.

`UserError` is what a person can mend: its message names the field or file, the value and the remedy, and the command
ends with exit status 2. `EndpointError` is what an endpoint did: callers at named boundaries turn it into a counted
outcome. Anything outside the tree is a bug and escapes with its traceback."""

from __future__ import annotations


class LanpoError(Exception):
    """Root of every failure this project raises on purpose."""


class UserError(LanpoError):
    """Something the user can mend; printed without a traceback, exit status 2."""


class ConfigError(UserError):
    """A setting is unknown, out of range, or contradicts another."""


class DataError(UserError):
    """A data file or data set cannot be read; names the file and line."""


class ModelError(UserError):
    """A model folder lacks weights, tokenizer or chat template."""


class RunFolderError(UserError):
    """A run folder exists already, is in use, is missing, or belongs to another configuration."""


class StoreError(UserError):
    """The store of a run cannot be reached or used, or it is another run's."""


class EndpointSetupError(UserError):
    """An endpoint is down, lacks the model, or lacks what training needs; found before anything is trained."""


class ServerStartError(UserError):
    """A server did not come up: a port in use, a bad argument, no memory."""


class IsolationError(UserError):
    """Untrusted code cannot be contained on this machine, and so it is not run."""


class RewardError(UserError):
    """A scorer gives no rewards, or none that can be trusted: found by a probe, or when a whole step has none."""


class DiskError(UserError):
    """The disk is full or fails. What was acknowledged is safe; resume after mending it."""


class EndpointError(LanpoError):
    """One request failed. `kind` is a short stable name that metrics count by."""

    def __init__(self, kind: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s


class RetryableEndpointError(EndpointError):
    """A later attempt at the same request may succeed (connection, time-out, 408/409/429/5xx)."""


class FinalEndpointError(EndpointError):
    """The same request will fail again (other 4xx, exhausted quota)."""


class MalformedReplyError(RetryableEndpointError):
    """HTTP 200, but the body is not what the route promises (no choices, wrong lengths, broken JSON)."""


class WeightSyncError(LanpoError):
    """A server could not be brought to the wanted weight version."""


class WeightsRefusedError(WeightSyncError):
    """A server has loaded weights, and its answer to the canary is not theirs. Asking again may not help."""


class ProcessEndedError(LanpoError):
    """A process this run depends on ended; names its log file."""
