"""The bar: 1,000 votes by five annotators at once while the server is killed three times; none lost, none doubled."""

import http.client
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlencode

import pytest

from lifecycle.desk.folder import Desk
from lifecycle.desk.votes import CHOICES

ANNOTATORS, ITEMS = 5, 200
KILLED_AFTER = (150, 450, 800)
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Server:
    """The desk's own command, in a process of its own."""

    def __init__(self, folder) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = [sys.executable, "-m", "lifecycle", "desk", "serve", str(folder), "--port", str(self.port)]
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, env=environment)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Machine(threading.Thread):
    """An annotator that never tires: votes until there is nothing left, and asks again where nobody answered."""

    def __init__(self, port: int, token: str, answered: list[str]) -> None:
        super().__init__(daemon=True)
        self.port, self.cookie, self.answered = port, f"desk-{port}={token}", answered
        self.line: http.client.HTTPConnection | None = None
        self.failed: str | None = None
        self.asked_again = 0

    def run(self) -> None:
        while (page := self.ask("GET", "/")[1]) and 'id="vote"' in page:
            part = page[page.index('id="vote"') :]
            fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', part))
            fields |= {"id": secrets.token_hex(16), "choice": secrets.choice(CHOICES), "seconds": "1.5"}
            for _ in range(1 + secrets.randbelow(2)):  # every second vote is sent twice, as by a double click
                status, said = self.ask("POST", "/vote", urlencode(fields))
                if status != 303:
                    self.failed = f"{status} {said}"
                    return
            self.answered.append(fields["id"])
        if "Thank you" not in page:
            self.failed = page

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        """One request, again and again until a server answers it."""
        headers = {"cookie": self.cookie, "origin": f"http://127.0.0.1:{self.port}", **FORM}
        while True:
            try:
                self.line = self.line or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                self.line.request(method, path, body, headers)
                response = self.line.getresponse()
                return response.status, response.read().decode()
            except (OSError, http.client.HTTPException):
                self.line, self.asked_again = None, self.asked_again + 1
                time.sleep(0.05)


@pytest.mark.slow
def test_a_thousand_votes_survive_three_kills_none_lost_none_doubled(make):
    desk = make(ITEMS, annotators=ANNOTATORS, repeat_share=0)
    answered: list[str] = []
    server = Server(desk.folder)
    machines = [Machine(server.port, person.token, answered) for person in desk.people.all()[1:]]
    try:
        for machine in machines:
            machine.start()
        for votes in KILLED_AFTER:
            while len(answered) < votes and any(machine.is_alive() for machine in machines):
                time.sleep(0.005)
            server.kill()
            server.start()
        for machine in machines:
            machine.join(timeout=300)
    finally:
        server.kill()
    assert [machine.failed for machine in machines] == [None] * ANNOTATORS
    assert sum(machine.asked_again for machine in machines) >= len(KILLED_AFTER), "the kills were felt"

    votes = Desk(desk.folder).votes.counted()
    assert len(votes) == len(answered) == ANNOTATORS * ITEMS
    assert {vote.id for vote in votes} == set(answered), "every vote that was answered is there, and no other"
    per_person = Counter((vote.annotator, vote.item) for vote in votes)
    assert set(per_person.values()) == {1}, "nobody's vote on an item counts twice"
    assert len(per_person) == ANNOTATORS * ITEMS
