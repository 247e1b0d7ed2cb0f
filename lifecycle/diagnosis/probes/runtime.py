"""Memory and runtime: what was trained is not what was asked for, or nothing was."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

from lifecycle.diagnosis.probes.probe import Seen, knob, probe
from lifecycle.diagnosis.readings import Knob, between
from lifecycle.diagnosis.records import PLATEAU, Records

AROUND = 5  # losses on either side of a break
BREAK_SECONDS = 20.0
TOO_LONG = "longer_than_max_seq_len"
TRAINED = ("pretrain", "sft", "reward", "preference")

# What a failure's message says, and what is then the cheapest thing to do about it.
CAUSES = {
    "memory": (
        ("out of memory", "outofmemory", "cannot allocate", "can't allocate", "fit into memory", "sigkill", "signal 9"),
        "hold a quarter of the rows at once: slower, and the same numbers",
    ),
    "time": (
        ("sigxcpu", "cpu time", "time limit", "timelimit", "slurm: timeout"),
        "allow the stage more time: it goes on from its last checkpoint",
    ),
    "hang": (("no sign of life", "hung", "heartbeat", "silent"), "read the stacks in log/, and run on fewer ranks"),
    "divergence": (
        ("not finite", "diverged", "nan", "loss_is_zero", "worse_than_uniform", "divergence"),
        "a learning rate at which it does not diverge",
    ),
    "disk": (
        ("no space", "disk", "file too large", "quota", "errno 27", "errno 28", "errno 122"),
        "free the bytes the message names",
    ),
    "process": (("died", "exit code", "killed", "lost"), "read log/worker.log of the stage"),
}


@probe("runtime")
def how_it_ended(run: Records) -> Seen | str:
    """A run that failed, crashed or was preempted for a reason of the machine: memory, a hang, a loss that is NaN."""
    text = run.message.lower()
    cause = next((name for name, (words, _) in CAUSES.items() if any(word in text for word in words)), None)
    broken = run.state in ("FAILED", "CRASHED", "PREEMPTED") and PLATEAU not in text  # which is `learned_nothing`
    stage = run.ended_in or "pretrain"
    return Seen(
        strength=0.0 if not broken else 1.0 if cause else 0.3,
        says=f"the run ended {run.state}" + (f": {run.message}" if broken else ""),
        seen=stage,
        source="run.json",
        stage=stage,
        refuted_by="the same command on the same machine that runs through",
        knobs=_mend(run, stage, cause) if broken and cause else (),
    )


@probe("runtime")
def watchdog(run: Records) -> Seen | str:
    """What the watchdog had to do: batches skipped, steps rolled back, fp16 overflow, throughput that collapsed."""
    found = {stage: run.findings(stage) for stage in TRAINED if stage in run.folders}
    if not found:
        return "nothing was trained in this run"
    acted = [
        (stage, row)
        for stage, rows in found.items()
        for row in rows
        if row["action"] in ("roll_back", "abort", "restart")
    ]
    said = [(stage, row) for stage, rows in found.items() for row in rows]
    first = acted[0] if acted else said[0] if said else None
    return Seen(
        strength=between(len(acted), 0, 2),
        says=f"{len(acted)} times it acted, {len(said)} times it spoke"
        + (
            f"; first in {first[0]} at step {first[1]['step']}: {first[1]['rule']}, {first[1]['evidence']}"
            if first
            else ""
        ),
        seen=first[0] if first else "pretrain",
        source=", ".join(f"{run.source(stage)} log/findings.jsonl" for stage in found),
        stage=first[0] if first else "pretrain",
        refuted_by="a rerun without findings that scores the same",
        knobs=_mend(run, first[0], "divergence") if acted and first else (),
    )


@probe("runtime")
def loss_at_the_end(run: Records) -> Seen | str:
    """A loss that ends above where it began: training that destroyed what it started from. SFT has no watchdog."""
    curves = {stage: [loss for _, loss in run.curve(stage, "loss")] for stage in ("pretrain", "sft")}
    ratios = {
        stage: sum(losses[-3:]) / 3 / max(1e-9, losses[0]) for stage, losses in curves.items() if len(losses) >= 6
    }
    if not ratios:
        return "no stage logged enough losses"
    worst = max(ratios, key=ratios.__getitem__)
    first, last = curves[worst][0], sum(curves[worst][-3:]) / 3
    return Seen(
        strength=between(ratios[worst], 1.0, 1.3),
        says=f"the loss of {worst} goes from {first:.2f} to {last:.2f}",
        seen=worst,
        source=f"{run.source(worst)} log/metrics.jsonl",
        stage=worst,
        refuted_by="a lower rate, and the loss rises all the same",
        knobs=_mend(run, worst, "divergence") if ratios[worst] > 1 else (),
    )


@probe("runtime")
def rows_that_did_not_fit(run: Records) -> Seen | str:
    """Rows left out or cut because they are longer than the model's rows: training data that nobody trained on.

    Also where a contract refused so many. It is seen where it first shows: half as bad as at the worst stage is it too.
    """
    if run.state == "FAILED" and TOO_LONG in run.message:
        return Seen(
            strength=1.0,
            says=f"the run was ended with: {run.message}",
            seen=run.ended_in or "sft",
            source="run.json",
            stage="shards",
            refuted_by="rows that fit, and it is ended all the same",
            knobs=(knob(run, "shards", "rows twice as long", *_wider(run), times=2.0),),
        )
    shares = {}
    for stage in ("sft", "preference"):
        if stage not in run.manifests:
            continue
        facts = run.manifests[stage].facts
        lost = sum(facts.get("dropped", {}).values()) + facts.get("cut_rows", 0)
        of = {"sft": ("demonstrations", "train_rows"), "preference": ("comparisons", "train_pairs")}[stage]
        rows = run.manifests[of[0]].facts[of[1]] if of[0] in run.manifests else 0
        shares[stage] = (lost, rows)
    if not any(rows for _, rows in shares.values()):
        return "no stage counted rows that are too long"
    share = {stage: lost / max(1, rows) for stage, (lost, rows) in shares.items()}
    worst = next(stage for stage in shares if share[stage] >= max(share.values()) / 2)
    lost, rows = shares[worst]
    return Seen(
        strength=between(share[worst], 0.02, 0.3),
        says=f"{lost} of {rows} rows of {worst} were too long and left out or cut",
        seen=worst,
        source=run.source(worst),
        stage="shards",
        refuted_by="rows that fit, and the same answers",
        knobs=(knob(run, "shards", "rows twice as long", *_wider(run), times=2.0),) if lost else (),
    )


@probe("runtime")
def steps_done(run: Records) -> Seen | str:
    """Steps that a stage took, against those its configuration asks for."""
    short = {
        stage: (run.manifests[stage].facts["steps"], asked)
        for stage in ("pretrain",)
        if stage in run.manifests and (asked := run.config(stage).get("horizon", {}).get("steps"))
    }
    if not short:
        return "no stage says how many steps it was to take"
    stage, (done, asked) = next(iter(short.items()))
    return Seen(
        strength=between(done / asked, 0.98, 0.7),
        says=f"{done} of {asked} steps of {stage} were taken",
        seen=stage,
        source=run.source(stage),
        stage=stage,
        refuted_by="all steps taken, and the same answers",
        knobs=(knob(run, stage, "find out in log/ what ended it early"),) if done < asked else (),
    )


@probe("runtime")
def precision(run: Records) -> Seen | str:
    """Steps that fp16 could not represent and skipped, beside the precision of every stage and of the evaluation.

    A dynamic loss scale skips a step when it overflows; a few are its way of working, a fifth of them is training that
    did not happen (Micikevicius et al. 2018, arxiv.org/abs/1710.03740, section 3.2).
    """
    trained = [stage for stage in TRAINED if run.config(stage).get("precision")]
    if not trained:
        return "no stage says in which precision it trained"
    skipped = {
        stage: sum(row["rule"] == "fp16_overflow" for row in run.findings(stage)) / run.manifests[stage].facts["steps"]
        for stage in trained
        if run.manifests[stage].facts.get("steps")
    }
    worst = max(skipped, key=skipped.__getitem__, default=trained[0])
    said = ", ".join(f"{stage} {run.config(stage)['precision']}" for stage in trained)
    evaluated = run.config("evaluate").get("precision")
    return Seen(
        strength=between(skipped.get(worst, 0.0), 0.02, 0.2),
        says=f"trained in {said}"
        + (f", evaluated in {evaluated}" if evaluated else "")
        + f"; {skipped.get(worst, 0.0):.1%} of the steps of {worst} overflowed and were skipped",
        seen=worst,
        source=f"{run.source(worst)} log/findings.jsonl",
        stage=worst,
        refuted_by="the same run in bf16 or fp32 that scores no better",
        knobs=(knob(run, worst, "train in bf16, which does not overflow", f"{worst}.precision=bf16"),)
        if skipped.get(worst)
        else (),
    )


@probe("runtime")
def resume_seams(run: Records) -> Seen | str:
    """Losses before and after every break in training: one that jumps was resumed with something missing.

    A break is a gap between two logged steps of more than 20 s and 10 usual ones. The jump of the mean loss of 5 rows
    is held against how much that mean moves where there is no break; optimizer state or data order lost in a resume
    shows there first.
    """
    curves = {stage: run.timed(stage, "loss") for stage in TRAINED if stage in run.folders}
    curves = {stage: rows for stage, rows in curves.items() if len(rows) >= 4 * AROUND}
    if not curves:
        return "no stage logged enough losses"
    seams = [(stage, *seam) for stage, rows in curves.items() for seam in _seams(rows)]
    worst = max(seams, key=lambda seam: seam[2] / seam[3], default=None)
    return Seen(
        strength=0.0 if worst is None else between(worst[2] / worst[3], 4, 10),
        says=f"{len(seams)} breaks in training"
        + (
            f"; at step {worst[1]} of {worst[0]} the loss moves by {worst[2]:.2f}, elsewhere by {worst[3]:.2f}"
            if worst
            else ""
        ),
        seen=worst[0] if worst else next(iter(curves)),
        source=", ".join(f"{run.source(stage)} log/metrics.jsonl" for stage in curves),
        stage=worst[0] if worst else next(iter(curves)),
        refuted_by="an uninterrupted run with the same losses",
        knobs=(knob(run, worst[0], "train it again without a break"),) if worst else (),
    )


def _seams(rows: Sequence[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """Step, jump of the mean loss, and how far that usually moves, of every break between rows (step, time, loss)."""
    gaps = [after[1] - before[1] for before, after in pairwise(rows)]
    limit = max(BREAK_SECONDS, 10 * median(gaps))
    losses = [loss for _, _, loss in rows]
    places = range(AROUND, len(rows) - AROUND + 1)
    moves = {n: fmean(losses[n : n + AROUND]) - fmean(losses[n - AROUND : n]) for n in places}
    usual = max(1e-6, 1.4826 * median(abs(move) for move in moves.values()))
    return [(rows[n][0], abs(moves[n]), usual) for n in places if gaps[n - 1] > limit]


def _wider(run: Records) -> tuple[str, ...]:
    tokens = run.config("shards").get("max_seq_len")
    return (f"shards.max_seq_len={2 * tokens}",) if tokens else ()


def _mend(run: Records, stage: str, cause: str | None) -> tuple[Knob, ...]:
    if cause is None:
        return ()
    config, settings = run.config(stage), list[str]()
    rows = config.get("micro_batch_rows") or config.get("batch_rows") or config.get("batch_pairs")
    if cause == "memory" and rows:
        settings = [f"{stage}.micro_batch_rows={max(1, rows // 4)}"]
    if cause == "divergence" and config.get("learning_rate"):
        settings = [f"{stage}.learning_rate={min(config['learning_rate'] / 10, 3e-3):g}"]
    return (knob(run, stage, CAUSES[cause][1], *settings),)
