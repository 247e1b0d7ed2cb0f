"""The pages of a desk, and what must not get past them."""

import re

import pytest
from starlette.testclient import TestClient

from lifecycle.desk.app import application
from lifecycle.desk.guard import BODY_BYTES

ORIGIN = "http://127.0.0.1:8790"
PROMPT = [{"role": "user", "content": "Name a city."}]
FORM = {"content-type": "application/x-www-form-urlencoded"}


def stranger(desk, **headers):
    """A browser without a cookie."""
    return TestClient(application(desk, origins=[ORIGIN]), base_url=ORIGIN, headers=headers, follow_redirects=False)


def test_a_vote_is_counted_with_its_side_tags_and_time_and_the_next_pair_comes(make, annotator):
    ann = annotator(make(12))
    before = ann.fields()["shown"]
    assert ann.vote("left", "clear", "concise", seconds="4.25").headers["location"] == "/"
    (vote,) = ann.desk.votes.counted()
    assert (vote.choice, vote.tags, vote.seconds, vote.annotator) == ("left", ("clear", "concise"), 4.25, "annotator-1")
    assert ann.fields()["shown"] != before


def test_the_page_says_nothing_of_whose_answer_it_is(make, annotator):
    ann = annotator(make(12))
    for _ in range(6):
        page = ann.look()
        for item in ann.desk.items.values():
            assert item.id not in page, "an item's name follows from its systems"
        assert not re.search(
            r"\b(good|bad|seed|system|left)\b", page.replace("Both bad", "").replace('value="left"', "")
        )
        ann.vote("tie")


def test_double_click_back_button_and_a_request_sent_again_are_one_vote(make, annotator):
    ann = annotator(make(12))
    fields = {**ann.fields(), "choice": "right"}
    answers = [ann.client.post("/vote", data=fields) for _ in range(3)]
    assert [(answer.status_code, answer.headers["location"]) for answer in answers] == [(303, "/")] * 3
    assert len(ann.desk.votes.counted()) == 1


def test_a_second_tab_cannot_decide_what_the_first_has_decided(make, annotator, number):
    ann = annotator(make(12))
    fields = ann.fields()
    ann.client.post("/vote", data={**fields, "choice": "left"})
    answer = ann.client.post("/vote", data={**fields, "choice": "right", "id": number()})
    assert answer.status_code == 409
    assert [vote.choice for vote in ann.desk.votes.counted()] == ["left"]


def test_undo_brings_the_pair_back_on_the_same_sides(make, annotator):
    ann = annotator(make(12))
    before = ann.fields()["shown"]
    ann.vote("left")
    assert ann.client.post("/undo", data=ann.fields("undo")).status_code == 303
    assert ann.fields()["shown"] == before
    assert ann.desk.votes.counted() == []


def test_who_has_seen_all_is_thanked_and_can_still_undo(make, annotator):
    ann = annotator(make(2))
    for _ in range(2):
        ann.vote("both_bad")
    assert "Thank you" in ann.look()
    assert ann.client.post("/undo", data=ann.fields("undo")).status_code == 303
    assert "Which answer is better?" in ann.look()


def test_the_owner_alone_sees_the_summary(make, annotator):
    desk = make(12)
    ann, owner = annotator(desk), annotator(desk, "owner")
    ann.prefer("good")
    assert ann.client.get("/summary").status_code == 403
    assert stranger(desk).get("/summary").status_code == 401
    assert owner.client.get("/").headers["location"] == "/summary"
    page = owner.look("/summary")
    assert "1 vote by 1 annotator on 1 of 12 pairs" in page
    assert page.count("<svg") == 2 * page.count("<figure>") > 0


