"""One node's part in a job: `-m lifecycle.workers.node PARENT CALL NODE`. Node 0 leads, the others follow.

CALL is a folder that all nodes of the job see. Each file in it has one writer and is replaced by rename:

    call.json      what to run (`launchers.shape.Call`). Gone: the job is withdrawn and everybody leaves
    attempt.json   node 0: the number of the attempt, where its ranks meet, whether it is over
    node-1.json    each node's last word, every second: what it is doing, how its last attempt ended
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
import signal
import socket
import sys
import time
from pathlib import Path
from typing import IO, Any

from lifecycle.workers.guard import GUARDED_PID, die_with_parent
from lifecycle.workers.heartbeat import Silence
from lifecycle.workers.ranks import Ranks

POLL_SECONDS = 0.05
WORD_SECONDS = 1.0
NODE_SILENCE_SECONDS = 30.0
"""A node says something every second; a shared file system may show it some seconds late."""
WAIT_FOR_NODES_SECONDS = 600.0
PREEMPTED_EXIT = 85
ADDRESS = "LIFECYCLE_NODE_ADDRESS"  # under which the other nodes reach this one; default: its host name
FINDINGS = "findings.jsonl"

Word = dict[str, Any]


class Node:
    """This node's part in one job, from its call to its end."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self.call: Word = json.loads((folder / "call.json").read_bytes())
        self.job = Path(self.call["folder"])
        self.others = [node for node in range(self.call["nodes"]) if node != number]
        self.words = Silence([self._word_of(node) for node in self.others])
        self.met: dict[int, tuple[str, int]] = {}
        """Host and process of the other nodes in the attempt that runs: who is another one has lost its ranks."""
        self.told_to_stop = False
        self.word: Word = {"host": socket.gethostname(), "pid": os.getpid(), "doing": "ready", "ended": None}
        self._said = -WORD_SECONDS
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, *_: object) -> None:
        self.told_to_stop = True

    # What nodes tell each other.

    def say(self, **news: Any) -> None:
        """Leave this node's word, at once where it is news, else every second."""
        now = time.monotonic()
        if news or (self.others and now - self._said >= WORD_SECONDS):
            self._said = now
            self.word = {**self.word, **news, "moment": time.time_ns()}
            write(self.folder / f"node-{self.number}.json", self.word)

    def hear(self, node: int) -> Word:
        """What another node said last; its `doing` is `lost` when that is too long ago, or not of this life."""
        file = self._word_of(node)
        silent = self.words.look()[file]
        word = read(file) or {}
        if silent > NODE_SILENCE_SECONDS or file not in self.words.heard:
            return {**word, "doing": "lost", "silent": silent}
        return word

    def _word_of(self, node: int) -> Path:
        return self.folder / f"node-{node}.json"

    @property
    def over(self) -> bool:
        """Whether the job has ended or was withdrawn."""
        return not (self.folder / "call.json").exists() or (self.folder / "ended.json").exists()

    @property
    def stopping(self) -> bool:
        return self.told_to_stop or (self.folder / "stop").exists()

    # One attempt, on this node.

    def take_part(self, attempt: Word, log: IO[bytes]) -> Word:
        """Run this node's ranks until they end, or must; how that was.

        `fault` says what another attempt may mend: `hang`, or `lost` for a node; `stuck` what none can.
        """
        self.say(doing="running", attempt=attempt["number"])
        ranks = Ranks(self.call, self.folder / f"ranks-{self.number}", node=self.number, meeting=attempt, log=log)
        asked, fault, why = False, "", ""
        while (code := ranks.ended()) is None and not why:
            time.sleep(POLL_SECONDS)
            self.say()
            if self.stopping and not asked:
                ranks.ask_to_stop()
                asked = True
            fault, why = ("hang", hang) if (hang := ranks.hang()) else self.reason_to_leave(attempt)
        furthest = ranks.furthest()
        if fault == "hang":
            ranks.dump_stacks(why)
        # Also after they ended: an agent that was killed leaves its ranks to the kernel, which takes a moment.
        if unkillable := ranks.kill():
            fault, why = "stuck", unkillable
        ended = {"attempt": attempt["number"], "code": code, "fault": fault, "why": why, "furthest": furthest}
        self.say(doing="ready", ended=ended)
        return ended

    def reason_to_leave(self, attempt: Word) -> tuple[str, str]:
        """Why this node's ranks cannot go on, which they may not notice themselves: the fault, and a sentence."""
        if not (self.folder / "call.json").exists():
            return "", "the job was withdrawn"
        if self.number:
            current = read(self.folder / "attempt.json") or {"number": 0}
            if current["number"] != attempt["number"] or current["over"]:
                return "", "the attempt is over"
        for node in self.others if self.number == 0 else [0]:
            if lost := self.lost(node):
                return "lost", lost
            if self.number == 0 and (ended := self.part_of(node, attempt["number"])) and ended["code"] != 0:
                return "", f"node {node} failed: {ended['why'] or 'exit code'} {ended['code'] or ''}".rstrip()
        return "", ""

    def part_of(self, node: int, attempt: int) -> Word | None:
        """How another node's part in an attempt ended; None while it has not."""
        ended = self.hear(node).get("ended")
        return dict(ended) if ended and ended["attempt"] == attempt else None

    def meet(self, node: int) -> None:
        """Remember who another node is, until it is asked whether it was lost."""
        word = self.hear(node)
        self.met[node] = (word["host"], word["pid"])

    def lost(self, node: int) -> str:
        """Why another node is not the one that was met, or not there at all; empty while it is."""
        word, host = self.hear(node), self.met[node][0]
        if (word.get("host"), word.get("pid")) != self.met[node]:
            return f"node {node} ({host}) was started anew"
        if word["doing"] == "lost":
            return f"node {node} ({host}) was not heard of for {word['silent']:.0f} s"
        return ""

    def follow(self) -> None:
        """Take part in every attempt that node 0 begins, until the job is over."""
        done = 0
        self.say(doing="ready")
        with (self.folder / f"worker-{self.number}.log").open("ab") as log:
            while not self.over and not self.told_to_stop:
                self.say()
                attempt = read(self.folder / "attempt.json")
                begun = attempt is not None and attempt["number"] > done and not attempt["over"]
                if attempt is not None and begun and self.hear(0)["doing"] != "lost":
                    done = attempt["number"]
                    self.meet(0)
                    self.take_part(attempt, log)
                time.sleep(POLL_SECONDS)


