from lifecycle.evaluation.kinds.protocol import ProtocolSuite
from lifecycle.evaluation.kinds.suite import Generate, Likelihood, Parity


def test_a_conversation_is_rendered_scored_and_continued(tmp_path, user, reply):
    suite = ProtocolSuite(name="protocol", path=tmp_path / "p.jsonl")
    raw = {"id": "r", "messages": [*user(), {"role": "assistant", "content": "Paris"}]}
    assert suite.fault_of(raw) is None
    row = suite.stored(raw)
    assert row["messages"] == user()
    parity, given, own = suite.asks(row)
    assert (type(parity), type(given), type(own)) == (Parity, Likelihood, Generate)
    assert (given.continuation, given.ends, own.samples) == ("Paris", True, 0)
    replies = [
        [reply(mode="likelihood", most_likely=False)],
        [reply(mode="likelihood", stopped=True)],
        [reply("on and on", stopped=False)],
    ]
    found = suite.measures(suite.graded(row, replies))
    values = {name: measure.values["r"] for name, measure in found.items()}
    assert values == {"template_parity": 0.0, "stops_after_answer": 1.0, "greedy_stopped": 0.0}