# What a page on another site, or anybody who can reach the port, may try.


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9999", ORIGIN + ".evil.example", None]
)
def test_a_post_from_another_origin_is_refused_even_with_cookie_and_token(make, annotator, origin):
    ann = annotator(make(12))
    fields = {**ann.fields(), "choice": "left"}
    del ann.client.headers["origin"]
    headers = {} if origin is None else {"origin": origin}
    assert ann.client.post("/vote", data=fields, headers=headers).status_code == 403
    assert ann.client.post("/undo", data=fields, headers=headers).status_code == 403
    assert ann.client.post("/enter", data={"token": "x"}, headers=headers).status_code == 403
    assert ann.desk.votes.rows() == 0


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8790", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8790"]
)
def test_a_name_rebound_to_this_machine_is_refused(make, annotator, host):
    ann = annotator(make(12))
    for path in ("/", "/summary", "/desk.js"):
        assert ann.client.get(path, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("csrf", ["", "0" * 64, "\u00e9"])
def test_a_vote_without_the_forms_token_is_refused(make, annotator, csrf):
    ann = annotator(make(12))
    assert ann.vote("left", csrf=csrf).status_code == 403
    missing = {name: value for name, value in ann.fields().items() if name != "csrf"}
    assert ann.client.post("/vote", data={**missing, "choice": "left"}).status_code == 403
    assert ann.client.post("/undo", data={**missing, "undoes": "0" * 32}).status_code == 403
    assert ann.desk.votes.rows() == 0


def test_the_form_token_of_another_annotator_is_refused(make, annotator):
    desk = make(12)
    ann, bob = annotator(desk), annotator(desk, "annotator-2")
    assert ann.vote("left", csrf=bob.fields()["csrf"]).status_code == 403


def test_a_forged_or_revoked_token_opens_nothing(make, annotator):
    desk = make(12)
    ann = annotator(desk)
    token = desk.people.all()[1].token
    for forged in ("", token[:-1], token.swapcase(), "../" + token, "x" * 9000):
        visitor = stranger(desk, cookie=f"desk-8790={forged}", origin=ORIGIN)
        assert visitor.get("/").status_code == 401
        assert visitor.post("/vote", data={"choice": "left"}).status_code == 401
        assert visitor.post("/enter", data={"token": forged}).status_code == 403
    desk.people.revoke("annotator-1")
    assert ann.client.get("/").status_code == 401
    assert stranger(desk).get(f"/a/{token}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"shown": "999"}, 409),
        ({"shown": "-1"}, 400),
        ({"shown": "1e3"}, 400),
        ({"shown": "9" * 40}, 400),
        ({"shown": "١"}, 400),
        ({"id": "x"}, 400),
        ({"id": "../../etc"}, 400),
        ({"choice": "undo"}, 400),
        ({"choice": "'; DROP TABLE votes; --"}, 400),
    ],
)
def test_a_vote_on_what_was_not_shown_and_malformed_votes_are_refused(make, annotator, fields, status):
    ann = annotator(make(12))
    choice = fields.pop("choice", "left")
    assert ann.vote(choice, **fields).status_code == status
    assert ann.desk.votes.rows() == 0


def test_a_vote_on_what_was_shown_to_somebody_else_is_refused(make, annotator):
    desk = make(12)
    ann, bob = annotator(desk), annotator(desk, "annotator-2")
    theirs = bob.fields()["shown"]
    assert ann.vote("left", shown=theirs).status_code == 409
    assert desk.votes.rows() == 0


def test_a_time_that_cannot_be_is_no_time(make, annotator):
    ann = annotator(make(12))
    for said in ("nan", "inf", "-1", "1e9", "a while"):
        ann.vote("left", seconds=said)
    assert {vote.seconds for vote in ann.desk.votes.counted()} == {None}


def test_large_and_endless_bodies_are_refused(make, annotator):
    ann = annotator(make(12))
    assert ann.client.post("/vote", content=b"x" * (BODY_BYTES + 1), headers=FORM).status_code == 413

    def chunks():
        for _ in range(100):
            yield b"x" * 1000

    assert ann.client.post("/vote", content=chunks(), headers=FORM).status_code == 413
    assert ann.client.post("/vote", content=b"\xff=1&" * 50, headers=FORM).status_code == 403
    assert ann.client.post("/vote", content=b"{}", headers={"content-type": "application/json"}).status_code == 403
    assert ann.client.put("/vote").status_code == 405
    assert ann.desk.votes.rows() == 0


def test_markup_and_commands_in_questions_and_answers_are_text(make, annotator):
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)> \u202eevil\u2066 \x1b[31m \x00 &#x202E; {{ 7 * 7 }}"
    desk = make(
        [
            {
                "prompt": [{"role": "system", "content": attack.replace("\x00", "")}, *PROMPT],
                "answers": [{"content": attack.replace("\x00", "")}, {"content": "x" * 10_000_000}],
            }
        ]
    )
    page = annotator(desk).look()
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("⟨U+202E⟩") == 2
    assert "\u202e" not in page
    assert "\u2066" not in page
    assert "\x1b" not in page
    assert "{{ 7 * 7 }}" in page
    assert len(page) < 100_000, "ten megabytes are cut"
    assert "more characters" in page


def test_every_response_forbids_what_a_page_of_ours_never_needs(make, annotator):
    ann = annotator(make(12))
    for answer in (ann.client.get("/"), ann.client.get("/nothing"), ann.client.get("/", headers={"host": "evil"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    page = ann.look()
    assert not re.search(r"<script(?! src=\"/desk\.js\" defer>)|\son\w+=|style=|https?://", page)


def test_the_cookie_is_for_this_site_alone_and_no_script_reads_it(make):
    desk = make(12)
    answer = stranger(desk, origin=ORIGIN).post("/enter", data={"token": desk.people.all()[1].token})
    cookie = answer.headers["set-cookie"].lower()
    assert "samesite=strict" in cookie
    assert "httponly" in cookie
    assert "domain" not in cookie
