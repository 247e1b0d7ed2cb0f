"""What was live and when, and whether history is proven: for people (rich) and programs (JSON)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lifecycle import provenance
from lifecycle.audit import Audit
from lifecycle.errors import DamagedArtifact
from lifecycle.history import Entry
from lifecycle.ledger import Ledger
from lifecycle.store import Store

Moved = Sequence[Mapping[str, str]]


def audit_screen(audit: Audit, withdrawn: Mapping[str, Entry], moved: Moved) -> RenderableType:
    """A row for every promotion and rollback, then the verdict."""
    table = Table(title="what was ever live", title_justify="left", title_style="bold", expand=True)
    for column in ("entry", "since", "what", "release", "P4"):
        table.add_column(column, no_wrap=True)
    table.add_column("reason", overflow="fold", ratio=1)
    for found in audit.entries:
        entry, proven = found.entry, found.fault is None
        verdict = Text("proven", style="green") if proven else Text("BROKEN", style="bold red")
        table.add_row(str(entry.seq), entry.at, entry.action, entry.release[:12], verdict, Text(_why(entry)))
    lines: list[RenderableType] = [table]
    for checkpoint, rollback in withdrawn.items():
        lines.append(Text(f"withdrawn: checkpoint {checkpoint[:12]}, by entry {rollback.seq}: {rollback.reason}"))
    lines += [Text(f"{alias['at']}: {alias['message']}", style="yellow") for alias in moved]
    return Group(*lines, Text(verdict_line(audit), style="bold green" if audit.first_break is None else "bold red"))


def verdict_line(audit: Audit) -> str:
    """Proven, or where it first breaks, in one sentence."""
    if audit.first_break is not None:
        return f"first break: {audit.first_break}"
    releases = len({found.entry.release for found in audit.entries})
    return (
        f"proven: {len(audit.entries)} entries, {releases} releases; each had a passing decision for exactly its "
        "checkpoint, and every byte of candidate, report, decision and release is as it was"
    )


def audit_data(audit: Audit, withdrawn: Mapping[str, Entry], moved: Moved) -> dict[str, Any]:
    """The same, for programs."""
    return {
        "proven": audit.first_break is None,
        "first_break": audit.first_break,
        "entries": [{**found.entry.model_dump(), "fault": found.fault} for found in audit.entries],
        "moved_aliases": [dict(found) for found in moved],
        "withdrawn": {checkpoint: rollback.model_dump() for checkpoint, rollback in withdrawn.items()},
    }


def live_data(store: Store, moment: datetime) -> dict[str, Any]:
    """What was live at a moment, from when until when."""
    ledger = Ledger(store)
    entry = ledger.live_at(moment)
    if entry is None:
        return {"at": moment.isoformat(), "live": None, "until": None, "folder": None}
    after = [later for later in ledger.entries() if later.seq == entry.seq + 1]
    until = after[0].at if after else None
    return {
        "at": moment.isoformat(),
        "live": entry.model_dump(),
        "until": until,
        "folder": _folder(store, entry.release),
    }


def live_screen(data: Mapping[str, Any]) -> RenderableType:
    """The same in words."""
    live = data["live"]
    if live is None:
        return Text(f"at {data['at']} nothing was live", style="bold")
    lines = [
        f"at {data['at']} release {live['release'][:12]} was live",
        f"  since     {live['at']} ({live['action']}, ledger entry {live['seq']})",
        f"  until     {data['until'] or 'now'}",
        f"  reason    {live['reason']}",
        f"  approver  {live['approver'] or 'nobody: its policy asks for none, or nobody was named'}",
        f"  stands on checkpoint {live['checkpoint'][:12]}, report {live['report'][:12]}, decision "
        f"{live['decision'][:12]}",
        f"  folder    {data['folder'] or 'its files are gone'}",
    ]
    return Text("\n".join(lines))


def _why(entry: Entry) -> str:
    return f"{entry.reason} (approved by {entry.approver})" if entry.approver else entry.reason


def _folder(store: Store, release: str) -> str | None:
    try:
        return str(provenance.folder_of(store, release))
    except DamagedArtifact:
        return None
