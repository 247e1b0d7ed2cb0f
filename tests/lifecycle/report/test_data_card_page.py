"""The data card as a page: what it tells, and that nothing a document or a name holds can do anything but be read."""

import re
from html.parser import HTMLParser

import pytest

from lifecycle.errors import InputError
from lifecycle.report.data_card_page import html, markdown, write_cards
from lifecycle.runs import Run
from lifecycle.store import Made, Store

HOSTILE = [
    "<script>alert(1)</script>",
    '"></pre></style><img src=x onerror=alert(1)>',
    "\u202egnp.exe\u2066",
    "a\x1b[31mred\x07\r\u2028",
    "{{ 7 * 7 }}{% for %}",
    "[a](javascript:alert(1)) | `b`",
    "x" * 1_000_000,
]


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def page_of(card, **more) -> Page:
    return Page(html(card, name="run-1", command="python -m lifecycle report corpus", **more))


def test_the_page_has_the_funnel_the_reasons_the_shares_and_what_to_look_at(make_card):
    page = page_of(make_card())
    for said in (
        "2,100 documents, 2.1\u00a0MB from 2 sources",
        "web lost 58\u00a0% of its documents",
        "− 1,024 language_other",
        "2,669 (66.7%)",
        "Rae et al. 2021",
        "4 words, not 15 to 100000",
        "Write to <EMAIL> about it.",
        "25.0 % → 60.0 %",
        "90 clusters of 288 documents; one of each stays. The largest has 35.",
        "EMAIL 1,234, PHONE 56",
        "en 1,950, de 900, und 124",
        "c4 line policy 31",
        "Off: repeated ids, caps.",
    ):
        assert said in page.text, said


def test_what_was_off_is_called_off(make_card, told):
    off = ("scrub", "language", "near_duplicates", "exact_duplicates", "normalise")
    told["steps"] = [step for step in told["steps"] if step["name"] not in off]
    told |= {"near_duplicates": None, "languages": {}, "scores": {}, "scrubbed": {}}
    card = make_card(told)
    text = page_of(card).text
    steps = ("Scrubbing", "Language identification", "Near-deduplication", "Exact deduplication", "Normalisation")
    for step in steps:
        assert f"{step}: off." in text
    assert "none is counted here does not mean that none is there" in " ".join(text.split())
    written = markdown(card, command="x")
    assert "| personal data | off: not looked for |" in written
    assert "| near-duplicates | off |" in written


def test_the_page_needs_nothing_from_elsewhere_and_forbids_it(make_card):
    page = page_of(make_card())
    assert not {"script", "link", "img", "iframe", "form"} & {tag for tag, _ in page.tags}
    assert not [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "style")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    inner = [a["href"] for _, a in page.tags if a.get("href", "").startswith("#")]
    assert {link[1:] for link in inner} <= set(ids)
    assert all(a["href"].startswith(("#", "https://arxiv.org/")) for _, a in page.tags if "href" in a)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def hostile(told):
    """Every place that text from outside can reach holds some."""
    samples = [
        {"source": "sea", "id": evil[:90], "reason": "gopher_word_count", "detail": evil[:99], "text": evil}
        for evil in HOSTILE
    ]
    told["languages"]["web"] = {evil[:40]: {"documents": 1} for evil in HOSTILE}
    told["mixture"]["shortfalls"] = HOSTILE
    told["decontamination"]["items_found"] = {evil[:40]: 1 for evil in HOSTILE}
    told["scores"] = {HOSTILE[0]: told["lengths"]}
    return samples


def test_hostile_text_is_shown_and_does_nothing(make_card, told):
    card = make_card(told, hostile(told), sea=HOSTILE[1])
    written = html(card, name=HOSTILE[1], about=HOSTILE[2], command=HOSTILE[0])
    page = Page(written)
    assert not {"script", "img", "i"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not set(written) & set("\x00\x1b\x07\u202e\u2066\u2028")
    assert "<script>alert(1)</script>" in page.text, "it is shown as it was written"
    assert "{{ 7 * 7 }}" in page.text
    assert len(written.encode()) < 300_000, "a line of 1 MB is cut"


def test_hostile_text_is_no_markup_in_markdown_either(make_card, told):
    written = markdown(make_card(told, hostile(told), sea=HOSTILE[1]), command=HOSTILE[0])
    assert not re.search(r"[<\x1b\u202e]|\]\(", written)
    assert len(written) < 30_000
    rows = [line for line in written.splitlines() if line.startswith("| gopher_word_count")]
    assert len(rows) == 1
    assert rows[0].count("|") == 6


def test_a_table_of_markdown_has_as_many_cells_in_every_row(make_card):
    for table in markdown(make_card(), command="x").split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, table


@pytest.fixture
def run(make_corpus, tmp_path) -> Run:
    run = Run.start(Store(tmp_path / "store"), flow="prepare-data", recipe="my/tiny", settings=["corpus.seed=2"])
    run.add(Made(make_corpus(), False, 1.0))
    return run


def test_a_card_is_written_beside_the_record_as_page_and_markdown(run):
    write_cards(run)
    assert "tiny · corpus.seed=2" in run.data_card.read_text()
    assert run.data_card.with_suffix(".md").read_text().startswith("# 2,100 documents")
    assert f"report corpus {run.name}" in run.data_card.read_text()


def test_the_name_of_the_file_says_which_of_both(run, tmp_path):
    write_cards(run, tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text().startswith("# 2,100 documents")
    assert not run.data_card.exists()


def test_a_run_without_a_corpus_has_no_card(tmp_path):
    run = Run.start(Store(tmp_path / "store"), flow="promote", recipe="tiny", settings=[])
    with pytest.raises(InputError, match="expected a run with a corpus"):
        write_cards(run)
