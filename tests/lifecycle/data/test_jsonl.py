"""A row that cannot be used gets a reason, whatever is wrong with it, and too many of them stop the stage."""

import gzip

import pytest

from lifecycle.data import jsonl
from lifecycle.data.jsonl import WHOLE, Lines, fault_of_text, line_spans, read_lines, read_rows, write_rows
from lifecycle.errors import InputError

GOOD = b'{"id": "a", "text": "fine"}\n'


def fault_of_row(row: dict) -> str | None:
    return fault_of_text(row.get("text"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "b", "text": \n', "row_bad_json"),
        (b'{"id": "b", "text": NaN}\n', "row_bad_json"),
        (b'{"id": "b", "text": "\xff"}\n', "row_not_utf8"),
        (b'{"id": "b", "text": "\\ud800"}\n', "row_lone_surrogate"),
        (b'{"id": "b", "text": "\\udc00x"}\n', "row_lone_surrogate"),
        (b'{"id": "b", "text": "\\u0000"}\n', "row_nul"),
        (b'{"id": "b", "text": "\x00"}\n', "row_nul"),
        (b"[" * 100_000 + b"\n", "row_too_deep"),
        (b'["b"]\n', "row_not_an_object"),
        (b"\n", "row_empty_line"),
        (b'{"id": "b"}\n', "row_no_text"),
        (b'{"id": "b", "text": "  "}\n', "row_no_text"),
        (b'{"id": "b", "text": 7}\n', "row_wrong_type"),
        (b'{"text": "fine"}\n', "row_no_id"),
        (GOOD, "row_repeated_id"),
    ],
)
def test_every_kind_of_bad_row_is_counted_under_its_own_reason(tmp_path, line, reason):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(GOOD + line)
    rows, faults = read_rows(file, fault_of_row, max_bad_row_share=0.5)
    assert ([row["id"] for row in rows], dict(faults)) == (["a"], {reason: 1})


def test_a_line_longer_than_the_limit_is_quarantined_and_the_next_line_is_read(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"text": "' + b"x" * 5_000 + b'"}\n' + GOOD)
    lines = list(read_lines(file, max_line_bytes=100))
    assert [(line.number, line.fault) for line in lines] == [(1, "row_too_long"), (2, None)]
    assert lines[1].row == {"id": "a", "text": "fine"}


def test_too_many_bad_rows_are_refused_naming_file_and_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(GOOD + b"{\n" + b"[]\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: row_bad_json in '{\\n'\n.*at most 0.00%.*found 2 of 3"):
        read_rows(file, fault_of_row, max_bad_row_share=0)


def test_a_missing_file_and_a_file_without_rows_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected a .jsonl file \(or .gz, .zst\) at .*nowhere.jsonl, found none"):
        read_rows(tmp_path / "nowhere.jsonl", fault_of_row, max_bad_row_share=0)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match=r"empty.jsonl:1: expected at least one usable row"):
        read_rows(tmp_path / "empty.jsonl", fault_of_row, max_bad_row_share=0)


def test_a_torn_gzip_file_is_refused_naming_the_line_it_tears_at(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress(GOOD * 10_000)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"rows.jsonl.gz:\d+: expected readable lines, found: .*Restore the file"):
        list(read_lines(file))


def test_a_file_is_cut_at_line_ends_into_spans_that_know_their_first_line(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "SCAN_BYTES", 3)
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"{}\n" * 2 + b"\n" + b'{"a":1}\n' + b"{}")
    assert line_spans(file, 5) == [(0, 6, 1), (6, 15, 3), (15, 17, 5)]
    assert line_spans(file, 17) == [WHOLE]
    cut = [line for span in line_spans(file, 5) for line in read_lines(file, span)]
    assert cut == list(read_lines(file))
    assert [line.number for line in cut] == [1, 2, 3, 4, 5]


def test_lines_are_found_by_number_across_what_is_scanned_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "SCAN_BYTES", 7)
    rows = [{"id": n, "text": "línea\n" * (n % 4)} for n in range(20)]
    write_rows(tmp_path / "rows.jsonl", rows)
    (tmp_path / "empty.jsonl").touch()
    lines = Lines(tmp_path / "rows.jsonl")
    assert [lines[number] for number in (19, 0, 7)] == [rows[19], rows[0], rows[7]]
    assert (len(lines), len(Lines(tmp_path / "empty.jsonl"))) == (20, 0)
