from lifecycle.data.decontaminate import NgramRule
from lifecycle.evaluation.contamination import contamination_of

RULE = NgramRule(ngram_words=6)


def row(name, text):
    return {"id": name, "messages": [{"role": "user", "content": text}]}


ITEMS = [
    row("long", "which harbour did the grey whale pass before dawn on its way north"),
    row("short", "name the oldest lighthouse here"),
    row("clean", "how many barrels of oil can one such ship carry home"),
    row("two words", "say hello"),
]


def test_an_item_is_found_by_six_words_of_it_or_by_the_whole_of_a_short_one():
    documents = [
        {"id": "d0", "source": "sea", "text": "They saw the Grey Whale pass before dawn, and wept."},
        {"id": "d1", "source": "sea", "text": "He would name the oldest lighthouse here without a thought."},
        {"id": "d2", "source": "sea", "text": "Barrels of oil, carried home by one such ship. Say hello."},
        {"id": "d3", "source": "sea", "text": "A second copy: the grey whale pass before dawn."},
    ]
    found = contamination_of({"quiz": ITEMS}, documents, RULE)["quiz"]
    assert (found.items, found.contaminated, found.ngram_words) == (4, 2, 6)
    assert found.examples == {"long": "sea/d0", "short": "sea/d1"}
    assert found.checked == 3  # two words are no fingerprint


def test_the_wording_of_a_task_is_no_item():
    task = "answer the following question about ships in one word"
    items = [row(f"i{n}", f"{task} number {n} {n} {n} {n} {n} {n}") for n in range(20)]
    found = contamination_of({"quiz": items}, [{"id": "d", "text": f"We were told to {task} only."}], RULE)["quiz"]
    assert (found.contaminated, found.checked) == (0, 20)


def test_a_suite_that_was_trained_on_is_found_whole():
    items = [row(f"i{n}", f"item {n} about ship {n * 7} and port {n * 13} in year {n + 1800}") for n in range(10)]
    documents = [{"id": f"d{n}", "text": item["messages"][0]["content"]} for n, item in enumerate(items)]
    assert contamination_of({"quiz": items}, documents, RULE)["quiz"].contaminated == 10
    assert contamination_of({"quiz": items}, [], RULE)["quiz"].contaminated == 0
