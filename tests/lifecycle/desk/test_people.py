"""Links: unguessable, private to their owner's account, and dead at once when revoked."""

import pytest

from lifecycle.desk.people import FILE, People
from lifecycle.errors import InputError


def test_links_are_made_once_and_kept(tmp_path):
    people = People(tmp_path)
    first = people.at_least(2)
    assert [person.name for person in first] == ["owner", "annotator-1", "annotator-2"]
    assert len({person.token for person in first}) == 3
    assert all(len(person.token) >= 32 for person in first), "24 random bytes"
    assert people.at_least(3)[:3] == first
    assert people.at_least(1) == people.all(), "nobody is shut out by asking for fewer"


def test_the_file_of_links_is_its_owners_alone(tmp_path):
    People(tmp_path).at_least(1)
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_revoked_link_is_dead_and_a_renewed_one_has_another_token(tmp_path):
    people = People(tmp_path)
    old = people.at_least(1)[1]
    people.revoke(old.name)
    assert people.who(old.token) is None
    new = people.renew(old.name)
    assert people.who(old.token) is None
    assert people.who(new.token) == new
    with pytest.raises(InputError, match="expected one of owner, annotator-1, found 'eve'"):
        people.revoke("eve")
