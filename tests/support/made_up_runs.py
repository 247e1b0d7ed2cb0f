"""Records of a run that was never made: what a test does not give is not there, and probes must say so."""

from types import SimpleNamespace

from lifecycle.diagnosis.probes import PROBES
from lifecycle.diagnosis.readings import Reading, Unmeasured
from lifecycle.diagnosis.records import Asked, Records
from lifecycle.evaluation.items import Item

BY_NAME = {probe.name: probe for probe in PROBES}


class Made(Records):
    """Records that were made up: what is not given is not there."""

    def __init__(self, state="BLOCKED", message="", curves=None, findings=None, **known):
        self.state, self.message = state, message
        nothing = {"folders": {}, "manifests": {}, "report": None, "decision": None, "items": [], "asked": []}
        self.__dict__.update({**nothing, "unsealed": None, "longest_answer": None, "measured": None, **known})
        self._curves, self._findings = curves or {}, findings or {}

    def curve(self, stage, name):
        return self._curves.get((stage, name), [])

    def validations(self, stage):
        return [{n.removeprefix("v:"): v[-1][1] for (s, n), v in self._curves.items() if s == stage and "/" in n}]

    def findings(self, stage):
        return self._findings.get(stage, [])

    def items_of(self, report):
        return report.items

    def report_of(self, stage):
        return self.__dict__.get("earlier")

    def asked_in(self, report):
        return report.asked


def manifest(config=None, digest="d" * 64, seconds=10.0, **facts):
    return SimpleNamespace(config=config or {}, digest=digest, seconds=seconds, facts=facts, inputs=[])


def asked(n, answer='{"a":1}', score=1.0, *, value=1, unmeasured=None, stopped=1.0, tokens=5, prompt=None):
    item = Item(
        kind="contract",
        suite="contract",
        id=f"i{n}",
        mode="greedy",
        prompt_digest=prompt or f"p{n}",
        answer=answer,
        score=None if unmeasured else score,
        grades={"correct": None if unmeasured else score, "stopped": stopped},
        tokens=tokens,
        unmeasured=unmeasured,
    )
    return Asked({"id": f"i{n}", "field": "a", "value": value, "record": {"a": 1, "b": 2}, "messages": []}, item)


def look(name, **known) -> Reading:
    found = BY_NAME[name](Made(**known))
    assert isinstance(found, Reading), found
    return found


def blind(name, **known) -> str:
    found = BY_NAME[name](Made(**known))
    assert isinstance(found, Unmeasured), found
    return found.why
