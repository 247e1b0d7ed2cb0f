"""Every document is either kept or dropped for one reason, and nothing held out gets in."""

import orjson
import pytest

from lifecycle.artifacts import Corpus, Suites
from lifecycle.data.documents import Source
from lifecycle.errors import ContractError, InputError
from lifecycle.sealing import MANIFEST
from lifecycle.stages.corpus import CorpusConfig, build_corpus


def rows_of(file) -> list[dict]:
    return [orjson.loads(line) for line in file.read_bytes().splitlines()]


def one_source(path, **options) -> CorpusConfig:
    return CorpusConfig(sources=(Source(name="sea", path=path, licence="CC0-1.0", **options),), max_bad_row_share=0.5)


@pytest.fixture
def documents(prose) -> list[dict]:
    return [{"id": f"{n}", "text": prose(n)} for n in range(20)]


def test_clean_distinct_documents_are_kept_and_a_part_of_each_source_is_held_out(corpus: Corpus):
    train, validation = rows_of(corpus.train_file), rows_of(corpus.validation_file)
    assert (len(train), len(validation)) == (corpus.train_documents, corpus.validation_documents) == (108, 12)
    assert [sum(row["source"] == name for row in validation) for name in ("sea", "land", "air")] == [4, 4, 4]
    assert not {row["text"] for row in train} & {row["text"] for row in validation}
    assert {count.kept for count in corpus.sources.values()} == {40}


def test_the_same_config_gives_the_same_bytes(corpus, sources, suites, out_dir):
    again = build_corpus(CorpusConfig(sources=sources, validation_share=0.1), suites, out_dir=out_dir)
    assert again.digest == corpus.digest


def test_every_drop_has_one_reason_and_the_counts_add_up(write_rows, documents, prose, suites, item, out_dir):
    twin = documents[1]["text"].replace("told.", "told, said the captain.")
    leak = prose("leak") + "\n" + item(903)["messages"][0]["content"]
    rows = [
        *documents,
        {"id": "copy", "text": documents[0]["text"]},
        {"id": "twin", "text": twin},
        {"id": "leak", "text": leak},
        {"id": "short", "text": "Too short."},
        {"id": "nul", "text": "a\0b"},
        b'{"id": "torn", "text"',
    ]
    corpus = build_corpus(one_source(write_rows("sea.jsonl", rows)), suites, out_dir=out_dir)
    count = corpus.sources["sea"]
    assert count.dropped == {
        "row_nul": 1,
        "row_bad_json": 1,
        "gopher_word_count": 1,
        "duplicate_exact": 1,
        "duplicate_near": 1,
        "contaminated": 1,
    }
    assert count.read == len(rows) == count.kept + sum(count.dropped.values())
    assert corpus.train_documents + corpus.validation_documents == count.kept == 20
    samples = {row["reason"]: row for row in rows_of(out_dir / "dropped.jsonl")}
    assert samples["duplicate_near"]["id"] == "1"  # the longer one of the two stays
    assert "contract/item-903" in samples["contaminated"]["detail"]
    assert samples["row_bad_json"]["detail"] == f"sea.jsonl:{len(rows)}"


def test_every_planted_item_is_found_wherever_it_stands_and_clean_text_is_not_flagged(
    write_rows, documents, prose, suites, item, out_dir
):
    planted = []
    for number in range(900, 906):
        record = item(number)["messages"][0]["content"].split("\n", 1)[1].upper().replace(": ", " -- ")
        planted.append({"id": f"leak-{number}", "text": f"{prose(number)} {record} The end."})
    corpus = build_corpus(one_source(write_rows("sea.jsonl", documents + planted)), suites, out_dir=out_dir)
    assert corpus.sources["sea"].dropped == {"contaminated": 6}


def test_records_can_be_a_source_exempt_from_the_rules_of_prose(write_rows, item, suites, out_dir):
    file = write_rows("records.jsonl", [item(number) for number in (1, 2, 3, 900)])
    corpus = build_corpus(one_source(file, text_field="record", is_prose=False), suites, out_dir=out_dir)
    assert corpus.sources["sea"].dropped == {"contaminated": 1}
    text = rows_of(corpus.train_file)[0]["text"]
    assert text.startswith('{"package":"pkg-')
    assert ',"section":"libs"' in text


def test_a_cap_keeps_the_same_documents_whatever_else_is_in_the_file(write_rows, documents, prose, suites, tmp_path):
    kept = []
    for name, rows in (("few", documents), ("more", [*documents, {"id": "new", "text": prose("new")}])):
        (tmp_path / f"out-{name}").mkdir()
        config = one_source(write_rows(f"{name}.jsonl", rows), max_bytes=6_000)
        corpus = build_corpus(config, suites, out_dir=tmp_path / f"out-{name}")
        assert 0 < corpus.sources["sea"].kept_bytes <= 6_000
        assert corpus.sources["sea"].dropped["over_cap"] > 0
        kept.append({row["id"] for file in (corpus.train_file, corpus.validation_file) for row in rows_of(file)})
    assert len(kept[0] ^ kept[1]) <= 2  # at most the new one in, and the one it pushes over the cap


def test_too_many_bad_rows_stop_the_stage_with_the_first_line_and_the_funnel(write_rows, documents, suites, out_dir):
    file = write_rows("sea.jsonl", [*documents, b"{", b"[1]"])
    config = one_source(file).model_copy(update={"max_bad_row_share": 0.05})
    with pytest.raises(InputError) as error:
        build_corpus(config, suites, out_dir=out_dir)
    assert f"{file}:21: row_bad_json in '{{\\n'" in str(error.value)
    assert "sea: read 22, dropped 2" in str(error.value)
    assert not (out_dir / MANIFEST).exists()


def test_a_source_of_which_nothing_is_left_is_refused_with_the_funnel(write_rows, suites, out_dir):
    file = write_rows("sea.jsonl", [{"id": f"{n}", "text": f"short {n}"} for n in range(5)])
    with pytest.raises(InputError, match=r"none of \['sea'\].*\n  sea: read 5, dropped 5\n    gopher_word_count +5"):
        build_corpus(one_source(file), suites, out_dir=out_dir)


def test_a_missing_file_is_refused(tmp_path, suites, out_dir):
    with pytest.raises(InputError, match=r"expected a .jsonl or .jsonl.gz file at .*no.jsonl"):
        build_corpus(one_source(tmp_path / "no.jsonl"), suites, out_dir=out_dir)


def test_empty_suites_are_refused(sources, tmp_path, out_dir):
    nothing = Suites(path=tmp_path, items={"contract": 0}, baselines={})
    with pytest.raises(ContractError, match=r"expected items in every suite, found none in \['contract'\]"):
        build_corpus(CorpusConfig(sources=sources), nothing, out_dir=out_dir)
