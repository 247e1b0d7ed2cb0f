"""Knowledge: the base never read enough of what the model is asked about, and SFT cannot put that in."""

from lifecycle.diagnosis.probes.probe import Seen, higher_rate, knob, probe
from lifecycle.diagnosis.readings import between
from lifecycle.diagnosis.records import SHORT, Records

BITS = "bits_per_byte/"


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
            knob(run, "pretrain", "train the base twice as long", *_longer(run), times=2.0),
            knob(run, "corpus", f"add text like {worst}, or let less of it be dropped"),
        ),
    )


@probe("knowledge")
def corpus_kept(run: Records) -> Seen | str:
    """Share of the raw documents that no filter dropped.

    FineWeb keeps 15 % of crawled text (Penedo et al. 2024); curated sources lose little. The threshold is on the worst
    source: a rule made for prose silently empties one of another form.
    """
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
def words_of_the_questions(run: Records) -> Seen | str:
    """Bytes a token carries in the questions, over what it carries in the training text.

    A vocabulary learned without the questions' kind of text cuts their words into pieces it has rarely seen
    (Rust et al. 2021, "How good is your tokenizer?", section 4: fertility).
    """
    if "corpus" not in run.folders or "suites" not in run.folders or "tokenizer" not in run.folders:
        return "needs a corpus and a tokenizer made here, and suites"
    from tokenizers import Tokenizer

    from lifecycle.data.jsonl import load_rows

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
        strength=between(theirs / ours, 0.75, 0.4),
        says=f"a token carries {theirs:.2f} bytes of the questions and {ours:.2f} of the training text",
        seen="tokenizer",
        source=f"tokenizer {digest}, 200 rows of each",
        stage="corpus",
        refuted_by="a tokenizer trained with such text that changes nothing",
        knobs=(knob(run, "corpus", "add text like the questions to the corpus, so that the vocabulary has its words"),),
    )


def _longer(run: Records) -> tuple[str, ...]:
    horizon = run.config("pretrain").get("horizon", {})
    return tuple(f"pretrain.horizon.{name}={2 * value}" for name, value in horizon.items() if isinstance(value, int))
