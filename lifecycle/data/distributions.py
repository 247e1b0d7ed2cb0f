"""How documents are distributed, kept and dropped: what the shards counted, with what the catalogue knows."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lifecycle.data.catalogue import Catalogue
from lifecycle.data.cleaning import ShardSummary
from lifecycle.data.corpus_report import Histogram, StepName, Tally
from lifecycle.data.histograms import LENGTH_EDGES, SCORE_EDGES, count_lengths, count_scores


class Distributions:
    """Source -> counts, of each kind; nothing for a step that was off."""

    def __init__(self, catalogue: Catalogue, sources: Sequence[str], summaries: Sequence[ShardSummary]) -> None:
        self.catalogue, self.sources = catalogue, sources
        self.shards = {name: [summary for summary in summaries if summary.source == name] for name in sources}

    def lengths(self) -> dict[str, Histogram]:
        """Characters; rows that were no documents are not among them."""
        found = {}
        for number, source in enumerate(self.sources):
            before = np.sum([shard.dropped_lengths for shard in self.shards[source]], axis=0)
            kept, dropped = (self.catalogue.of_source(number, is_in=is_in) for is_in in (True, False))
            found[source] = Histogram(
                edges=LENGTH_EDGES,
                kept=count_lengths(self.catalogue.characters[kept]).tolist(),
                dropped=(before + count_lengths(self.catalogue.characters[dropped])).tolist(),
            )
        return found

    def scores(self) -> dict[str, dict[str, Histogram]]:
        """Of the language found in it, by probability."""
        found = {}
        for number, source in enumerate(self.sources):
            before = np.sum([shard.dropped_scores for shard in self.shards[source]], axis=0)
            kept, dropped = (self.catalogue.of_source(number, is_in=is_in) for is_in in (True, False))
            found[source] = Histogram(
                edges=SCORE_EDGES,
                kept=count_scores(self.catalogue.scores[kept]).tolist(),
                dropped=(before + count_scores(self.catalogue.scores[dropped])).tolist(),
            )
        return {"language": found} if any(any(score.kept + score.dropped) for score in found.values()) else {}

    def languages(self) -> dict[str, dict[str, Tally]]:
        """Language found -> documents, the largest first."""
        found = {}
        for source, shards in self.shards.items():
            counts: dict[str, Tally] = {}
            for code, tally in (entry for shard in shards for entry in shard.languages.items()):
                counts[code] = counts.get(code, Tally()) + tally
            if counts:
                found[source] = dict(sorted(counts.items(), key=lambda count: (-count[1].bytes, count[0])))
        return found

    def changes(self, step: StepName) -> dict[str, dict[str, int]]:
        """Kind -> how often the step changed a text so."""
        found: dict[str, Counter[str]] = {source: Counter() for source in self.sources}
        for source, shards in self.shards.items():
            for shard in shards:
                found[source].update(shard.changes.get(step, {}))
        return {source: dict(sorted(counts.items())) for source, counts in found.items() if counts}
