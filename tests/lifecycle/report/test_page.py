"""The evaluation page: what it tells, and that nothing a model or a file says can do anything but be read."""

import re
from html.parser import HTMLParser

import pytest

from lifecycle.artifacts import Contamination, EvalReport
from lifecycle.evaluation.items import Item, write_items
from lifecycle.evaluation.metrics import measured, scores
from lifecycle.evaluation.rules import Floor, Guard
from lifecycle.report import summary
from lifecycle.report.findings import Findings
from lifecycle.report.page import html
from lifecycle.sealing import StageConfig
from lifecycle.stages.gate import GateConfig, decide_gate

POLICY = GateConfig(
    rules=(
        Floor(metric="contract.greedy_correct", at_least=0.5),
        Guard(metric="contract.greedy_correct", margin=0.05),
        Guard(metric="contract.greedy_terse", margin=0.05),
    )
)
HOSTILE = [
    "<script>alert(1)</script>",
    '"></pre></style><img src=x onerror=alert(1)>',
    "\u202egnp.exe\u2066",
    "a\x00b\x1b[31mred\x07\r\u2028",
    "{{ 7 * 7 }}{% for %}",
    "&lt;b&gt;",
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


@pytest.fixture
def items(answer):
    def make(right=0.9, missing=0):
        return [answer(n, correct=None if n < missing else n % 100 < 100 * right) for n in range(200)]

    return make


@pytest.fixture
def findings(make_report, items, out_dir):
    """A candidate that lost 40 of 200 items, gated against what is live."""
    live, report = make_report(items(), checkpoint="a" * 64), make_report(items(0.7, missing=3), checkpoint="b" * 64)
    return Findings(report, decision=decide_gate(POLICY, report, live, out_dir=out_dir), live=live)


def test_the_page_gives_the_verdict_the_reasons_and_the_numbers(findings):
    page = Page(html(findings, name="run-1"))
    for said in (
        "No: 1 of 3 rules fails, 1 not settled",
        "may be worse than live by less than 5.0 points",
        "of which 3 could not be measured",
        "logits_not_finite",
        "has no metric 'contract.greedy_terse'",
        "Got worse, for example",
        "Against live",
        findings.report.suites_digest,
    ):
        assert said in page.text, said
    assert findings.lines["contract.greedy_correct"].difference.value < -0.15


def test_the_page_needs_nothing_from_elsewhere_and_forbids_it(findings):
    page = Page(html(findings, name="run-1"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "style")]
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    assert links
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert all(link[0] == "#" and link[1:] in ids for link in links)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_every_picture_is_named_and_names_are_unique(findings):
    page = Page(html(findings, name="run-1"))
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert pictures
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert all(id in ids for picture in pictures for id in picture["aria-labelledby"].split())


class Made(StageConfig):
    stage = "made_up"
    name: str


def hostile_report(folder, shift=0, **facts):
    folder.mkdir()
    found = []
    for number in range(120):
        evil = HOSTILE[number % len(HOSTILE)] if number else "x" * 10_000_000
        right = float((number + shift) % 3 > 0)
        known = {"score": right, "grades": {"correct": right, evil[:20]: right}}
        if number % 20 == 1:
            known = {"score": None, "grades": {"correct": None}, "unmeasured": evil}
        ids = {"kind": "contract", "suite": "contract", "id": f"{number}{evil[:30]}", "slice": evil[:12]}
        found.append(
            Item(**ids, mode="greedy", prompt_digest="0", answer=evil, log_probability=-0.1, tokens=3, **known)
        )
    write_items(folder, found)
    known = {"checkpoint_digest": "<i>" * 9 + folder.name, "protocol_digest": "<b>", "suites_digest": "s"}
    numbers = scores(measured(found), confidence=0.95)
    report = EvalReport(path=folder, scores=numbers, baselines={"contract.<u>": 0.3}, **known, **facts)
    return report.seal(Made(name=folder.name))


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    found = Contamination(items=9, checked=9, contaminated=1, ngram_words=8, examples={HOSTILE[0]: HOSTILE[1]})
    report = hostile_report(tmp_path / "ours", contamination={HOSTILE[0]: found})
    written = html(Findings(report, live=hostile_report(tmp_path / "theirs", shift=1)), name=HOSTILE[1])
    page = Page(written)
    allowed = set(re.findall(r"<(\w+)", html(Findings(report), name="harmless")))
    assert {tag for tag, _ in page.tags} <= allowed
    assert not {"script", "img", "i", "u"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not set(written) & set("\x00\x1b\x07\u202e\u2066\u2028")
    assert "<script>alert(1)</script>" in page.text, "it is shown as it was said"
    assert "{{ 7 * 7 }}" in page.text
    assert len(written.encode()) < 500_000, "a line of 10 MB is cut"


def test_the_summary_for_the_orchestrator_has_no_markup_of_its_own(tmp_path):
    text = summary.markdown(Findings(hostile_report(tmp_path / "ours")), path=tmp_path / "report.html")
    assert "<" not in text
    assert "\u202e" not in text
    assert len(text) < 20_000
    assert "| contract.greedy_correct |" in text


def test_another_suite_is_not_compared_and_the_page_says_so(make_report, items):
    report = make_report(items(), checkpoint="a" * 64)
    other = make_report(items(0.2), checkpoint="b" * 64, suites="t" * 64)
    findings = Findings(report, live=other)
    page = Page(html(findings, name="run-1")).text
    assert "No comparison." in page
    assert "sssssssssss" in page
    assert "tttttttttttt" in page
    assert all(line.difference is None and line.live is None for line in findings.lines.values())


def test_a_first_release_says_which_rules_wait(make_report, items, out_dir):
    report = make_report(items())
    page = Page(html(Findings(report, decision=decide_gate(POLICY, report, out_dir=out_dir)), name="run-1")).text
    assert "Yes: 1 of 1 rules is shown to hold" in page
    assert "These wait until something is live" in page
    assert "Against live" not in page


def test_records_that_cannot_be_read_are_said_to_be_missing_and_scores_still_shown(make_report, items):
    report = make_report(items())
    (report.path / "items.parquet").write_bytes(b"not parquet")
    page = Page(html(Findings(report), name="run-1")).text
    assert "Item records could not be read" in page
    assert "Unknown: the item records could not be read." in page
    assert "89.0" in page or "90.0" in page


def test_bits_per_byte_are_better_to_the_left_and_sliced_by_source(make_report, document):
    def made(bits):
        return [document(n, bits + n % 7, source) for n in range(30) for source in ("sea", "land")]

    live, report = make_report(made(200), checkpoint="a" * 64), make_report(made(230), checkpoint="b" * 64)
    findings = Findings(report, live=live)
    assert [line.label for line in findings.slices("bits_per_byte")] == ["land", "sea"]
    page = html(findings, name="run-1")
    assert "← better to the left" in page
    assert findings.lines["bits_per_byte"].difference.low > 0.2
