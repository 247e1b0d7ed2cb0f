"""Records, `{"section":"libs","size":12}`, as the text a prompt shows."""

import json

from lifecycle.data.jsonl import fault_of_text


def record_text(record: object) -> str:
    """Compact JSON, in the record's order. Text is its own text."""
    return json.dumps(record, separators=(",", ":")) if isinstance(record, dict) else str(record)


def fault_of_record(record: object) -> str | None:
    """Why this is no record of plain values (or text), or None."""
    if isinstance(record, dict) and not all(isinstance(value, str | int | float) for value in record.values()):
        return "row_wrong_type"
    return fault_of_text(record_text(record) if isinstance(record, dict) else record)
