"""Where a desk listens, and what its commands say."""

import pytest

from lifecycle import __main__ as program
from lifecycle.desk.folder import hold
from lifecycle.desk.serve import check_exposure, origins, serve
from lifecycle.errors import ConfigError, StoreError


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "desk.example.org"])
def test_another_host_than_loopback_must_be_asked_for_and_the_risk_is_said(host):
    with pytest.raises(ConfigError, match=r"no encryption here.*over ssh.*--expose"):
        check_exposure(host, public_url=None, expose=False)


def test_a_wildcard_address_has_no_name_so_one_must_be_given():
    with pytest.raises(ConfigError, match="--public-url"):
        check_exposure("0.0.0.0", public_url=None, expose=True)
    check_exposure("0.0.0.0", public_url="https://desk.example.org", expose=True)
    with pytest.raises(ConfigError, match="like https://desk"):
        check_exposure("127.0.0.1", public_url="https://desk.example.org/somewhere", expose=False)


def test_the_names_of_a_desk_are_those_it_is_reached_under_and_no_other():
    assert origins("127.0.0.1", 8790, None) == ["http://127.0.0.1:8790", "http://localhost:8790"]
    assert origins("::1", 80, None)[0] == "http://[::1]:80"
    assert origins("127.0.0.1", 8790, "https://Desk.example.org/")[0] == "https://desk.example.org"
    assert origins("192.168.1.7", 8790, None) == ["http://192.168.1.7:8790"]


def test_two_servers_never_share_a_desk(make):
    desk = make(3)
    with hold(desk.folder), pytest.raises(StoreError, match="found it served"):
        serve(desk, annotators=1, port=0)


def test_the_export_command_says_what_it_wrote_and_refuses_in_three_parts(make, annotator, tmp_path, capsys):
    desk = make(3)
    annotator(desk).prefer("good")
    out = tmp_path / "out.jsonl"
    ask = ["desk", "export", str(desk.folder), "--out", str(out)]
    assert program.main(ask) == 1
    assert "expected an agreement (Krippendorff's alpha) of at least 0.40, found none" in capsys.readouterr().err
    assert not out.exists()
    assert program.main([*ask, "--minimum-agreement", "none"]) == 0
    assert "1 pairs, agreement not measured" in capsys.readouterr().out.replace("\n", " ")


def test_links_are_revoked_and_renewed_by_command(make, capsys):
    desk = make(3)
    old = desk.people.all()[1].token
    assert program.main(["desk", "revoke", str(desk.folder), "annotator-1"]) == 0
    assert desk.people.who(old) is None
    assert program.main(["desk", "renew", str(desk.folder), "annotator-1"]) == 0
    assert f"/a/{desk.people.all()[1].token} " in capsys.readouterr().out
    assert program.main(["desk", "renew", str(desk.folder), "nobody"]) == 2
    assert program.main(["desk", "export"]) == 2


def test_a_setting_that_cannot_be_is_named(capsys):
    assert program.main(["desk", "--answers", "x.jsonl", "--repeat-share", "2"]) == 2
    assert "found --repeat-share 2.0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        program.main(["desk", "export", "x", "--minimum-agreement", "nan"])
