"""Code drift is noticed when what runs changes, and only then."""

from lifecycle import source
from lifecycle.stages import sft
from lifecycle.stages.gate import decide_gate
from lifecycle.stages.suites import collect_suites


def test_the_closure_of_a_training_stage_reaches_its_worker_and_what_the_worker_imports():
    closure = source.source_closure(sft.fine_tune)
    assert {"lifecycle/stages/sft.py", "lifecycle/workers/sft.py", "lifecycle/chat/template.jinja"} <= set(closure)


def test_a_worker_that_a_module_on_the_way_starts_counts_too():
    """Suites are collected by code that starts lm-evaluation-harness in a process of its own."""
    closure = source.source_closure(collect_suites)
    assert {"lifecycle/workers/harness.py", "lifecycle/evaluation/harness.py"} <= set(closure)


def test_the_house_around_the_stages_is_not_in_the_closure():
    assert not {"lifecycle/store.py", "lifecycle/launch.py", "lifecycle/sealing.py"} & set(
        source.source_closure(decide_gate)
    )


def test_comments_and_docstrings_do_not_change_a_digest(tmp_path):
    plain, commented, changed = tmp_path / "a.py", tmp_path / "b.py", tmp_path / "c.py"
    plain.write_text('def f(x):\n    "one"\n    return x + 1\n')
    commented.write_text('def f(x):\n    "another"\n    # a reason\n    return (x + 1)\n')
    changed.write_text('def f(x):\n    "one"\n    return x + 2\n')
    digests = [source._parse(file)[0] for file in (plain, commented, changed)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
