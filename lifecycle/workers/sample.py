"""Answers drawn from a checkpoint, to be compared: `-m lifecycle.workers.sample JOB_FOLDER`."""

from collections.abc import Sequence
from typing import Any

import torch

from lifecycle.chat.render import load_renderer
from lifecycle.data.comparison_rows import KEPT, fault_of_prompt
from lifecycle.data.jsonl import Row, read_rows, write_rows
from lifecycle.evaluation.decoding import Decoding, Draw, Prompt, decode
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.judge import RewardJudge
from lifecycle.stages.comparisons import Drawn, SampleJob
from lifecycle.workers import job as doorway
from lifecycle.workers import posttrain
from lifecycle.workers.job import Recorder

AT_ONCE = 16  # prompts


@torch.inference_mode()
def sample(job: SampleJob, recorder: Recorder) -> Drawn:
    """Write a row for each prompt with its answers: what was said, and how it was drawn.

    An answer that did not stop is no answer, and a prompt without room for one is not asked; both are counted.
    """
    renderer = load_renderer(job.model)
    rows, _ = read_rows(job.prompts, fault_of_prompt, max_bad_row_share=0)
    asked = [(row, renderer.render(row["prompt"], generation_prompt=True).ids) for row in rows]
    fitting = [(row, ids) for row, ids in asked if len(ids) + job.max_new_tokens <= job.max_seq_len]
    model = posttrain.load_model(job.model).to("cuda" if torch.cuda.is_available() else "cpu").eval()
    model.config.use_cache = True
    network = faster(model)
    judge = None if job.reward is None else RewardJudge(job.reward, model.device)
    decoding = Decoding(
        stop_id=renderer.protocol.stop_id,
        max_new_tokens=job.max_new_tokens,
        temperature=job.temperature,
        seed=job.seed,
        greedy=False,
        samples=job.answers_per_prompt,
    )
    found: list[Row] = []
    not_stopped = 0
    for start in range(0, len(fitting), AT_ONCE):
        recorder.progress(start, len(fitting), "prompts")
        part = fitting[start : start + AT_ONCE]
        draws = decode(network, [Prompt(row["id"], ids) for row, ids in part], decoding)
        for number, (row, _) in enumerate(part):
            own = draws[number * job.answers_per_prompt :][: job.answers_per_prompt]
            stopped = [draw for draw in own if draw.stopped]
            not_stopped += len(own) - len(stopped)
            answers = [_answer(job, renderer.tokenizer, draw) for draw in stopped]
            if judge is not None:
                _give_rewards(judge, row, answers)
            kept = {name: row[name] for name in KEPT if name in row}
            shown = {"id": row["id"], "prompt": row["prompt"], "answers": answers, "checkpoint": job.checkpoint}
            found.append({**shown, **kept})
    written = write_rows(job.answers, found)
    recorder.progress(written, max(1, written), "prompts")
    return Drawn(
        answers=sum(len(row["answers"]) for row in found), not_stopped=not_stopped, too_long=len(asked) - len(fitting)
    )


def _answer(job: SampleJob, tokenizer: Any, draw: Draw) -> Row:
    """What was said, as text a tokenizer gives back; a special token in it stays to be seen."""
    return {
        "content": tokenizer.decode(draw.ids, skip_special_tokens=False),
        "seed": job.seed,
        "sample": draw.sample,
        "temperature": job.temperature,
        "tokens": draw.tokens,
        "logprob": round(draw.log_probability, 6),
    }


def _give_rewards(judge: RewardJudge, row: Row, answers: Sequence[Row]) -> None:
    if answers:
        said = [[*row["prompt"], {"role": "assistant", "content": answer["content"]}] for answer in answers]
        for answer, reward in zip(answers, judge.rewards([judge.ids(messages) for messages in said]), strict=True):
            answer["reward"] = reward


if __name__ == "__main__":
    doorway.run(SampleJob, sample)
