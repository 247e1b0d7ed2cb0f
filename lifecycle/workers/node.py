"""One node's part in a job: `-m lifecycle.workers.node PARENT CALL NODE`. Node 0 leads, the others follow.

CALL is a folder that all nodes of the job see. Each file in it has one writer and is replaced by rename:

    call.json      what to run (`launchers.shape.Call`). Gone: the job is withdrawn and everybody leaves
    attempt.json   node 0: the number of the attempt, where its ranks meet, whether it is over
    node-1.json    each node's last word, every second: what it is doing or waits for, how its last attempt ended
    stop           somebody asked for the end: ranks save a checkpoint and leave
    ended.json     node 0: how it all ended
    ranks-1/       heartbeats of the ranks of each node

An attempt whose ranks hang or die is over on every node. Node 0 begins another one, from the newest checkpoint that
verifies, when there is something to hope for: it hung, a node was lost, or it got further than any attempt before. What
fails twice at the same step, or before its first, would fail again.

Only the standard library: this starts in 50 ms. It dies with PARENT, and the ranks die with it (P6).
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

from lifecycle.workers.guard import GUARDED_PID, die_with_parent
from lifecycle.workers.part import POLL_SECONDS, Node
from lifecycle.workers.words import Word, read, write

WAIT_FOR_NODES_SECONDS = 600.0
PREEMPTED_EXIT = 85
ADDRESS = "LIFECYCLE_NODE_ADDRESS"  # under which the other nodes reach this one; default: its host name
FINDINGS = "findings.jsonl"


class Leader(Node):
    """Node 0: begins attempts, and says how the job ended."""

    def lead(self) -> int:
        """Begin attempts until one ends well or there is nothing more to hope for; the exit code."""
        best, number = 0, (read(self.folder / "attempt.json") or {"number": 0})["number"]
        if not self.claim():
            return self._end(1, "told to stop while it waited for accelerators" if self.stopping else "it said why")
        self.say(doing="ready")
        with (self.job / "worker.log").open("ab") as log:
            while True:
                number += 1
                if missing := self._gather(number):
                    return self._end(1, missing)
                if (self.job / "error.json").exists():
                    return self._end(1, "another node said why")
                if self.stopping or self.over:
                    return self._end(PREEMPTED_EXIT, "told to stop before its ranks were started")
                for node in self.others:
                    self.meet(node)
                attempt = {"number": number, "over": False, **self._meeting()}
                write(self.folder / "attempt.json", attempt)
                ended = self.take_part(attempt, log)
                write(self.folder / "attempt.json", {**attempt, "over": ended["code"] != 0})
                parts = [ended, *(self._wait_for(node, number) for node in self.others)]
                if all(part["code"] == 0 for part in parts):
                    return self._end(0, "")
                # The first that says why: where one fails, the others are told to leave and say only that.
                worst = min(parts, key=lambda part: ("stuck", "hang", "lost", "").index(part["fault"]))
                why = worst["why"] or f"its processes ended with exit code {worst['code']}"
                furthest = max(part["furthest"] for part in parts)
                hope = worst["fault"] in ("hang", "lost") or furthest > best
                if final := self._final(number, hope and worst["fault"] != "stuck", why):
                    return self._end(ended["code"] or 1, final)
                best = max(best, furthest)
                self._record(furthest, worst["fault"] or "died", why)

    def _final(self, number: int, hope: bool, why: str) -> str:
        """Why there is no other attempt; empty when there is one."""
        restarts = self.call["max_restarts"]
        if (self.job / "error.json").exists() or self.stopping or self.over:
            return "it said why, or was told to stop"
        if not restarts:
            return why
        if not hope:
            return f"{why}. Not started again: it got no further than before, so it would fail again"
        if number > restarts:
            return f"{why}. Not started again: that was attempt {number}, and max_restarts is {restarts}"
        return ""

    def _gather(self, number: int) -> str:
        """Wait until every other node is ready; who is missing after ten minutes. One that waits itself is not."""
        deadline = time.monotonic() + WAIT_FOR_NODES_SECONDS
        while missing := [node for node in self.others if not self._is_ready(node, number)]:
            words = {node: self.hear(node) for node in missing}
            waits = [f"node {node}: {word['waits_for']}" for node, word in words.items() if word["doing"] == "waiting"]
            if waits:
                deadline = time.monotonic() + WAIT_FOR_NODES_SECONDS
            if time.monotonic() > deadline:
                nodes = " and ".join(map(str, missing))
                return (
                    f"expected {self.call['nodes']} nodes, found no node {nodes} in {WAIT_FOR_NODES_SECONDS:.0f} s. "
                    f"Start there: python -m lifecycle join --node-rank {missing[0]}"
                )
            if self.stopping or self.over or (self.job / "error.json").exists():
                break
            self.say_if_new(waiting_for=missing, waits_for="; ".join(waits))
            time.sleep(POLL_SECONDS)
        self.say(waiting_for=[], waits_for="")
        return ""

    def _is_ready(self, node: int, number: int) -> bool:
        word = self.hear(node)
        return word["doing"] == "ready" and (word["ended"] is None or word["ended"]["attempt"] < number)

    def _wait_for(self, node: int, number: int) -> Word:
        """How an attempt that is over, or done here, ended on another node; one that does not say so was lost."""
        while True:
            self.say()
            word = self.hear(node)  # one word for both questions: it may end between two of them
            ended = word.get("ended")
            if ended and ended["attempt"] == number:
                return dict(ended)
            if (why := self.lost(node)) or self.over or word["doing"] == "ready":
                why = why or f"node {node} took no part"
                return {"attempt": number, "code": None, "fault": "lost", "why": why, "furthest": 0}
            time.sleep(POLL_SECONDS)

    def _meeting(self) -> Word:
        """Where ranks of several nodes find each other, new for each attempt: the last one's port may still be held."""
        with socket.socket() as free:
            free.bind(("", 0))
            return {"address": os.environ.get(ADDRESS) or socket.gethostname(), "port": free.getsockname()[1]}

    def _record(self, step: int, rule: str, why: str) -> None:
        """Put a restart on record, beside what the watchdog of the training says."""
        row = {"step": step, "rule": rule, "action": "restart", "evidence": why}
        with (self.job / FINDINGS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _end(self, code: int, reason: str) -> int:
        if code and self.stopping and not (self.job / "error.json").exists():
            code = PREEMPTED_EXIT  # told to stop while it was starting: nothing was done that could be lost
        self.say(doing="ready")
        if (self.folder / "call.json").exists():
            write(self.folder / "ended.json", {"code": code, "reason": reason})
        return code


def main() -> int:
    die_with_parent(int(sys.argv[1]))
    os.environ[GUARDED_PID] = str(os.getpid())
    folder, number = Path(sys.argv[2]), int(sys.argv[3])
    if number == 0:
        return Leader(folder, number).lead()
    Node(folder, number).follow()
    return 0


if __name__ == "__main__":
    sys.exit(main())
