from lifecycle.artifacts import Check
from lifecycle.evaluation.looks import first_look, next_look
from lifecycle.evaluation.rules import Ceiling, Floor, Guard


def check(metric, verdict, next_look=None, **more):
    return Check(metric=metric, rule="guard", verdict=verdict, reason="", candidate=0.5, next_look=next_look, **more)


def test_the_first_look_is_a_part_of_every_suite_and_all_of_what_is_no_suite():
    rules = [
        Floor(metric="math.greedy_correct", at_least=0.5, items=1000),
        Guard(metric="math.stopped", margin=0.1, items=1000),
        Guard(metric="facts.correct", margin=0.1, items=303),
        Ceiling(metric="bits_per_byte", at_most=2, items=480),
    ]
    assert first_look(rules, 10, {"math": 1500, "facts": 303}) == {"math": 100, "facts": 31}


def test_only_suites_with_an_open_rule_grow():
    checks = [check("math.a", "PASS"), check("facts.a", "INCONCLUSIVE", 62), check("facts.b", "PASS")]
    assert next_look(checks, {"math": 100, "facts": 31}) == {"math": 100, "facts": 62}


def test_nothing_is_asked_for_that_could_not_promote():
    taken, waits = {"math": 100, "facts": 31}, check("facts.a", "INCONCLUSIVE", 62)
    assert next_look([check("math.a", "PASS"), waits], taken) == {"math": 100, "facts": 62}
    assert next_look([check("math.a", "PASS")], taken) is None, "settled"
    assert next_look([check("math.a", "FAIL"), waits], taken) is None, "blocked"
    assert next_look([check("math.a", "INCONCLUSIVE"), waits], taken) is None, "at the cap"
    assert next_look([check("math.a", "UNMEASURED"), waits], taken) is None
    assert next_look([check("math.a", "PASS"), waits.model_copy(update={"required": False})], taken) is None
