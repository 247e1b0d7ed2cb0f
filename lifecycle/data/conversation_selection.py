"""The steps of curating conversations that look at all rows at once. They look at numbers; texts stay in files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lifecycle import progress
from lifecycle.data import duplicates
from lifecycle.data.catalogue import Catalogue
from lifecycle.data.clusters import flatten, join_pairs
from lifecycle.data.conversation_rows import BY_NGRAM, BY_PROMPT, Gathered, Gathering, RowRules
from lifecycle.data.conversation_sources import BadRow, ConversationSource, Reading
from lifecycle.data.corpus_report import Decontamination, Duplicates, Histogram
from lifecycle.data.decontaminate import HeldOut
from lifecycle.data.dedup import first_copies
from lifecycle.data.demonstrations_report import DemonstrationsReport, HeldOutRows, RowMixtureFacts
from lifecycle.data.funnel import Funnel
from lifecycle.data.histograms import LENGTH_EDGES, count_lengths
from lifecycle.data.minhash import NearDuplicates
from lifecycle.data.selection import Selection
from lifecycle.data.sources.shards import SHARD_BYTES
from lifecycle.data.split import documents_asked, validation_split
from lifecycle.errors import InputError

I64 = NDArray[np.int64]
BYTES_PER_TASK = 256 * 2**20
SAMPLES_PER_REASON = 5
COPY = "duplicate"


class Body(NamedTuple):
    """A source under its name in counts, and what its rows are for."""

    source: ConversationSource
    label: str
    use: Literal["dev", "train", "both"]


class ConversationSelection:
    """All usable rows of all bodies, and which are still in. The methods are the steps, in their order."""

    selection: Selection
    gathered: Sequence[Gathered]
    prompts: NDArray[np.uint64]
    found: NDArray[np.uint8]
    item: NDArray[np.int32]

    def __init__(self, bodies: Sequence[Body], scratch: Path) -> None:
        self.bodies, self.scratch = bodies, scratch
        self.labels = [body.label for body in bodies]
        self.funnel = Funnel(self.labels, samples_per_reason=SAMPLES_PER_REASON)
        self.near: Duplicates | None = None
        self.item_names: list[str] = []

    def gather(self, rules: RowRules, *, seed: int) -> None:
        """Every source through the steps on single rows."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        gathered = []
        for number, body in enumerate(self.bodies):
            progress.report(number, len(self.bodies), "sources", body.label)
            gathering = Gathering(body.source, number, rules, self.funnel, label=body.label, seed=seed)
            gathered.append(gathering.gather(self.scratch, split="dev" if body.use == "dev" else "train"))
        self.gathered, self.item_names = gathered, rules.held_out.names
        self.catalogue = Catalogue([one.documents for one in gathered], self.scratch)
        self.selection = Selection(self.catalogue, self.labels, self.funnel)
        self.prompts = np.concatenate([one.prompts for one in gathered])
        self.found = np.concatenate([one.found for one in gathered])
        self.item = np.concatenate([one.item for one in gathered])
        self.cluster = np.arange(len(self.catalogue))
        self.is_dev = np.zeros(len(self.catalogue), bool)

    def drop_repeated_ids(self) -> None:
        """Of a source's rows with the same id the first stays."""
        self.repeated = duplicates.drop_repeated_ids(self.selection)

    def refuse_if_broken(self, max_bad_row_share: float) -> None:
        """Raise where too many rows of a source are no conversation, or have an id already seen."""
        for label, one in zip(self.labels, self.gathered, strict=True):
            dropped = self.funnel.dropped(label)
            faults = Counter({reason: count for reason, count in dropped.items() if reason.startswith("row_")})
            first = one.first_bad or self.repeated.get(label, "")
            refuse_if_broken(faults, self.funnel.read(label), first, label, max_bad_row_share=max_bad_row_share)

    def drop_copies(self, near: NearDuplicates | None) -> None:
        """Of rows with the same prompt and answer the first stays; if asked, of nearly equal rows as well."""
        first = duplicates.find_copies(self.selection, drop=True, reason=COPY)
        self.cluster = first
        if near is not None:
            self.cluster, self.near = duplicates.find_near_copies(
                self.selection,
                first,
                near,
                drop=True,
                longest=False,
                scratch=self.scratch / "near_duplicates",
                shard_bytes=SHARD_BYTES,
                bytes_per_task=BYTES_PER_TASK,
            )

    def drop_held_out_items(self) -> None:
        """Rows that ask what an evaluation item asks, or share words with one."""
        reasons = {"contaminated_prompt": BY_PROMPT, "contaminated_ngram": BY_NGRAM}
        rows = {reason: np.flatnonzero((self.found == by) & self.catalogue.is_in) for reason, by in reasons.items()}
        shares = {BY_PROMPT: "asks what is asked in", BY_NGRAM: "shares words with"}
        self.selection.drop_each(
            "decontamination", rows, lambda row: f"{shares[int(self.found[row])]} {self.item_names[self.item[row]]}"
        )

    def hold_out(self, share: float) -> None:
        """Rows to watch the loss on: the dev file's, and a share of each source that has none of its own.

        Equal prompts and near-copies stay on one side; what the dev file asks is dropped from training.
        """
        dev, both = self._rows_for("dev"), self._rows_for("both")
        self.is_dev[dev] = True
        prompts = np.concatenate([self.prompts[dev], self.prompts])
        is_asked = first_copies(prompts)[len(dev) :] < len(dev)
        self.selection.drop(
            "held_out_prompts",
            "prompt_is_held_out_from_training",
            np.flatnonzero(is_asked & self.catalogue.is_in & ~self.is_dev),
            lambda _: "the dev file asks the same",
        )
        both = both[self.catalogue.is_in[both]]
        self.asked: Mapping[str, int] = {}
        if len(both):
            join_pairs(self.cluster, both, both[first_copies(self.prompts[both])])
            flatten(self.cluster)
            sources = self.catalogue.source_of[both]
            places, cluster = self.catalogue.places[both], self.cluster[both]
            self.is_dev[both] = validation_split(places, sources, cluster, share=share)
            counts = documents_asked(np.bincount(sources, minlength=len(self.bodies)), share)
            self.asked = dict(zip(self.labels, counts.tolist(), strict=True))

    def to_train_on(self) -> list[tuple[ConversationSource, I64]]:
        """Each source that is trained on, with its rows that are in and not held out."""
        of_body = ((number, body) for number, body in enumerate(self.bodies) if body.use != "dev")
        own = [(body.source, self.catalogue.of_source(number)) for number, body in of_body]
        return [(source, rows[~self.is_dev[rows]]) for source, rows in own]

    def refuse_if_empty(self) -> None:
        """Raise where a source has nothing left."""
        trained_on = {source.name: rows for source, rows in self.to_train_on()}
        for number, body in enumerate(self.bodies):
            rows = self.catalogue.of_source(number) if body.use == "dev" else trained_on[body.source.name]
            if not len(rows):
                raise InputError(
                    f"{_place(body.source)}:1: expected rows to keep, found {self.funnel.read(body.label)} and dropped "
                    f"all: {self.funnel.dropped(body.label)}. It may be the held-out file itself; check the paths in "
                    "the recipe."
                )
        if not self.is_dev.any():
            raise InputError(
                "expected rows to watch the loss on, found none. Raise dev_share, or name a dev file:\n"
                f"{self.funnel.table()}"
            )

    def write(self, file: Path, repeats: NDArray[np.unsignedinteger]) -> None:
        """Write rows as they are trained on; what comes again comes after all that came once."""
        with file.open("wb") as out:
            for time in range(int(repeats.max())):
                for number, one in enumerate(self.gathered):
                    low, high = self.catalogue.starts[number : number + 2]
                    one.rows.copy(repeats[low:high] > time, out)

    def report(self, held_out: HeldOut, mixture: RowMixtureFacts) -> DemonstrationsReport:
        """What was read, dropped and kept."""
        found = np.unique(self.item[self.found != 0])
        suites = Counter(self.item_names[at].partition("/")[0] for at in found)
        kept_dev = {
            body.label: int(self.is_dev[self.catalogue.of_source(number)].sum())
            for number, body in enumerate(self.bodies)
        }
        return DemonstrationsReport(
            steps=self.funnel.report(),
            kinds={label: one.kinds for label, one in zip(self.labels, self.gathered, strict=True)},
            lengths={label: self._lengths(number) for number, label in enumerate(self.labels)},
            languages={
                label: dict(sorted(one.languages.items(), key=lambda count: (-count[1].documents, count[0])))
                for label, one in zip(self.labels, self.gathered, strict=True)
                if one.languages
            },
            near_duplicates=self.near,
            decontamination=Decontamination(**held_out.facts, items_found=dict(sorted(suites.items()))),
            mixture=mixture,
            held_out={
                body.label: HeldOutRows(
                    asked_rows=self.asked.get(body.label, kept_dev[body.label]), rows=kept_dev[body.label]
                )
                for body in self.bodies
                if body.use != "train"
            },
        )

    def _rows_for(self, use: str) -> I64:
        rows = [self.catalogue.of_source(number) for number, body in enumerate(self.bodies) if body.use == use]
        return np.concatenate([np.empty(0, np.int64), *rows])

    def _lengths(self, number: int) -> Histogram:
        kept, dropped = (self.catalogue.of_source(number, is_in=is_in) for is_in in (True, False))
        before = self.gathered[number].dropped_lengths
        return Histogram(
            edges=LENGTH_EDGES,
            kept=count_lengths(self.catalogue.characters[kept]).tolist(),
            dropped=(before + count_lengths(self.catalogue.characters[dropped])).tolist(),
        )


def bad_rows_of(source: ConversationSource) -> tuple[Counter[str], int, str, str]:
    """Unusable rows by reason, all rows, the first bad one, and the source's name."""
    faults, total, first = Counter[str](), 0, ""
    for row in Reading(source):
        total += 1
        if isinstance(row, BadRow):
            faults[row.fault] += 1
            first = first or f"{row.where}: {row.fault} in {row.excerpt!r}"
    return faults, total, first, source.name


def refuse_if_broken(faults: Counter[str], total: int, first: str, name: str, *, max_bad_row_share: float) -> None:
    """Raise InputError where more rows of a source are unusable than allowed."""
    bad = faults.total()
    if bad > max_bad_row_share * total:
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(faults.items()))
        raise InputError(
            f"{first}\nexpected at most {max_bad_row_share:.2%} bad rows in {name!r}, found {bad} of {total} "
            f"({counts}). Repair the file, or raise max_bad_row_share."
        )


def _place(source: ConversationSource) -> str:
    return str(source.path) if isinstance(source.path, Path) else source.name
