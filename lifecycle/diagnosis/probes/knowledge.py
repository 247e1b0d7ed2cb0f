"""Knowledge: the base never read enough of what the model is asked about, and SFT cannot put that in."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise

from lifecycle.data.jsonl import load_rows
from lifecycle.diagnosis.probes.probe import Seen, higher_rate, knob, probe
from lifecycle.diagnosis.readings import Knob, between
from lifecycle.diagnosis.records import PLATEAU, SHORT, Records

BITS = "bits_per_byte/"
TOKENS_A_WEIGHT = 0.75  # with so many the fault bench's base learns the contract; the tiny recipe's has 1.6
NO_TEXT = "expected documents of every source"  # of the corpus stage's refusal
FEW_PAIRS, MOST_WORDS = 4_000, 20_000  # of a source: fewer hardly repeat, more only take longer
MOST_ROWS = 200_000  # of the training text: a second of reading, however large the corpus is


@probe("knowledge")
def bits_per_byte(run: Records) -> Seen | str:
    """Bits per byte of held-out text over those of an interpolated bigram that was counted on the same training text.

    A model that reads no further than the last token reaches 1 (Chen and Goodman 1999 for the bigram). The shipped tiny
    recipe ends at .83 overall and .91 at its worst source (docs/learning.md). The fault bench's healthy base, trained
    for a fifth of that, ends at 1.05 and learns the contract all the same: more than 1.1 is short of reading.
    """
    if run.report is None or "pretrain" not in run.manifests:
        return "needs a base trained here and an evaluation, for the bigram counted on its training text"
    last = {
        name.removeprefix(BITS): value
        for row in run.validations("pretrain")
        for name, value in row.items()
        if name.startswith(BITS)
    }
    counted = {source: run.report.baselines.get(f"bigram_bits_per_byte.{source}") for source in last}
    ratios = {source: last[source] / bigram for source, bigram in counted.items() if bigram}
    if not ratios:
        return "the base was not validated by source, or no source has a bigram to compare with"
    worst = max(ratios, key=ratios.__getitem__)
    mean = sum(ratios.values()) / len(ratios)
    steps = run.manifests["pretrain"].facts["steps"]
    return Seen(
        strength=between(mean, 1.1, 1.4),
        says=f"held-out text costs the base {mean:.2f} of what a bigram pays, {ratios[worst]:.2f} on {worst} "
        f"({last[worst]:.2f} bits per byte)",
        seen="pretrain",
        source=f"{run.source('pretrain')}, step {steps}",
        stage="pretrain",
        refuted_by="a base below .95 of the bigram on the text the questions are about that answers no better",
        knobs=(
            *higher_rate(run, "pretrain"),
            _longer(run),
            knob(run, "corpus", f"add text like {worst}, or let less of it be dropped"),
        ),
    )


@probe("knowledge")
def learned_nothing(run: Records) -> Seen | str:
    """Pretraining that the watchdog ended because nothing was learned but how often each token comes."""
    failed = run.state == "FAILED" and run.ended_in == "pretrain"
    if not failed and "pretrain" not in run.manifests:
        return "the run has no base of its own, and was not ended while it made one"
    return Seen(
        strength=1.0 if failed and PLATEAU in run.message else 0.0,
        says=f"the run was ended with: {run.message}" if failed else "pretraining went on to its end",
        seen="pretrain",
        source="run.json",
        stage="pretrain",
        refuted_by="the same base at a rate that suits its size, ended by the same rule",
        knobs=higher_rate(run, "pretrain"),
    )


@probe("knowledge")
def corpus_kept(run: Records) -> Seen | str:
    """Share of the raw documents that no filter dropped.

    FineWeb keeps 15 % of crawled text (Penedo et al. 2024); curated sources lose little. The threshold is on the worst
    source: a rule made for prose silently empties one of another form. One that is empty ends the run.
    """
    if run.state == "FAILED" and run.ended_in == "corpus" and NO_TEXT in run.message:
        return Seen(
            strength=1.0,
            says=f"the run was ended with: {run.message}",
            seen="corpus",
            source="run.json",
            stage="corpus",
            refuted_by="the same filters on more text of these sources",
            knobs=(knob(run, "corpus", "loosen the rule that empties them: the message counts what each dropped"),),
        )
    if "corpus" not in run.manifests:
        return "no corpus was made here"
    sources = run.manifests["corpus"].facts["sources"]
    shares = {name: counts["kept"] / counts["read"] for name, counts in sources.items() if counts["read"]}
    if not shares:
        return "the corpus counted no documents"
    worst = min(shares, key=shares.__getitem__)
    return Seen(
        strength=between(shares[worst], 0.4, 0.05),
        says=f"of {worst} {shares[worst]:.0%} of the documents were kept, of a source on average "
        f"{sum(shares.values()) / len(shares):.0%}",
        seen="corpus",
        source=run.source("corpus"),
        stage="corpus",
        refuted_by="`python -m lifecycle show corpus --dropped` shows that what was dropped is rubbish",
        knobs=(knob(run, "corpus", f"loosen the rule that empties {worst}: `show corpus --dropped` names it"),),
    )


@probe("knowledge")
def words_in_order(run: Records) -> Seen | str:
    """Different pairs of neighbouring words in the training text, over those when each text's words are shuffled.

    In language pairs recur (Shannon 1951, "Prediction and entropy of printed English", section 1): over 20,000 words
    the shipped sources have .72 to .94 of the pairs that chance has. A column read across, a bag of words or a broken
    export has 1: nothing in it says what comes next, and bits per byte stand beside a bigram counted on the same.
    """
    if "corpus" not in run.folders:
        return "no corpus was made here"
    ratios = {}
    for source, texts in _texts_by_source(run).items():
        drawn = random.Random(0)
        words, by_chance = (sum(map(len, texts)), _pairs([drawn.sample(text, len(text)) for text in texts]))
        if by_chance >= FEW_PAIRS:  # one JSON object without blanks is one word
            ratios[source] = (_pairs(texts) / by_chance, words)
    if not ratios:
        return f"no source has {FEW_PAIRS} different pairs of words"
    total = sum(words for _, words in ratios.values())
    mean = sum(ratio * words for ratio, words in ratios.values()) / total
    worst = max(ratios, key=lambda source: ratios[source][0])
    return Seen(
        strength=between(mean, 0.96, 0.995),
        says=f"the text has {mean:.3f} of the pairs of words that chance would make, {worst} {ratios[worst][0]:.3f}",
        seen="corpus",
        source=f"{run.source('corpus')}, {', '.join(ratios)}: up to {MOST_WORDS} words each",
        stage="corpus",
        refuted_by="texts that a person can read: `python -m lifecycle show corpus`",
        knobs=(knob(run, "corpus", f"read {worst} again from where it came from: its words are in no order"),),
    )


@probe("knowledge")
def words_of_the_questions(run: Records) -> Seen | str:
    """Bytes a token carries in the questions, over what it carries in the training text.

    A vocabulary learned without the questions' kind of text cuts their words into pieces it has rarely seen
    (Rust et al. 2021, "How good is your tokenizer?", section 4: fertility). 1.09 in the fault bench's healthy run; .75
    and .70 where the corpus has nothing like the questions, whose conversations then no longer fit into their rows.
    """
    if "corpus" not in run.folders or "suites" not in run.folders or "tokenizer" not in run.folders:
        return "needs a corpus and a tokenizer made here, and suites"
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(run.folders["tokenizer"] / "tokenizer.json"))
    texts = [row["text"] for row in load_rows(run.folders["corpus"] / "validation.jsonl")][:200]
    questions = [
        message["content"]
        for name in run.manifests["suites"].facts["items"]
        for row in run.suite(name)[:200]
        for message in row.get("messages", [])
        if isinstance(message.get("content"), str)
    ]
    if not texts or not questions:
        return "no validation text, or no suite whose items are conversations"
    theirs, ours = (
        sum(len(text.encode()) for text in some) / sum(len(each.ids) for each in tokenizer.encode_batch(some))
        for some in (questions, texts)
    )
    digest = run.manifests["tokenizer"].digest[:SHORT]
    return Seen(
        strength=between(theirs / ours, 0.95, 0.75),
        says=f"a token carries {theirs:.2f} bytes of the questions and {ours:.2f} of the training text",
        seen="tokenizer",
        source=f"tokenizer {digest}, 200 rows of each",
        stage="corpus",
        refuted_by="a tokenizer trained with such text that changes nothing",
        knobs=(knob(run, "corpus", "add text like the questions to the corpus, so that the vocabulary has its words"),),
    )


def _texts_by_source(run: Records) -> dict[str, list[list[str]]]:
    """Words of the first texts of each source, as far as MOST_WORDS goes."""
    texts: dict[str, list[list[str]]] = {}
    read: Counter[str] = Counter()
    for row in islice(load_rows(run.folders["corpus"] / "train.jsonl"), MOST_ROWS):
        if read[row["source"]] < MOST_WORDS:
            words = row["text"].split()
            texts.setdefault(row["source"], []).append(words)
            read[row["source"]] += len(words)
    return texts


def _pairs(texts: Sequence[Sequence[str]]) -> int:
    return len({pair for text in texts for pair in pairwise(text)})


def _longer(run: Records) -> Knob:
    """Twice as long, and at least as long as bases of this size were seen to need."""
    facts, horizon = run.manifests["pretrain"].facts, run.config("pretrain").get("horizon", {})
    wanted = TOKENS_A_WEIGHT * facts.get("parameters", 0)
    times = max(2, math.ceil(wanted / max(1, facts.get("tokens_seen", wanted))))
    settings = [f"pretrain.horizon.{name}={times * value}" for name, value in horizon.items() if isinstance(value, int)]
    return knob(run, "pretrain", f"train the base {times} times as long", *settings, times=times)
