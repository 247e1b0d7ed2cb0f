"""The one line a person wants to know of an artifact, and how durations and counts are written."""

from collections.abc import Mapping
from typing import Any


def key_number(kind: str, facts: Mapping[str, Any]) -> str:
    """What came out of a stage, in a few words."""
    match kind:
        case "Suites":
            return f"{count(sum(facts['items'].values()))} held-out items"
        case "Corpus":
            kept_bytes = sum(source["kept_bytes"] for source in facts["sources"].values())
            documents = f"{count(facts['train_documents'])} documents, {kept_bytes / 1e6:.1f} MB"
            return f"{documents}, {len(facts['sources'])} sources"
        case "Tokenizer":
            return f"{count(facts['vocab_size'])} tokens"
        case "TokenShards":
            return f"{count(facts['rows'])} rows of {facts['max_seq_len']}, {count(facts['tokens'])} tokens"
        case "Demonstrations":
            return f"{count(facts['train_rows'])} conversations"
        case "Comparisons":
            return f"{count(facts['train_pairs'])} pairs"
        case "Checkpoint":
            size = f"{count(facts['parameters'])} parameters"
            return f"loss {facts['final_loss']:.3f} after {count(facts['steps'])} steps, {size}"
        case "EvalReport":
            return _scores({name: score["mean"] for name, score in facts["scores"].items()})
        case "GateDecision":
            passed = sum(check["verdict"] == "PASS" for check in facts["checks"])
            return f"{facts['verdict']}, {passed} of {len(facts['checks'])} checks passed"
        case "Release":
            return _scores(facts["scores"])
    return ""


def _scores(scores: Mapping[str, float | None], shown: int = 3) -> str:
    parts = [f"{name} {'unmeasured' if mean is None else f'{mean:.3f}'}" for name, mean in scores.items()]
    more = f" +{len(parts) - shown}" if len(parts) > shown else ""
    return ", ".join(parts[:shown]) + more


def count(number: float) -> str:
    """1234 -> '1,234'; from a million on '1.23 M'."""
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number:,.0f}"


def size(number: float) -> str:
    """900 -> '900 bytes'; 7148811 -> '7.1 MB'."""
    for unit, bytes_of_it in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= bytes_of_it:
            return f"{number / bytes_of_it:.1f}\N{NO-BREAK SPACE}{unit}"
    return f"{number:.0f}\N{NO-BREAK SPACE}bytes"


def duration(seconds: float) -> str:
    """0.4 -> '0.4 s'; 42 -> '42 s'; 75 -> '1:15'; 3700 -> '1:01:40'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
