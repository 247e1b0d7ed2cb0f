"""Memory and runtime: what was trained is not what was asked for, or nothing was."""

from lifecycle.diagnosis.probes.probe import Seen, knob, probe
from lifecycle.diagnosis.readings import Knob, between
from lifecycle.diagnosis.records import Records

TRAINED = ("pretrain", "sft", "reward", "preference")

# What a failure's message says, and what is then the cheapest thing to do about it.
CAUSES = {
    "memory": (
        ("out of memory", "outofmemory", "cannot allocate", "fit into memory", "sigkill", "signal 9"),
        "halve the rows a process holds at once",
    ),
    "hang": (("no sign of life", "hung", "heartbeat", "silent"), "read the stacks in log/, and run on fewer ranks"),
    "divergence": (
        ("not finite", "diverged", "nan", "loss_is_zero", "worse_than_uniform", "divergence", "plateau"),
        "a tenth of the learning rate",
    ),
    "disk": (("no space", "disk", "errno 28"), "free the bytes the message names"),
    "process": (("died", "exit code", "killed", "lost"), "read log/worker.log of the stage"),
}


@probe("runtime")
def how_it_ended(run: Records) -> Seen | str:
    """A run that failed, crashed or was preempted for a reason of the machine: memory, a hang, a loss that is NaN."""
    text = run.message.lower()
    cause = next((name for name, (words, _) in CAUSES.items() if any(word in text for word in words)), None)
    broken = run.state in ("FAILED", "CRASHED", "PREEMPTED")
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
def rows_that_did_not_fit(run: Records) -> Seen | str:
    """Rows left out or cut because they are longer than the model's rows: training data that nobody trained on."""
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
    worst = max(shares, key=lambda stage: shares[stage][0] / max(1, shares[stage][1]))
    lost, rows = shares[worst]
    return Seen(
        strength=between(lost / max(1, rows), 0.02, 0.3),
        says=f"{lost} of {rows} rows of {worst} were too long and left out or cut",
        seen=worst,
        source=run.source(worst),
        stage="shards",
        refuted_by="rows that fit, and the same answers",
        knobs=(knob(run, "shards", "rows twice as long: shards.max_seq_len", times=2.0),) if lost else (),
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


def _mend(run: Records, stage: str, cause: str | None) -> tuple[Knob, ...]:
    if cause is None:
        return ()
    config, settings = run.config(stage), list[str]()
    if cause == "divergence" and config.get("learning_rate"):
        settings = [f"{stage}.learning_rate={config['learning_rate'] / 10:g}"]
    return (knob(run, stage, CAUSES[cause][1], *settings),)
