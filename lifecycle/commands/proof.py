"""`audit` and `live`: what was ever promoted, with its proof, and what users had at a moment."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from lifecycle.audit import audit, moved_aliases
from lifecycle.commands import existing_store, of_a_store
from lifecycle.errors import InputError
from lifecycle.ledger import withdrawn
from lifecycle.report import history

BROKEN = 1
"""Exit code of an audit that found a break."""


def add(commands: Any) -> None:
    """Add both to a parser."""
    proof = commands.add_parser("audit", help="prove that all that was ever live had a passing decision for its bytes")
    of_a_store(proof, json=True)
    proof.set_defaults(run_command=audit_store)
    live = commands.add_parser("live", help="what is live, or was at a moment")
    live.add_argument("--at", metavar="TIME", help="ISO 8601, like 2026-11-23T09:00; UTC unless it says otherwise")
    of_a_store(live, json=True)
    live.set_defaults(run_command=show_live)


def audit_store(options: argparse.Namespace) -> int:
    """Print every entry of the ledger with its proof; 1 when one does not hold."""
    store = existing_store(options.store)
    audited = audit(store)
    taken = withdrawn([found.entry for found in audited.entries])
    moved = moved_aliases(store)
    if options.json:
        print(json.dumps(history.audit_data(audited, taken, moved), indent=1), flush=True)
    else:
        Console(highlight=False).print(history.audit_screen(audited, taken, moved))
    return 0 if audited.first_break is None else BROKEN


def show_live(options: argparse.Namespace) -> int:
    """Print what was live at a moment; without one, now."""
    store, now = existing_store(options.store), datetime.now(UTC)
    moment = now if options.at is None else moment_of(options.at)
    if moment > now:
        raise InputError(f"expected a moment that is over, found {moment.isoformat()}. Nobody knows what is live then.")
    data = history.live_data(store, moment)
    if options.json:
        print(json.dumps(data, indent=1), flush=True)
    else:
        Console(highlight=False, soft_wrap=True).print(history.live_screen(data))
    return 0


def moment_of(text: str) -> datetime:
    """The moment an ISO 8601 text names; UTC when it does not say which clock it reads."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"expected --at as ISO 8601, like 2026-11-23T09:00, found {text!r}: {error}.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
