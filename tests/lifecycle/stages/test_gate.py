"""The gate reads sealed reports and fails closed."""

import time

import orjson
import pytest
from pydantic import ValidationError

from lifecycle.artifacts import Checkpoint, Contamination, EvalReport, GateDecision
from lifecycle.errors import ContractError, DamagedArtifact
from lifecycle.evaluation.items import write_items
from lifecycle.evaluation.rules import Ceiling, Floor, Guard
from lifecycle.sealing import StageConfig
from lifecycle.stages.gate import GateConfig, decide_gate, verdict

CORRECT, EXACT = "contract.greedy_correct", "contract.sampled_exact"
RULES = GateConfig(
    rules=(
        Floor(metric=CORRECT, at_least=0.5),
        Floor(metric=EXACT, at_least=0.4),
        Ceiling(metric="bits_per_byte", at_most=3.0),
        Guard(metric=CORRECT, margin=0.03),
        Guard(metric=EXACT, margin=0.06),
        Guard(metric="bits_per_byte", margin=0.1),
    )
)


@pytest.fixture
def items(answer, document):
    """300 items with a share of right answers, and 60 documents."""

    def make(correct=0.9, exact=0.7, bits=200.0, wrong_from=0):
        found = []
        for number in range(300):
            found.append(answer(number, correct=(number + wrong_from) % 300 < 300 * correct))
            found.append(answer(number, mode="sampled", correct=True, terse=number < 300 * exact))
        spread = [bits + number % 5 + bits * (number % 3) / 100 for number in range(60)]
        return found + [document(n, value) for n, value in enumerate(spread)]

    return make


def test_a_first_release_is_held_to_floors_and_ceilings(make_report, items, out_dir):
    decision = decide_gate(RULES, make_report(items()), out_dir=out_dir)
    assert (decision.verdict, decision.promote, decision.against) == ("PROMOTE", True, None)
    assert [check.rule for check in decision.checks] == ["floor", "floor", "ceiling"]


def test_a_candidate_like_the_live_model_is_promoted(make_report, items, out_dir):
    live, candidate = make_report(items(), checkpoint="a" * 64), make_report(items(bits=203), checkpoint="b" * 64)
    decision = decide_gate(RULES, candidate, live, out_dir=out_dir)
    assert [check.verdict for check in decision.checks] == ["PASS"] * 6
    assert (decision.verdict, decision.against) == ("PROMOTE", "a" * 64)
    assert [entry.digest for entry in decision.manifest.inputs] == [candidate.digest, live.digest]


def test_the_live_model_itself_would_be_promoted(make_report, items, out_dir):
    report = make_report(items())
    assert decide_gate(RULES, report, report, out_dir=out_dir).verdict == "PROMOTE"


def test_a_model_that_halves_its_right_answers_is_blocked(make_report, items, out_dir):
    live, candidate = make_report(items(), checkpoint="a" * 64), make_report(items(correct=0.45), checkpoint="b" * 64)
    decision = decide_gate(RULES, candidate, live, out_dir=out_dir)
    by_rule = {(check.rule, check.metric): check for check in decision.checks}
    guard = by_rule["guard", CORRECT]
    assert (decision.verdict, decision.promote) == ("BLOCK", False)
    assert (guard.verdict, guard.difference) == ("FAIL", pytest.approx(-0.45))
    assert guard.items == [f"item-{n}" for n in range(135, 155)]


def test_reports_on_other_suites_are_not_compared(make_report, items, out_dir):
    live, candidate = make_report(items(), checkpoint="a" * 64, suites="t" * 64), make_report(items())
    with pytest.raises(ContractError, match="evaluation suites differ: candidate ssssssssssss, live tttttttttttt"):
        decide_gate(RULES, candidate, live, out_dir=out_dir)


def test_an_empty_report_promotes_nothing(make_report, out_dir):
    decision = decide_gate(RULES, make_report([]), out_dir=out_dir)
    assert decision.verdict == "INCONCLUSIVE"
    assert {check.verdict for check in decision.checks} == {"UNMEASURED"}


