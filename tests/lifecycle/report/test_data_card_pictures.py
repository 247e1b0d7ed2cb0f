"""The pictures of a data card say in words what they draw."""

from lifecycle.report import data_card_pictures as pictures


def test_rare_reasons_become_one_line_of_the_funnel(make_card, told):
    dropped = told["steps"][3]["sources"]["web"]["dropped"]
    for number in range(8):
        dropped[f"rule_{number}"] = {"documents": 9 - number, "bytes": 0}
    wide = pictures.funnel(make_card(told)).wide
    assert "− 226 gopher_word_count" in wide
    assert "rule_3" in wide
    assert "rule_4" not in wide
    assert "for 5 rarer reasons" in wide


def test_lengths_are_drawn_as_shares_so_that_few_drops_are_seen(make_card):
    whole, sea, _ = pictures.lengths(make_card())
    assert whole.title == "Length of documents, all sources"
    assert sea.caption == "Of 900 documents kept, half have at most 4,096 characters; of 100 dropped, at most 256."
    assert "of documents kept: 56 % from 1,024 up to 4,096" in sea.wide


def test_a_score_names_the_line_its_rule_draws(make_card):
    (found,) = pictures.scores(make_card(), "language")
    assert found.title == "Probability of the language found, web"
    assert found.caption.startswith("1,200 documents kept, 1,074 dropped")


def test_shares_show_before_after_and_what_was_asked_for(make_card):
    wide = pictures.shares(make_card()).wide
    for said in ("25.0 % → 60.0 %", "asked for", "of the rows read", "of the training text"):
        assert said in wide


def test_clusters_are_counted_by_size(make_card, told):
    wide = pictures.clusters(make_card(told)).wide
    for said in ("2 documents: 70", "5 to 9 documents: 5", "20 to 49 documents: 3"):
        assert said in wide


def test_without_clusters_there_is_no_picture_of_them(make_card, told):
    told["near_duplicates"] = None
    assert pictures.clusters(make_card(told)) is None
