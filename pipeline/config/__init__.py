"""Every setting of a run, as pydantic models; `Config` is the whole of them."""

from pipeline.config.root import Config

__all__ = ["Config"]
