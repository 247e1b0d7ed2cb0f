"""A promotion is one thing, though it is written in four places: killed between any two of them, it is made whole."""

import json
import os
import subprocess
import sys

import killed_promotions
import pytest
from releases import store_in_memory

REGISTRY = ["create_run", "create_model_version"]
LEDGER = ["ledger announced", "ledger line written", "ledger confirmed", "write event", "write event"]
MIRROR = ["set_registered_model_tag", "set_registered_model_alias champion"]
END = ["set_registered_model_tag", "remove event", "remove event"]
STEPS = {
    "first": ["create_registered_model", *REGISTRY, "ledger announced"],
    "second": [*REGISTRY, *LEDGER, *MIRROR, "set_registered_model_alias previous", *END],
    "rollback": [*LEDGER, *MIRROR, "delete_registered_model_alias previous", *END],
}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Every history, played by a program of its own: 15 CPU-seconds."""
    with store_in_memory(tmp_path_factory.mktemp("killed")) as memory:
        local = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        ended = subprocess.run(
            [sys.executable, killed_promotions.__file__, str(memory.root)],
            env={**local, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("what", STEPS)
def test_killed_before_any_of_its_steps_and_given_again_it_ends_as_if_nothing_had_happened(played, what):
    untouched, *killed = played[what]
    assert [history["killed_before"] for history in killed] == STEPS[what]
    for history in killed:
        assert history["ended"] == untouched["ended"], history["killed_before"]
        assert history["audit_at_once"] is None, "who reads before it is repeated sees a proven history, too"


@pytest.mark.slow
def test_there_is_one_entry_one_version_and_the_aliases_say_what_the_ledger_says(played):
    ends = {what: histories[0]["ended"] for what, histories in played.items()}
    a = ends["first"]["versions"][0]
    (b,) = set(ends["second"]["versions"]) - {a}
    entries = [f"promote {a}", f"promote {b}", f"rollback {a}"]
    assert [ends[what]["entries"] for what in STEPS] == [entries[:1], entries[:2], entries]
    assert [ends[what]["versions"] for what in STEPS] == [[a], sorted([a, b]), sorted([a, b])]
    aliases = [{"champion": a}, {"champion": b, "previous": a}, {"champion": a}]
    assert [ends[what]["aliases"] for what in STEPS] == aliases
    for end in ends.values():
        nothing = {"events": [], "moved_by_hand": [], "leftovers": [], "audit": None}
        assert {name: end[name] for name in nothing} == nothing
