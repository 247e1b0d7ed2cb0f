"""What a reader of a data card should look at: losses, shortfalls, and steps that were off. Silence is never proof."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from lifecycle.data.corpus_report import StepName
from lifecycle.report.data_card import DataCard, SourceLine
from lifecycle.report.reasons import meaning
from lifecycle.report.words import percent

LOST = 0.5  # of a source: more than half of it is gone
ONE_RULE = 0.25  # of a source, dropped by one rule: the rule may be wrong for this text
BAD_ROWS = 0.001
# Up to four epochs repeated text is nearly worth new text, from there on less and less (Muennighoff et al. 2023,
# "Scaling Data-Constrained Language Models", https://arxiv.org/abs/2305.16264, section 5).
EPOCHS = 4.0
LARGE_CLUSTER = 0.01  # of all documents, in one cluster: a template, not copies
FEW_HELD_OUT = 0.5  # of the validation documents asked for

OFF: dict[StepName, str] = {
    "language": "Language identification is off: which languages the text is in is not known.",
    "quality": "The quality rules are off: nothing kept menus, lists and gibberish out.",
    "scrub": "Scrubbing is off: personal data was not looked for, so nothing is known of it. That none is counted "
    "here does not mean that none is there.",
    "exact_duplicates": "Exact deduplication is off: the same document may be in the corpus many times.",
    "near_duplicates": "Near-deduplication is off: almost equal documents may be in the corpus, and on both sides of "
    "the validation split.",
}


class Notice(NamedTuple):
    """A thing to look at: `bad` where text was lost or a wish missed, `open` where something is not known."""

    tone: Literal["bad", "open"]
    text: str


def notices(card: DataCard) -> list[Notice]:
    """Losses first, then what is not known."""
    found = [*_losses(card), *_mixture(card), *_rows(card), *_held_out(card), *_unknown(card)]
    return sorted(found, key=lambda notice: notice.tone)


def _losses(card: DataCard) -> Iterator[Notice]:
    for source in card.sources:
        first = source.first_reason
        most = source.dropped.get(first, 0)
        why = f"{most:,} of them {first}" + (f" ({said})" if (said := meaning(first)) else "")
        gone = source.read.documents - source.clean.documents
        if source.lost_share > LOST:
            share = percent(source.lost_share)
            yield Notice("bad", f"{source.name} lost {share} of its documents ({gone:,}), {why}.")
        elif most > ONE_RULE * source.read.documents:
            share = percent(most / source.read.documents)
            yield Notice("bad", f"One rule dropped {share} of {source.name}: {why}. It may be wrong for this text.")
        elif source.lost_bytes_share > LOST:
            share, stayed = percent(source.lost_bytes_share), percent(1 - source.lost_share)
            said = f"{source.name} lost {share} of its bytes, though {stayed} of its documents stayed"
            yield Notice("bad", f"{said}: lines were taken out, or the long documents went.")
        if (bad := _bad_rows(source)) > BAD_ROWS * source.read.documents:
            yield Notice("open", f"{bad:,} of {source.read.documents:,} rows of {source.name} were no documents.")
        if fault := fault_of_licence(source.licence):
            yield Notice("open", f"The licence of {source.name}, {source.licence}, {fault}.")


def _mixture(card: DataCard) -> Iterator[Notice]:
    for sentence in card.report.mixture.shortfalls:
        yield Notice("bad", sentence)
    for name, share in card.report.mixture.sources.items():
        if share.epochs > EPOCHS:
            said = f"{name} is repeated {share.epochs:.1f} times; beyond {EPOCHS:g} a repetition teaches less and less"
            yield Notice("open", f"{said} (Muennighoff et al. 2023).")


def _rows(card: DataCard) -> Iterator[Notice]:
    near, documents = card.report.near_duplicates, card.read.documents
    largest = max(near.cluster_sizes, default=0) if near else 0
    if largest > max(10, LARGE_CLUSTER * documents):
        said = f"The largest cluster of near-duplicates has {largest:,} documents: a template rather than copies"
        yield Notice("open", f"{said}. Look at the examples of duplicate_near.")


def _held_out(card: DataCard) -> Iterator[Notice]:
    found = card.report.decontamination
    if sum(found.items_found.values()):
        suites = ", ".join(f"{count:,} of {suite}" for suite, count in found.items_found.items() if count)
        yield Notice("open", f"Evaluation items occurred in the raw text: {suites}. The documents were dropped.")
    if found.items_without_a_distinctive_ngram:
        said = f"{found.items_without_a_distinctive_ngram:,} of {found.items:,} evaluation items have no run of words "
        yield Notice("open", f"{said}of their own: text that holds them cannot be told from ordinary text.")
    for name, held_out in card.report.validation.items():
        if held_out.documents < FEW_HELD_OUT * held_out.asked_documents:
            said = f"{held_out.documents:,} of {held_out.asked_documents:,} validation documents asked for"
            yield Notice("open", f"{name} gave {said}: more would have split a cluster of near-duplicates.")


def _unknown(card: DataCard) -> Iterator[Notice]:
    for step in card.off:
        if step in OFF:
            yield Notice("open", OFF[step])
    if card.keeps_near_duplicates:
        yield Notice("open", "Near-duplicates are kept, as asked: they only stay on one side of the validation split.")


def _bad_rows(source: SourceLine) -> int:
    return sum(count for reason, count in source.dropped.items() if reason.startswith("row_"))


def fault_of_licence(licence: str) -> str:
    """What a licence forbids, or that it says nothing."""
    words = licence.lower().replace("_", "-").split("-")
    if licence.strip().lower() in ("unknown", "none", "noassertion", "unstated", "other", "?"):
        return "says nothing: find out before anything made from it is released"
    if "nc" in words or "noncommercial" in words:
        return "forbids commercial use"
    return "forbids derived works" if "nd" in words else ""
