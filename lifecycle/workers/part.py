"""One node's part in a job: what it says to the others, what it claims of its machine, one attempt of its ranks.

Only the standard library: see `workers.node`, where node 0 leads.
"""

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import IO, Any

from lifecycle.launchers.accelerators import Claim, TooFew
from lifecycle.workers.heartbeat import Silence
from lifecycle.workers.ranks import Ranks
from lifecycle.workers.words import Word, read, write

POLL_SECONDS = 0.05
WORD_SECONDS = 1.0
CLAIM_SECONDS = 0.5
AFAR = "LIFECYCLE_SAY_EVERY_SECOND"  # somebody listens who is no node: the flow, where a scheduler owns this process
NODE_SILENCE_SECONDS = 30.0
"""A node says something every second; a shared file system may show it some seconds late."""


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
        self.word: Word = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "doing": "ready",
            "ended": None,
            "waits_for": "",
        }
        self._said = -WORD_SECONDS
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, *_: object) -> None:
        self.told_to_stop = True

    # What nodes tell each other.

    def say(self, **news: Any) -> None:
        """Leave this node's word, at once where it is news, else every second."""
        now = time.monotonic()
        if news or ((self.others or AFAR in os.environ) and now - self._said >= WORD_SECONDS):
            self._said = now
            self.word = {**self.word, **news, "moment": time.time_ns()}
            write(self.folder / f"node-{self.number}.json", self.word)

    def say_if_new(self, **news: Any) -> None:
        """The same for what is often repeated."""
        self.say(**(news if any(self.word.get(name) != value for name, value in news.items()) else {}))

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

    # What this node's ranks compute on.

    def claim(self) -> bool:
        """Have this node's accelerators to itself, for as long as it lives; False when the job ended before.

        Said to the one who reads this node's word: who has them meanwhile. A machine with too few ends the job.
        """
        who = {"pid": os.getpid(), "job": self.call.get("key", self.job.parent.name), "run": self.call.get("run", "")}
        try:
            claim = Claim(self.call.get("accelerators", 0), holder=who)
        except TooFew as error:
            write(self.job / "error.json", {"kind": "ConfigError", "message": str(error)})
            return False
        while not claim.take():
            if self.stopping or self.over:
                return False
            holders = f"{claim.count} accelerators of {self.word['host']}: {claim.holders()}"
            self.say_if_new(doing="waiting", waits_for=holders)
            time.sleep(CLAIM_SECONDS)
        self.say_if_new(waits_for="")
        os.environ.update(claim.environment())
        return True

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
        if not self.claim():
            return
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
