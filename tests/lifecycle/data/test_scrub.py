"""What has the form of personal data goes, and what only looks like it stays."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data import scrub as scrubbing
from lifecycle.data.scrub import Scrubbing, is_iban, scrub

RULE = Scrubbing()


def test_each_kind_becomes_its_placeholder_and_is_counted():
    text = (
        "Write to ann.o'neil+x@mail.example.org or call +44 20 7946 0958 or (212) 555-0147. Pay DE89 3704 0044 0532 "
        "0130 00 from 8.8.8.8 or 2001:4860:4860::8888 with AKIAIOSFODNN7EXAMPLE."
    )
    assert scrub(text, RULE) == (
        "Write to <EMAIL> or call <PHONE> or <PHONE>. Pay <IBAN> from <IP> or <IP> with <API_KEY>.",
        {"API_KEY": 1, "EMAIL": 1, "IBAN": 1, "IP": 2, "PHONE": 2},
    )


@pytest.mark.parametrize(
    "text",
    [
        "Version 3.8.8.1999 of 2024-01-31, 10:45:00, ISBN 978-3-16-148410-0, 1,234,567 of 12345678901 at 192.168.0.1",
        "DE88 3704 0044 0532 0130 00 has a wrong check sum",
        "a@b and @handle and x @ y.com",
        "std::vector and 12:30:45 and ::1",
        "sk-learn, ghost_story, 555-1234",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert scrub(text, RULE) == (text, {})


def test_a_check_sum_decides():
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB82WEST12345698765423")
    assert not is_iban("ZZ82WEST12345698765432")


def test_private_addresses_go_when_asked_and_other_kinds_stay_when_not():
    assert scrub("10.0.0.1", Scrubbing(public_ips_only=False)).text == "<IP>"
    assert scrub("a@b.org 8.8.8.8", Scrubbing(kinds=("IP",))).text == "a@b.org <IP>"


@given(st.text(alphabet="ab1290 .@:+-()DEGBX\n/_", max_size=80))
def test_twice_is_once(text):
    once = scrub(text, RULE).text
    assert scrub(once, RULE) == (once, {})


def test_what_is_asked_before_a_pattern_hides_nothing_from_it(monkeypatch):
    parts = [
        "DE89 3704 0044 0532 0130 00",
        "8.8.8.8",
        "93.184.216.34",
        "2001:4860::8888",
        "1:2:3:4:5:6:7:8",
        "12:30:45",
        "::1",
        "+44 20 7946 0958",
    ]
    parts += ["(212) 555-0147", "212.555.0147", "x@y.org", "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1" * 20, "hf_" + "b" * 30]
    parts += ["sk-" + "c" * 24, "xoxb-1234567890", "AIza" + "d" * 35, "glpat-" + "e" * 20, "sk_live_" + "f" * 20]
    parts += ["eyJ" + "g" * 10 + ".eyJ" + "h" * 10 + "." + "i" * 10, "-----BEGIN PRIVATE KEY-----x", *"a1 .@:+-(\n_é١"]
    parts += ["-----END PRIVATE KEY-----", "ASIA", "github_pat_" + "j" * 50]
    draw = random.Random(0)
    texts = ["".join(draw.choices(parts, k=draw.randrange(12))) for _ in range(5_000)]
    found = [scrub(text, RULE) for text in texts]
    always = [(kind, lambda text, shape: True, *rest) for kind, _, *rest in scrubbing._STEPS]
    monkeypatch.setattr(scrubbing, "_STEPS", always)
    assert found == [scrub(text, RULE) for text in texts]
    assert len({kind for _, counts in found for kind in counts}) == 5
