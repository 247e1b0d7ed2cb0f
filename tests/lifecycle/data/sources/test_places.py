"""A place is pinned where a name can move, and never carries a credential, not even into an error message."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from lifecycle.data.documents import Source
from lifecycle.data.sources.places import HubDataset, Remote, without_queries
from lifecycle.errors import ConfigError
from lifecycle.sealing import canonical

PIN = "0" * 64
COMMIT = "9" * 40


def source(**said) -> Source:
    return Source(**{"name": "sea", "path": Path(__file__), "licence": "CC0-1.0", **said})


def test_a_place_is_told_apart_by_its_kind_when_it_comes_as_plain_data():
    said = {"kind": "hub", "repository": "org/set", "revision": COMMIT}
    assert source(path=said).path == HubDataset(repository="org/set", revision=COMMIT)
    assert source(path="data/a.jsonl").path == Path("data/a.jsonl")


def test_a_signed_url_in_what_a_server_says_is_cut_at_its_query():
    said = "403, message='Forbidden', url=URL('https://cdn.example/a?X-Amz-Signature=hunter2&b=1'), asked s3://a/b?"
    assert without_queries(said) == (
        "403, message='Forbidden', url=URL('https://cdn.example/a?...'), asked s3://a/b?..."
    )
    assert without_queries(OSError(2, "No such file? /a:/b?c")) == "[Errno 2] No such file? /a:/b?c"


def test_documents_do_not_come_more_often_than_they_can_be_counted():
    with pytest.raises(ValidationError, match="less than or equal to 10000"):
        source(max_epochs=70_000)


@pytest.mark.parametrize("revision", ["main", "v1.0", "9" * 39, "refs/convert/parquet", "9" * 40 + "\n"])
def test_a_revision_that_can_move_is_refused(revision):
    with pytest.raises(ValidationError, match=r"expected a full commit of 40 hex digits, found .* can move"):
        HubDataset(repository="org/set", revision=revision)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:hunter2@bucket/a.jsonl",
        "s3://AKIAKEY:a/slash/hunter2@bucket/a.jsonl",
        "https://user:hunter2@example.org/a.jsonl",
        "https://hunter2@example.org/a.jsonl",
        "https://example.org/a.jsonl?X-Amz-Credential=AKIA&X-Amz-Signature=hunter2",
        "https://account.blob.core.windows.net/a.jsonl?sv=2024&sig=hunter2",
        "https://example.org/a.jsonl?access_token=hunter2",
    ],
)
@pytest.mark.parametrize(
    "said",
    [
        lambda url: source(path={"kind": "remote", "url": url, "sha256": PIN}),
        lambda url: source(path={"url": url}),  # without its kind
        lambda url: source(path=url),
        lambda url: source(url=url),
        lambda url: Remote(url=url, sha256="short"),
    ],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url, said):
    with pytest.raises(ConfigError, match="expected a URL without credentials") as refused:
        said(url)
    assert "hunter2" not in str(refused.value)


def test_keys_given_beside_a_url_are_refused_and_not_repeated():
    with pytest.raises(ConfigError, match=r"found \['key', 'secret'\] \(values not shown\)") as refused:
        source(path={"kind": "remote", "url": "s3://bucket/a.jsonl", "sha256": PIN, "key": "AKIA", "secret": "hunter2"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org:8080/a.jsonl?download=true&version=3&keyword=sea",
        "abfs://container@account.dfs.core.windows.net/a.jsonl",
        "hf://datasets/org/set@main/a:b.jsonl",
    ],
)
def test_a_port_a_query_or_a_container_is_no_secret(url):
    assert Remote(url=url, sha256=PIN).url == url


@pytest.mark.parametrize("path", ["https://example.org/a.jsonl", Path("s3://bucket/a.jsonl")])
def test_a_url_in_place_of_a_path_is_refused_saying_how_to_pin_it(path):
    with pytest.raises(ValidationError, match=r"found a URL. Pin what it holds: path=Remote"):
        source(path=path)


@pytest.mark.parametrize(
    "url", ["simplecache::s3://bucket/a.jsonl", "s3://bucket/a.zip::b.jsonl", "bucket/a.jsonl", "s3://"]
)
def test_what_is_no_plain_url_is_refused(url):
    with pytest.raises(ValidationError, match="url"):
        Remote(url=url, sha256=PIN)


def test_the_identity_of_what_is_far_away_needs_no_network_and_follows_its_pin():
    one, two = (source(path=Remote(url="https://nowhere.invalid/a.jsonl", sha256=digit * 64)) for digit in "01")
    assert canonical(one) != canonical(two)
    assert canonical(one)["path"] == {"kind": "remote", "url": "https://nowhere.invalid/a.jsonl", "sha256": PIN}
    assert canonical(source(path=HubDataset(repository="org/set", revision=COMMIT)))["path"]["revision"] == COMMIT


def test_fields_younger_than_sealed_corpora_change_an_identity_only_when_they_are_set():
    assert set(canonical(source())) == {"name", "path", "licence", "text_field", "is_prose", "max_bytes"}
    assert canonical(source(weight=2.0))["weight"] == 2.0
    assert canonical(source(id_field=None))["id_field"] is None