def test_a_twenty_row_suite_promotes_nothing(make_report, answer, out_dir):
    few = GateConfig(rules=(Floor(metric=CORRECT, at_least=0.9),))
    decision = decide_gate(few, make_report([answer(n) for n in range(20)]), out_dir=out_dir)
    assert decision.verdict == "INCONCLUSIVE"
    assert "more items would show it to hold" in decision.checks[0].reason


def test_twelve_missing_documents_of_sixty_promote_nothing(make_report, items, out_dir):
    holes = [
        item.model_copy(update={"log_probability": None, "score": None, "unmeasured": "logits_not_finite"})
        if item.kind == "next_token" and int(item.id[1:]) < 12
        else item
        for item in items()
    ]
    decision = decide_gate(RULES, make_report(holes), out_dir=out_dir)
    assert decision.verdict == "INCONCLUSIVE"
    assert "12 of 60 documents could not be measured" in decision.checks[2].reason


def test_a_missing_item_of_the_live_report_is_noticed(make_report, items, out_dir):
    live, candidate = make_report(items()[2:], checkpoint="a" * 64), make_report(items(), checkpoint="b" * 64)
    decision = decide_gate(RULES, candidate, live, out_dir=out_dir)
    assert decision.verdict == "INCONCLUSIVE"
    assert "different items, 1 of them in one only, like 'item-0'" in decision.checks[3].reason


def test_items_changed_after_sealing_are_refused(make_report, items, out_dir):
    report = make_report(items(correct=0.3))
    write_items(report.path, items(correct=1.0))
    with pytest.raises(DamagedArtifact, match=r"items.parquet: expected"):
        decide_gate(RULES, report, out_dir=out_dir)


def test_a_report_object_that_lies_is_not_believed(make_report, items, out_dir):
    report = make_report(items(correct=0.3))
    flattering = report.model_copy(update={"checkpoint_digest": "f" * 64})
    assert decide_gate(RULES, flattering, out_dir=out_dir).checkpoint_digest == "c" * 64


def test_the_page_holds_every_check_and_no_markup_from_outside(make_report, answer, out_dir):
    hostile = "<script>alert(1)</script>|[x](javascript:y)\n# z"
    items = [answer(n).model_copy(update={"id": f"{hostile}{n}"}) for n in range(50)]
    worse = [answer(n, correct=False).model_copy(update={"id": f"{hostile}{n}"}) for n in range(50)]
    config = GateConfig(rules=(Floor(metric=CORRECT, at_least=0.5), Guard(metric=CORRECT, margin=0.1)))
    live, candidate = make_report(items, checkpoint="a" * 64), make_report(worse, checkpoint="b" * 64)
    decide_gate(config, candidate, live, out_dir=out_dir)
    page = (out_dir / "decision.md").read_text()
    assert page.startswith("# BLOCK\n")
    assert "<" not in page.replace("&#60;", "")
    assert "[x]" not in page
    rows = [line for line in page.splitlines() if line.startswith("| contract.")]
    assert [row.count(" | ") for row in rows] == [4, 4]


def test_the_same_reports_give_the_same_bytes(make_report, items, tmp_path):
    live, candidate = make_report(items(), checkpoint="a" * 64), make_report(items(), checkpoint="b" * 64)
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digests.add(decide_gate(RULES, candidate, live, out_dir=tmp_path / name).digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([], "at least 1 item"),
        ([Guard(metric="m", margin=0.1)], "found guards alone"),
        (
            [Floor(metric="m", at_least=0.1), Floor(metric="m", at_least=0.2)],
            "expected one rule of a kind for a metric",
        ),
        ([Floor(metric="m", at_least=0.1, required=False)], "expected a required floor or ceiling"),
        ([{"kind": "guard", "metric": "m", "margin": 0.0}], "greater than 0"),
        ([{"kind": "floor", "metric": "m", "at_least": float("nan")}], "finite number"),
        ([{"kind": "wish", "metric": "m"}], "does not match any of the expected tags"),
        ([{"kind": "floor", "metric": "m", "at_most": 1}], "Field required"),
    ],
)
def test_rules_that_decide_nothing_are_refused(rules, message):
    with pytest.raises(ValidationError, match=message):
        GateConfig(rules=rules)


