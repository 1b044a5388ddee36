"""The settings of a run as such: its folder, its seed, and where its journal and pool are."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.config.base import Section
from pipeline.config.validation import SECRET_IN_VALUE

STORE_SCHEMES = ("s3", "gs", "az")


class RunSection(Section):
    root: Path = Field(Path("runs"), description="Folder that holds the run folders.")
    name: str = Field(
        "", description="Name of the run folder; empty: recipe name, date and time.", pattern=r"^[\w.-]*$"
    )
    seed: int = Field(0, ge=0, description="Seed of everything drawn: problems, contexts, sampling, training order.")
    store: str = Field(
        "",
        description="Where runs keep journal and pool, each in a place with its name: a folder, or an object store as "
        "s3://bucket/prefix. Empty: in the run folder. Credentials are read from the environment (AWS_*).",
    )

    @field_validator("store")
    @classmethod
    def _store_is_a_place(cls, store: str) -> str:
        if "://" not in store:
            return store
        parts = urlsplit(store)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise PydanticCustomError(
                SECRET_IN_VALUE,
                "a URI of bucket and prefix only, for example s3://bucket/prefix; endpoint and credentials are read "
                "from the environment (AWS_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
            )
        if parts.scheme not in STORE_SCHEMES or not parts.netloc:
            raise ValueError(
                f"a folder, or a URI as s3://bucket/prefix; the stores known are {', '.join(STORE_SCHEMES)}"
            )
        return store
