"""Every document is either kept or dropped for one reason, and nothing held out gets in."""

from collections.abc import Callable
from itertools import pairwise

import orjson
import pytest
from pydantic import ValidationError

from lifecycle.artifacts import Corpus, Suites
from lifecycle.data.corpus_report import CorpusReport, Tally, read_report
from lifecycle.data.documents import Source
from lifecycle.data.language import LanguageRule, model_path
from lifecycle.data.mixture import Bytes, Mixture, Temperature
from lifecycle.data.near_duplicates import near_duplicates
from lifecycle.data.normalise import Normalisation
from lifecycle.data.scrub import Scrubbing
from lifecycle.engines import Processes, Threads
from lifecycle.errors import ContractError, InputError
from lifecycle.sealing import MANIFEST, SCRATCH_FOLDER, fingerprint
from lifecycle.spread import spreading_over
from lifecycle.stages.corpus import CorpusConfig, build_corpus, check_rows


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
    with pytest.raises(InputError, match=r"expected a file or folder at .*no.jsonl"):
        build_corpus(one_source(tmp_path / "no.jsonl"), suites, out_dir=out_dir)


def test_empty_suites_are_refused(sources, tmp_path, out_dir):
    nothing = Suites(path=tmp_path, items={"contract": 0}, baselines={})
    with pytest.raises(ContractError, match=r"expected items in every suite, found none in \['contract'\]"):
        build_corpus(CorpusConfig(sources=sources), nothing, out_dir=out_dir)


@pytest.fixture
def build(suites, tmp_path) -> Callable[..., Corpus]:
    """A corpus in a folder of its own."""

    def build(config: CorpusConfig, name: str) -> Corpus:
        (tmp_path / name).mkdir(exist_ok=True)
        return build_corpus(config, suites, out_dir=tmp_path / name)

    return build


@pytest.fixture
def messy(write_rows, prose, item) -> CorpusConfig:
    """Two sources in which something is dropped by every step, with all steps on."""
    sea = [{"id": f"sea-{n}", "text": prose(f"sea{n}")} for n in range(60)]
    sea[7]["text"] += " Write to ahab@pequod.example."
    sea[40] = {"id": "sea-3", "text": prose("another")}  # an id twice, far apart
    land = [{"id": f"land-{n}", "text": prose(f"land{n}") + "\r\n"} for n in range(30)]
    land[20]["text"] = sea[5]["text"]
    land[21]["text"] = sea[6]["text"].replace("told.", "told, said the captain.")
    land[22]["text"] = prose("leak") + "\n" + item(903)["messages"][0]["content"]
    land += [{"id": f"short-{n}", "text": f"Too short {n}."} for n in range(9)]
    return CorpusConfig(
        sources=(
            Source(name="sea", path=write_rows("sea.jsonl", sea), licence="CC0-1.0", weight=3, max_epochs=2),
            Source(name="land", path=write_rows("land.jsonl", land), licence="CC0-1.0", weight=1, max_bytes=20_000),
        ),
        max_bad_row_share=0.1,
        normalisation=Normalisation(),
        scrubbing=Scrubbing(),
        mixture=Mixture(),
        validation_share=0.1,
        samples_per_reason=3,
    )


def test_the_same_bytes_however_the_sources_are_cut_and_wherever_the_shards_are_done(messy, build):
    whole = build(messy, "whole")
    # Of the near-copies the longer one stays, which is on land.
    assert whole.sources["sea"].dropped == {"row_repeated_id": 1, "duplicate_near": 1}
    assert set(whole.sources["land"].dropped) == {"gopher_word_count", "duplicate_exact", "contaminated", "over_cap"}
    cut = messy.model_copy(update={"shard_bytes": 4_000, "bytes_per_task": 2**13})
    assert build(cut, "cut").digest == whole.digest
    for name, engine in (("threads", Threads(2)), ("processes", Processes(2))):
        with spreading_over(engine):
            assert build(cut, name).digest == whole.digest