PLANNED = GateConfig(rules=(Floor(metric=CORRECT, at_least=0.8, items=400),), looks=4)


def test_a_gate_with_several_looks_asks_for_more_and_remembers_what_it_saw(make_report, answer, tmp_path):
    answers = [answer(n, correct=n % 20 < 17) for n in range(400)]
    reports: list[EvalReport] = []
    for count in (100, 200, 400):
        reports.append(make_report(answers[:count], name=f"{count}", earlier=reports[-1:]))
    decision, seen = None, []
    for number, report in enumerate(reports):
        folder = tmp_path / f"look-{number}"
        folder.mkdir()
        decision = decide_gate(PLANNED, report, *([] if decision is None else [decision]), out_dir=folder)
        seen.append((decision.verdict, decision.checks[0].evaluated, decision.checks[0].next_look))
    assert seen == [("INCONCLUSIVE", 100, 200), ("INCONCLUSIVE", 200, 300), ("PROMOTE", 400, None)]
    assert [entry.kind for entry in decision.manifest.inputs] == ["EvalReport", "GateDecision"]


@pytest.mark.parametrize("change", ["rules", "checkpoint", "settled"])
def test_the_look_before_must_be_of_the_same_question(change, make_report, answer, tmp_path):
    few = [answer(n, correct=n % 20 < 17) for n in range(100)]
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    looser = GateConfig(rules=(Floor(metric=CORRECT, at_least=0.7, items=400),), looks=4)
    shown = [answer(n) for n in range(100)]
    before = decide_gate(
        looser if change == "rules" else PLANNED,
        make_report(shown if change == "settled" else few, checkpoint="d" * 64 if change == "checkpoint" else "c" * 64),
        out_dir=first,
    )
    with pytest.raises(ContractError, match="expected the look before to be INCONCLUSIVE on checkpoint cccccccccccc"):
        decide_gate(PLANNED, make_report(few, name="again"), before, out_dir=second)


def test_several_looks_need_planned_numbers_and_one_for_a_suite():
    with pytest.raises(ValidationError, match="expected `items`, the planned number, on every rule"):
        GateConfig(rules=(Floor(metric="m.a", at_least=0.1),), looks=2)
    with pytest.raises(ValidationError, match="expected one number of planned items a suite, found several for m"):
        GateConfig(
            rules=(Floor(metric="m.a", at_least=0.1, items=9), Guard(metric="m.b", margin=0.1, items=8)), looks=2
        )


def test_a_gate_decides_in_well_under_a_second(make_report, answer, out_dir):
    """Exact bounds where few items changed are the dear ones: seven rules on 1,500 items, a handful changed."""
    live = make_report([answer(n, correct=n % 50 > 0) for n in range(1500)], checkpoint="a" * 64)
    candidate = make_report([answer(n, correct=n % 50 > 0 and n % 160 > 0) for n in range(1500)], checkpoint="b" * 64)
    grades = ("correct", "stopped", "terse", "exact")
    rules = [Guard(metric=f"contract.greedy_{grade}", margin=0.01) for grade in grades]
    started = time.process_time()
    decide_gate(GateConfig(rules=(Floor(metric=CORRECT, at_least=0.8), *rules)), candidate, live, out_dir=out_dir)
    assert time.process_time() - started < 2


def test_no_checks_no_promotion():
    assert verdict([]) == "INCONCLUSIVE"


def test_a_decision_without_checks_promotes_nothing_whatever_its_verdict(out_dir):
    facts = {"checkpoint_digest": "c", "report_digest": "r", "against": None}
    assert not GateDecision(path=out_dir, verdict="PROMOTE", checks=[], **facts).promote


def test_a_sealed_decision_reads_back(make_report, items, out_dir):
    made = decide_gate(RULES, make_report(items()), out_dir=out_dir)
    assert GateDecision.load(out_dir) == made
    assert orjson.loads((out_dir / "manifest.json").read_bytes())["facts"]["verdict"] == "PROMOTE"


