"""`show` and `report` of a corpus, a tokenizer or demonstrations: on the terminal, for a program, or as a page."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from lifecycle.errors import InputError
from lifecycle.report import data_card_screens as screens
from lifecycle.report.data_card import card_of
from lifecycle.runs import Run, all_runs, find_run
from lifecycle.sealing import MANIFEST, write_atomically
from lifecycle.store import Store

KINDS = {"corpus": "Corpus", "tokenizer": "Tokenizer", "demonstrations": "Demonstrations", "comparisons": "Comparisons"}


def show_corpus(store: Store, name: str | None, *, dropped: str | None, as_json: bool) -> None:
    """Print a corpus; with `dropped`, the examples of a reason, or every reason where it is empty."""
    folder = folder_of(store, "corpus", name)
    card = card_of(folder)
    if as_json:
        return _print_json(screens.corpus_data(card, dropped))
    if dropped is None:
        _print(screens.corpus_screen(card))
        where = " ".join(["python -m lifecycle show corpus", *([name] if name else []), "--dropped REASON"])
        return _print(f"\nexamples: {where}\nfolder:   {folder}", soft_wrap=True)
    return _print(screens.examples_screen(card, dropped) if dropped else screens.reasons_screen(card))


def show_tokenizer(store: Store, name: str | None, *, as_json: bool) -> None:
    """Print how a tokenizer fits its corpus."""
    from lifecycle.report.tokenizer_card import tokenizer_card, tokenizer_screen  # numpy: a corpus must not wait for it

    card = tokenizer_card(folder_of(store, "tokenizer", name))
    if as_json:
        return _print_json({"path": str(card.tokenizer.path), **card.tokenizer.facts(), "fit": card.fit.model_dump()})
    return _print(tokenizer_screen(card))


def show_demonstrations(store: Store, name: str | None, *, dropped: str | None, as_json: bool) -> None:
    """Print demonstrations; with `dropped`, the examples of a reason, or every reason where it is empty."""
    from lifecycle.report import demonstrations_card_shown as shown
    from lifecycle.report.demonstrations_card import card_of

    folder = folder_of(store, "demonstrations", name)
    card = card_of(folder)
    if as_json:
        return _print_json(shown.as_data(card, dropped))
    if dropped is None:
        _print(shown.screen(card))
        where = " ".join(["python -m lifecycle show demonstrations", *([name] if name else []), "--dropped REASON"])
        return _print(f"\nexamples: {where}\nfolder:   {folder}", soft_wrap=True)
    return _print(screens.examples_screen(card, dropped) if dropped else screens.reasons_screen(card))


def show_comparisons(store: Store, name: str | None, *, as_json: bool) -> None:
    """Print comparisons: where pairs come from, and whether something shallow decides them."""
    from lifecycle.report import comparisons_card as shown

    folder = folder_of(store, "comparisons", name)
    card = shown.card_of(folder)
    if as_json:
        return _print_json(shown.as_data(card))
    _print(shown.screen(card))
    return _print(f"\nfolder:   {folder}", soft_wrap=True)


def report_demonstrations(store: Store, name: str | None, out: str | None) -> None:
    """Write the page of demonstrations."""
    from lifecycle.report.demonstrations_card import card_of
    from lifecycle.report.demonstrations_card_shown import page

    _write_page(store, "demonstrations", name, out, lambda folder, **told: page(card_of(folder), **told))


def report_comparisons(store: Store, name: str | None, out: str | None) -> None:
    """Write the page of comparisons."""
    from lifecycle.report.comparisons_card import card_of
    from lifecycle.report.comparisons_card_page import page  # jinja2

    _write_page(store, "comparisons", name, out, lambda folder, **told: page(card_of(folder), **told))


def report_corpus(store: Store, name: str | None, out: str | None) -> None:
    """Write the data card beside the run's record, or as the file asked for, and say where it is."""
    from lifecycle.report.data_card_page import write_cards  # jinja2, and what the tokenizer's part needs

    run = run_with(store, "corpus", name)
    write_cards(run, *([Path(out)] if out else []))
    print(out or run.data_card)


def folder_of(store: Store, what: str, name: str | None) -> Path:
    """Where the artifact lies: that of a run, or the folder that the name is."""
    if name is not None and (Path(name) / MANIFEST).is_file():
        return Path(name)
    stages = run_with(store, what, name).stages
    return next(Path(stage.path) for stage in reversed(stages) if stage.kind == KINDS[what])


def run_with(store: Store, what: str, name: str | None) -> Run:
    """The run of this name, which must have such an artifact; without a name the newest run that has."""
    runs = all_runs(store) if name is None else [find_run(store, name)]
    for run in runs:
        if any(stage.kind == KINDS[what] for stage in run.stages):
            return run
    where = f"in run {name}: it ended before" if name else f"in any run of {store.root}"
    raise InputError(f"expected a run with a {what}, found none {where}. `python -m lifecycle show` lists the runs.")


def _write_page(store: Store, what: str, name: str | None, out: str | None, page_of: Callable[..., str]) -> None:
    """Write a page beside the run's record, or as the file asked for, and say where it is."""
    run = run_with(store, what, name)
    command = f"python -m lifecycle {shlex.join(['report', what, run.name])}"
    to = Path(out) if out else run.folder / f"{what}.html"
    write_atomically(to, page_of(folder_of(store, what, run.name), name=run.name, command=command).encode())
    print(to)


def _print(shown: RenderableType, *, soft_wrap: bool = False) -> None:
    Console(highlight=False, markup=False).print(shown, soft_wrap=soft_wrap)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1), flush=True)