def counts_hold(report: CorpusReport, corpus: Corpus) -> None:
    """Every document that enters a step leaves it or is dropped, and enters the next."""
    for name, source in corpus.sources.items():
        steps = [step.sources[name] for step in report.steps]
        for step in steps:
            assert step.entered.documents == step.left.documents + sum(t.documents for t in step.dropped.values())
        for before, after in pairwise(steps):
            assert before.left == after.entered
        assert (steps[0].entered.documents, steps[-1].left.documents) == (source.read, source.kept)
        assert steps[-1].left.bytes == source.kept_bytes
        lengths = report.lengths[name]
        assert sum(lengths.kept) == source.kept
        assert sum(lengths.dropped) == source.read - source.kept - sum(
            count for reason, count in source.dropped.items() if reason.startswith("row_") and "repeated" not in reason
        )


def test_the_report_accounts_for_every_document_in_every_step(messy, build):
    corpus = build(messy, "out")
    report = read_report(corpus.path)
    counts_hold(report, corpus)
    assert [step.name for step in report.steps] == [
        "read",
        "normalise",
        "quality",
        "scrub",
        "repeated_ids",
        "exact_duplicates",
        "near_duplicates",
        "decontamination",
        "caps",
        "mixture",
    ]
    assert report.normalised["land"]["newlines"] == 27  # three of 30 were given other text
    assert report.scrubbed == {"sea": {"EMAIL": 1}}
    assert report.near_duplicates is not None
    assert report.near_duplicates.cluster_sizes == {2: 1}
    assert report.decontamination.items_found == {"contract": 1}


def test_a_mixture_holds_its_shares_and_repeats_whole_documents(messy, build):
    corpus = build(messy, "out")
    share = corpus.sources["sea"].share
    report = read_report(corpus.path).mixture
    assert share == pytest.approx(0.75, rel=0.01)
    assert corpus.shortfalls == report.shortfalls == []
    rows = rows_of(corpus.train_file)
    assert len(rows) == corpus.train_documents == sum(source.train_rows for source in report.sources.values())
    size = {name: sum(len(row["text"].encode()) for row in rows if row["source"] == name) for name in corpus.sources}
    assert size == {name: source.train_bytes for name, source in corpus.sources.items()}
    times = [sum(row["id"] == name for row in rows) for name in {row["id"] for row in rows if row["source"] == "sea"}]
    assert set(times) <= {1, 2}
    assert report.sources["sea"].epochs <= 2


def test_a_mixture_leaves_the_validation_text_as_it_is(messy, build):
    by_size = [source.model_copy(update={"weight": None}) for source in messy.sources]
    for name, mixture in (("root", Mixture(shares=Temperature(), budget=Bytes(bytes=30_000))), ("none", None)):
        other = build(messy.model_copy(update={"sources": tuple(by_size), "mixture": mixture}), name)
        assert other.validation_file.read_bytes() == build(messy, "asked").validation_file.read_bytes()


def test_a_budget_that_the_sources_cannot_give_is_a_stated_shortfall(messy, build):
    corpus = build(messy.model_copy(update={"mixture": Mixture(budget=Bytes(bytes=10**6))}), "out")
    assert corpus.shortfalls[-1].startswith("budget: asked 1000000 bytes, achieved ")
    assert any(sentence.startswith("land: asked 0.25 of the training bytes") for sentence in corpus.shortfalls)


@pytest.mark.parametrize(
    ("mixture", "weights", "message"),
    [
        (None, (1.0, 1.0), "they would change nothing"),
        (Mixture(shares=Temperature()), (1.0, None), r"behind the weights of \['sea'\]"),
        (Mixture(), (1.0, None), r"found none for \['land'\]"),
        (None, (None, None), "without one every document comes once"),
    ],
)
def test_weights_without_effect_and_ratios_without_weights_are_refused(mixture, weights, message, messy):
    sources = [
        source.model_copy(update={"weight": weight}) for source, weight in zip(messy.sources, weights, strict=True)
    ]
    with pytest.raises(ValidationError, match=message):
        CorpusConfig(sources=tuple(sources), mixture=mixture)