def test_a_look_at_items_drawn_again_is_not_the_next_look(make_report, answer, tmp_path):
    """Its early PASS would come from one draw and its last from another: a second try at the first look's level."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    answers = [answer(n, correct=n % 20 < 17) for n in range(200)]
    before = decide_gate(PLANNED, make_report(answers[:100]), out_dir=first)
    with pytest.raises(ContractError, match="expected a report that goes on from"):
        decide_gate(PLANNED, make_report(answers, name="drawn again"), before, out_dir=second)


def test_documents_are_all_there_at_the_first_look_and_decide_once(make_report, items, answer, tmp_path):
    planned = Floor(metric=CORRECT, at_least=0.8, items=400)
    config = GateConfig(rules=(planned, Ceiling(metric="bits_per_byte", at_most=3.0)), looks=4)
    documents = [item for item in items() if item.kind == "next_token"]
    report = make_report([answer(n, correct=n % 20 < 17) for n in range(100)] + documents)
    decision = decide_gate(config, report, out_dir=tmp_path)
    assert [(check.verdict, check.next_look) for check in decision.checks] == [("INCONCLUSIVE", 200), ("PASS", None)]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            Floor(metric="m.a.slice", at_least=0.1, items=9),
            "expected rules on whole suites where looks is 2, found m.a",
        ),
        (Ceiling(metric="bits_per_byte.sea", at_most=3.0, items=9), "all validation documents are scored at the first"),
    ],
)
def test_a_look_whose_number_of_items_nobody_planned_is_refused(rule, message):
    with pytest.raises(ValidationError, match=message):
        GateConfig(rules=(Floor(metric="m.a", at_least=0.1, items=9), rule), looks=2)


def test_a_suite_that_was_trained_on_promotes_nothing(make_report, answer, tmp_path):
    config = GateConfig(rules=(Floor(metric=CORRECT, at_least=0.8),))
    answers = [answer(n) for n in range(200)]
    for leaked, verdict_of in ((2, "PROMOTE"), (3, "INCONCLUSIVE"), (200, "INCONCLUSIVE")):
        (tmp_path / f"{leaked}").mkdir()
        found = Contamination(items=200, checked=200, contaminated=leaked, ngram_words=8)
        report = make_report(answers, name=f"leaked-{leaked}", contamination={"contract": found})
        decision = decide_gate(config, report, out_dir=tmp_path / f"{leaked}")
        assert decision.verdict == verdict_of
    assert "200 of 200 items of 'contract' occur in the training text" in decision.checks[0].reason


def test_two_live_reports_are_refused(make_report, items, out_dir):
    candidate, one, other = (make_report(items(), checkpoint=name * 64) for name in "abc")
    with pytest.raises(ContractError, match="expected one live report"):
        decide_gate(RULES, candidate, one, other, out_dir=out_dir)


def test_a_metric_made_of_two_kinds_of_records_is_refused(make_report, answer, out_dir):
    """The second would hide the first: thirty wrong answers behind thirty right ones of another kind."""
    wrong = [answer(n, correct=False) for n in range(30)]
    right = [answer(n).model_copy(update={"kind": "instructions", "grades": {"stopped": 1.0}}) for n in range(30)]
    with pytest.raises(DamagedArtifact, match=r"expected one 'contract\.greedy_stopped' in a report, found two"):
        make_report(wrong + right)


def test_an_item_that_occurs_twice_is_refused(make_report, answer):
    with pytest.raises(DamagedArtifact, match="found 'item-0' twice"):
        make_report([answer(0), answer(1), answer(0)])


class Adopted(StageConfig):
    stage = "base"


def base_in(folder, role="base"):
    folder.mkdir()
    sizes = {"parameters": 9, "max_seq_len": 16, "steps": 0, "tokens_seen": 0, "final_loss": 4.0}
    return Checkpoint(path=folder, role=role, protocol_digest="p", **sizes).seal(Adopted())


def test_a_first_release_is_compared_with_the_base_it_was_made_from_and_not_with_a_live_model(
    make_report, items, tmp_path, out_dir
):
    base = base_in(tmp_path / "base")
    before, after = make_report(items(), checkpoint=base.digest), make_report(items(correct=0.6))
    decision = decide_gate(RULES, after, before, None, base, out_dir=out_dir)
    assert (decision.verdict, decision.against, decision.baseline) == ("BLOCK", None, base.digest)
    guard = next(check for check in decision.checks if (check.rule, check.metric) == ("guard", CORRECT))
    assert guard.difference == pytest.approx(-0.3)
    assert GateDecision.load(decision.path).baseline == base.digest


def test_a_decision_without_a_baseline_has_the_facts_it_had_before_there_were_baselines(make_report, items, out_dir):
    assert "baseline" not in decide_gate(RULES, make_report(items()), out_dir=out_dir).facts()


def test_a_baseline_is_a_base_with_a_report_on_it(make_report, items, tmp_path, out_dir):
    base, report = base_in(tmp_path / "base"), make_report(items())
    with pytest.raises(ContractError, match="expected a report on the base compared with, found none"):
        decide_gate(RULES, report, None, None, base, out_dir=out_dir)
    with pytest.raises(ContractError, match="expected a report on checkpoint"):
        decide_gate(RULES, report, report, base, out_dir=out_dir)
    with pytest.raises(ContractError, match="role base, found 'sft'"):
        decide_gate(RULES, report, report, base_in(tmp_path / "sft", role="sft"), out_dir=out_dir)


def test_a_suite_that_nobody_looked_for_in_the_training_text_decides_nothing(make_report, items, out_dir):
    decision = decide_gate(RULES, make_report(items(), contamination={}), out_dir=out_dir)
    assert decision.verdict == "INCONCLUSIVE"
    assert "nobody looked whether items of 'contract' occur in the training text" in decision.checks[0].reason
    assert decision.checks[2].verdict == "PASS"  # validation documents are the corpus's own


def test_a_question_under_many_names_is_one_item(make_report, answer, out_dir):
    """Forty names, twenty questions right and one of them asked 280 times: no ground for a floor of 0.8."""
    asked = [answer(n).model_copy(update={"prompt_digest": f"{n if n < 20 else 'again'}"}) for n in range(300)]
    (check,) = decide_gate(
        GateConfig(rules=(Floor(metric=CORRECT, at_least=0.9),)), make_report(asked), out_dir=out_dir
    ).checks
    assert check.verdict == "INCONCLUSIVE"
    assert "over 300 items in 21 clusters" in check.reason


def test_more_documents_are_no_second_look_where_the_rule_plans_one(make_report, document, tmp_path):
    """At the full level each time, ten looks at 5 % would pass one bad model in five."""
    config = GateConfig(rules=(Ceiling(metric="bits_per_byte", at_most=2.042),))
    documents = [document(n, 200.0 + n % 9) for n in range(120)]
    few = make_report(documents[:60], name="few")
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    before = decide_gate(config, few, out_dir=folders[0])
    assert (before.verdict, before.checks[0].verdict) == ("INCONCLUSIVE", "INCONCLUSIVE")
    decision = decide_gate(config, make_report(documents, name="more", earlier=[few]), before, out_dir=folders[1])
    assert (decision.verdict, decision.checks[0].verdict) == ("INCONCLUSIVE", "UNMEASURED")
    assert "60 documents were looked at before, now 120" in decision.checks[0].reason


def test_the_look_before_by_another_version_of_the_gate_is_refused(make_report, answer, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    answers = [answer(n, correct=n % 20 < 17) for n in range(200)]
    few = make_report(answers[:100], name="few")
    before = decide_gate(PLANNED, few, out_dir=first)
    monkeypatch.setattr(GateConfig, "revision", GateConfig.revision + 1)
    with pytest.raises(ContractError, match=r"expected the look before to be INCONCLUSIVE on checkpoint .* by these"):
        decide_gate(PLANNED, make_report(answers, name="more", earlier=[few]), before, out_dir=second)


def test_a_live_report_edited_after_sealing_is_refused_though_the_object_was_read_before(make_report, items, out_dir):
    live, candidate = make_report(items(), checkpoint="a" * 64), make_report(items(), checkpoint="b" * 64)
    assert live.digest  # its manifest is in memory
    write_items(live.path, items(correct=0.1, exact=0.1))
    with pytest.raises(DamagedArtifact, match="The file changed after sealing"):
        decide_gate(RULES, candidate, live, out_dir=out_dir)