class Leader(Node):
    """Node 0: begins attempts, and says how the job ended."""

    def lead(self) -> int:
        """Begin attempts until one ends well or there is nothing more to hope for; the exit code."""
        best, number = 0, (read(self.folder / "attempt.json") or {"number": 0})["number"]
        self.say(doing="ready")
        with (self.job / "worker.log").open("ab") as log:
            while True:
                number += 1
                if missing := self._gather(number):
                    return self._end(1, missing)
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
        """Wait until every other node is ready; who is missing after ten minutes."""
        deadline = time.monotonic() + WAIT_FOR_NODES_SECONDS
        while missing := [node for node in self.others if not self._is_ready(node, number)]:
            if time.monotonic() > deadline:
                nodes = " and ".join(map(str, missing))
                return (
                    f"expected {self.call['nodes']} nodes, found no node {nodes} in {WAIT_FOR_NODES_SECONDS:.0f} s. "
                    f"Start there: python -m lifecycle join --node-rank {missing[0]}"
                )
            if self.stopping or self.over:
                break
            self.say(**({"waiting_for": missing} if self.word.get("waiting_for") != missing else {}))
            time.sleep(POLL_SECONDS)
        self.say(waiting_for=[])
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


def write(path: Path, data: Word) -> None:
    """Replace a small file: a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data))
    temporary.rename(path)


def read(path: Path) -> Word | None:
    """What a file of the call holds; None when there is none."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError):
        return None


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
