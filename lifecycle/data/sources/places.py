"""The places text can be, beside a plain path: each a small model with a `kind`, pinned where a name can move.

Credentials are never part of a place: they come from the environment or fsspec's own configuration files.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lifecycle.errors import ConfigError

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = r"^[0-9a-f]{64}$"
URL = r"[a-z][a-z0-9+]*://[^:\s]\S*"

# A user or password before the host (a secret key of S3 may itself hold a slash), or a query that signs the URL: who
# has such an address has the data.
CREDENTIALS = re.compile(
    r"://[^/?#\s]*(@|:(?!\d+([/?#\s]|$)))"
    r"|[?&](x-(amz|goog)-[\w-]*|awsaccesskeyid|googleaccessid|sig(nature)?|\w*(token|secret|password)\w*"
    r"|((api|access)[-_]?)?key)=",
    re.I,
)
AZURE_CONTAINER = re.compile(r"\b(abfss?|wasbs?)://[^/@:\s]+@", re.I)  # the one place where an @ names no user


class Place(BaseModel):
    """Base of the tagged places."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, said: Any) -> Any:
        if isinstance(said, dict) and (unknown := sorted(set(said) - set(cls.model_fields))):
            # Not left to pydantic, whose message repeats values: an unknown key here is likely to be an access key.
            raise ConfigError(
                f"{cls.__name__}: expected only {sorted(cls.model_fields)}, found {unknown} (values not shown). "
                "Remove them; credentials come from the environment or fsspec's configuration file."
            )
        return without_credentials(said)


class DataFolder(Place):
    """The files of a folder that match a pattern, in JSON Lines or Parquet; its other files are not asked for."""

    kind: Literal["data_folder"] = "data_folder"
    path: Path = Field(description="The folder.")
    glob: str = Field(description="Which files, such as '**/*.parquet'.")


class TextFolder(Place):
    """The files of a folder that match a pattern, each one document, named by its path in the folder."""

    kind: Literal["text_folder"] = "text_folder"
    path: Path = Field(description="The folder.")
    glob: str = Field("**/*.txt", description="Which files; .gz and .zst are unpacked.")


class Remote(Place):
    """One file behind an fsspec URL (s3://, https://, ...), pinned by what it holds: identity needs no network."""

    kind: Literal["remote"] = "remote"
    url: str = Field(pattern=f"^{URL}$", description="Without credentials.")
    sha256: str = Field(pattern=SHA256, description="Of the file as it is stored; another one is refused.")

    @field_validator("url")
    @classmethod
    def _is_one_url(cls, url: str) -> str:
        if "::" in url:  # fsspec would take it for a chain of file systems
            raise ValueError(f"expected one URL, found a chain in {url!r}. Name the file itself")
        return url


class RemoteList(Place):
    """Many such files: a local list in the format of `sha256sum`, a digest and a URL a line."""

    kind: Literal["remote_list"] = "remote_list"
    checksums: Path = Field(description="Its bytes are what enters the identity.")


class HubDataset(Place):
    """A data set of the Hugging Face hub at one commit, read as a stream through `datasets`."""

    kind: Literal["hub"] = "hub"
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="As in 'HuggingFaceFW/fineweb'.")
    config: str | None = Field(None, description="The subset, as in 'sample-10BT'; None: the only one.")
    split: str = Field("train", pattern=r"^\w+(\.\w+)*$", description="Which split; slices are not supported.")
    revision: str = Field(description="A full commit, 40 hex digits: a branch or tag can move, a commit cannot.")

    @field_validator("revision")
    @classmethod
    def _is_a_commit(cls, revision: str) -> str:
        if COMMIT.fullmatch(revision) is None:
            raise ValueError(
                f"expected a full commit of 40 hex digits, found {revision!r}, which can move. Look the commit up "
                "under 'Files and versions' of the data set"
            )
        return revision


class SavedDataset(Place):
    """A data set on this machine, as `Dataset.save_to_disk` of `datasets` leaves it: Arrow files and a list of them."""

    kind: Literal["saved_dataset"] = "saved_dataset"
    path: Path = Field(description="The folder.")
    split: str | None = Field(None, pattern=r"^\w+$", description="Which one, where a DatasetDict was saved.")


TaggedPlace = Annotated[
    DataFolder | TextFolder | Remote | RemoteList | HubDataset | SavedDataset, Field(discriminator="kind")
]


def without_credentials(said: Any) -> Any:
    """What was said, unless a URL in it carries credentials: those are refused without repeating them."""
    match said:
        case dict():
            for value in said.values():
                without_credentials(value)
        case str() if CREDENTIALS.search(AZURE_CONTAINER.sub("abfs://", said)):
            raise ConfigError(
                "expected a URL without credentials, found one with a user, password, key or token in it (not shown). "
                "Take them out of the recipe: they belong into the environment (AWS_ACCESS_KEY_ID, ...) or fsspec's "
                "configuration file. If it was ever shared, change them."
            )
    return said


def without_queries(said: object) -> str:
    """What a client or server said, its URLs cut at the question mark: that of a redirect is often a signed one."""
    return re.sub(r"(://[^\s?]*)\?[^\s'\"<>)]*", r"\1?...", str(said))


def file_name(url: str) -> str:
    """The last part of a URL's path."""
    return PurePosixPath(urlsplit(url).path).name
