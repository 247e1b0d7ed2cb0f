"""Which chat templates of known model families are proven, and which law the others break?

    python -m benchmarks.templates        # prints the table of docs/protocol.md; a minute

The templates are those that the installed TRL ships. A family's own tokenizer is judged when it is adopted: here a
template stands alone, with what looks like a special token in it as the special tokens.
"""

import importlib.util
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from lifecycle.chat.prove import Unproven, structure_of

ACCEPTED, TRAINING = "accepted", "_training"
VARIABLES = {"bos_token": "<bos>", "eos_token": "<eos>"}


def folder() -> Path:
    """Where TRL keeps its templates, found without importing it."""
    found = importlib.util.find_spec("trl")
    assert found is not None, "pip install trl"
    assert found.origin is not None
    return Path(found.origin).parent / "chat_templates"


def specials_in(template: str) -> list[str]:
    """What looks like a special token in a template."""
    found = re.findall(r"<\|?[A-Za-z_]+\|?>|<｜[^｜]+｜>", template)
    tokens = {token for token in found if "|" in token or "｜" in token or "of_turn" in token}
    return [*sorted(tokens), *VARIABLES.values()]


def verdict(template: str) -> str:
    """`accepted`, with or without calls and definitions of tools, or the law that is broken."""
    try:
        structure = structure_of(template, VARIABLES, specials_in(template))
    except Unproven as refused:
        return refused.predicate
    if structure.definition:
        return ACCEPTED
    return f"{ACCEPTED}, but for definitions of tools" if structure.call else f"{ACCEPTED}, but for tools"


def families(stems: Iterable[str]) -> str:
    """The names of templates, a training variant of the same verdict beside its original."""
    names = set(stems)
    first = sorted(names - {f"{name}{TRAINING}" for name in names})
    return ", ".join(f"{name}[{TRAINING}]" if f"{name}{TRAINING}" in names else name for name in first)


def main() -> None:
    """Print a row a verdict, with the templates it is about."""
    verdicts: dict[str, list[str]] = defaultdict(list)
    for file in sorted(folder().glob("*.jinja")):
        verdicts[verdict(file.read_text(encoding="utf-8"))].append(file.stem)
        print(".", end="", file=sys.stderr, flush=True)
    accepted = sum(len(stems) for said, stems in verdicts.items() if said.startswith(ACCEPTED))
    print(f"{accepted} of {sum(map(len, verdicts.values()))} templates of TRL {version('trl')} are accepted.\n")
    print("| verdict | | templates |\n|---|---:|---|")
    for said, stems in sorted(verdicts.items()):
        law = "" if said.startswith(ACCEPTED) else "refused: "
        print(f"| {law}{said} | {len(stems)} | {families(stems)} |")


if __name__ == "__main__":
    main()