def test_clusters_that_are_kept_lie_on_one_side_of_the_split(write_rows, prose, build):
    rows = []
    for n in range(30):
        rows.append({"id": f"{n}-first", "text": prose(n)})
        if n % 2:
            rows.append({"id": f"{n}-again", "text": prose(n)})
            rows.append({"id": f"{n}-nearly", "text": prose(n).replace("told.", "told, said the captain.")})
    config = one_source(write_rows("sea.jsonl", rows)).model_copy(
        update={"quality": None, "exact_deduplication": False, "keep_near_duplicates": True, "validation_share": 0.2}
    )
    corpus = build(config, "out")
    assert corpus.sources["sea"].kept == len(rows)
    train, held_out = (
        {row["id"].split("-")[0] for row in rows_of(file)} for file in (corpus.train_file, corpus.validation_file)
    )
    assert held_out
    assert not train & held_out


def test_a_killed_stage_goes_on_where_it_was_and_leaves_nothing_half_sealed(messy, build, tmp_path, monkeypatch):
    config = messy.model_copy(update={"shard_bytes": 4_000})

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lifecycle.data.duplicates.near_duplicates", killed)
        with pytest.raises(KeyboardInterrupt):
            build(config, "out")
    assert not (tmp_path / "out" / MANIFEST).exists()
    clean = sorted((tmp_path / "out" / SCRATCH_FOLDER).glob("clean-*/*.jsonl"))
    written = [file.stat().st_mtime_ns for file in clean]
    seen = []

    def watched(*args, **options):
        seen.extend(file.stat().st_mtime_ns for file in clean)
        return near_duplicates(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("lifecycle.data.duplicates.near_duplicates", watched)
        again = build(config, "out")
    assert seen == written
    assert again.digest == build(messy, "whole").digest
    assert not (tmp_path / "out" / SCRATCH_FOLDER).exists()


def test_too_many_repeated_ids_are_a_broken_source(write_rows, prose, build):
    rows = [{"id": f"{n % 15}", "text": prose(n)} for n in range(20)]
    config = one_source(write_rows("sea.jsonl", rows)).model_copy(
        update={"max_bad_row_share": 0.1, "shard_bytes": 2_000}
    )
    with pytest.raises(InputError, match=r"'0' in sea: row_repeated_id\nexpected at most 10.00% .*found 5 of 20"):
        build(config, "out")


def test_rows_are_checked_without_building_anything(write_rows, documents):
    file = write_rows("sea.jsonl", [*documents, b"{", b"[1]"])
    check_rows(one_source(file))
    with pytest.raises(InputError, match=r"sea.jsonl:21: row_bad_json(.|\n)*found 2 of 22"):
        check_rows(one_source(file).model_copy(update={"max_bad_row_share": 0.05}))


def test_languages_are_counted_and_the_model_is_part_of_the_identity(write_rows, documents, build, tmp_path):
    german = "Der Kapitän zählte seine Leute am Abend und bemerkte, dass zwei fehlten. Seit Mittag regnete es."
    file = write_rows("sea.jsonl", [*documents, {"id": "german", "text": german}])
    base = one_source(file).model_dump() | {"quality": None}
    config = CorpusConfig.model_validate(base | {"language": LanguageRule(min_score=0.1)})
    corpus = build(config, "out")
    report = read_report(corpus.path)
    assert corpus.sources["sea"].dropped == {"language_other": 1}
    assert report.languages["sea"]["de"] == Tally(documents=1, bytes=len(german.encode()))
    assert sum(report.scores["language"]["sea"].kept) == corpus.sources["sea"].kept
    assert sum(report.scores["language"]["sea"].dropped) == 1
    assert config.language is not None
    other = tmp_path / "other.ftz"
    other.write_bytes(model_path(config.language).read_bytes() + b"!")
    changed = CorpusConfig.model_validate(base | {"language": LanguageRule(min_score=0.1, model=other)})
    assert fingerprint(changed, ()) != fingerprint(config, ())
