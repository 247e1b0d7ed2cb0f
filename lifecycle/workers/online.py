"""PPO, RLOO and GRPO: `-m lifecycle.workers.online JOB_FOLDER`. Their equations are in `training.ppo`.

A step: the policy answers prompts; each answer is scored, each of its tokens given its log-probability under the
reference and its value (`roll_out`); these give advantages (`experience`); minibatches move the networks (`learner`).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lifecycle.chat.examples import TOO_LONG
from lifecycle.errors import Preempted
from lifecycle.evaluation.decoding import Decoding
from lifecycle.sealing import canonical
from lifecycle.stages.online import OnlineJob
from lifecycle.training import ppo
from lifecycle.training.agreement import together
from lifecycle.training.checkpoint import Checkpoints
from lifecycle.training.course import Course
from lifecycle.training.order import LengthWindows
from lifecycle.training.post import Tuned
from lifecycle.training.stop import StopRequest
from lifecycle.workers import job as doorway
from lifecycle.workers import policy, posttrain
from lifecycle.workers.experience import experience
from lifecycle.workers.job import Recorder, rank, world_size
from lifecycle.workers.learner import Learner
from lifecycle.workers.pairs import read_pairs
from lifecycle.workers.policy import Reference
from lifecycle.workers.rollout import Actor, Answer, Asked, as_batch, device, read_prompts, unfilled
from lifecycle.workers.scores import ByContract, ByModel, Scores
from lifecycle.workers.watched import Watched, best_of

KNOWN_PAIRS = 256  # whose rewards say what is usual
PROBED = 4  # prompts on which a merged adapter is compared
FINAL = 2**31  # names the random numbers of the held-out answers: no step has it
AT_ONCE = 128  # held-out prompts


class Training:
    """The loop, and what it remembers."""

    def __init__(self, job: OnlineJob, recorder: Recorder) -> None:
        self.job, self.config, self.recorder = job, job.config, recorder
        config, self.spoken = job.config, posttrain.load_protocol(job.sft)
        self.prompts, self.dropped = self._prompts(job.train_file)
        self.heldout, _ = self._prompts(job.heldout_file)
        self.steps = config.steps(len(self.prompts), config.batch_prompts)
        self.scores = self._scores()
        nets = policy.start(config, job.sft, job.reward, centre=self.scores.centre, scale=self.scores.scale)
        self.learner = Learner(job, nets)
        self.reference = Reference(nets.policy, job.sft, config.attention)
        self.actor = Actor(job.sft, self.decoding_of(config.answers_per_prompt))
        self.watched = self._watched()
        self.kl_coefficient, self.answer_tokens, self.course = config.kl_coefficient, 0, Course()
        self.checkpoints = Checkpoints(
            job.scratch_dir / "checkpoints",
            keep=config.keep_checkpoints,
            keep_best=self.watched is not None,
            made_by={**canonical(config), **job.inputs},
            layout={"ranks": world_size(), "micro_batch_rows": self.learner.micro, "zero": config.zero},
            reshard=config.reshard,
        )

    def run(self) -> None:
        """Every step from the newest checkpoint on."""
        stop = StopRequest().listen()
        self.checkpoints.must_have_room(self.learner.engine)
        done, state = self.checkpoints.load_newest(self.learner.engine)
        if done:
            self.kl_coefficient, self.answer_tokens = state.pop("kl_coefficient"), state.pop("answer_tokens")
            self.course = Course(**state)
        self.recorder.resume_at(done or -1, measured_after="heldout/score" if done == self.steps else "")
        if self.watched and done == 0:
            self.course.drift = self.watched.measure(self.learner.nets.policy, 0)
        for step, numbers in self._batches(done):
            score = self.step(step, numbers)
            self.recorder.progress(step + 1, self.steps, "steps", f"score {score:.3f}")
            stopping = any(together(lambda: stop.asked))
            self._save(step + 1, stopping=stopping)
            if self.course.stopped:
                break
            if stopping and step + 1 < self.steps:
                raise Preempted(f"told to stop: saved after step {step + 1} of {self.steps}. The same command goes on.")
        self._keep_the_best()

    def _save(self, done: int, *, stopping: bool) -> None:
        """A checkpoint where one is due; a step that is judged has one too, so that it can be gone back to."""
        value = None
        if self.watched and self.watched.is_time(done, self.steps):
            value = self.watched.judge(self.course, self.learner.nets.policy, done)
            self.course.judged.append((done, value))
        if value is not None or stopping or done % self.config.save_every_steps == 0 or done == self.steps:
            more = {"kl_coefficient": self.kl_coefficient, "answer_tokens": self.answer_tokens}
            self.checkpoints.save(self.learner.engine, done, asdict(self.course) | more)
        if value is not None:
            self.checkpoints.validated(done, value)

    def _keep_the_best(self) -> None:
        """Where a rule ended the training, take the weights of the best step before."""
        stopped = self.course.stopped
        if self.watched and stopped:
            _, state = self.checkpoints.load_newest(self.learner.engine, at_most=best_of(self.course))
            self.answer_tokens, _ = state.pop("answer_tokens"), state.pop("kl_coefficient")
            self.course = Course(**{**state, "stopped": stopped})

    def step(self, step: int, numbers: Sequence[int]) -> float:
        """Sample, judge, learn; the mean score of the answers."""
        config = self.config
        answers = self.roll_out(step, numbers)
        made = experience(config, answers, kl_coefficient=self.kl_coefficient)
        rate = config.rate(step, self.steps)
        learned = self.learner.learn(made, step=step, rate=rate)
        score = sum(answer.score for answer in answers) / len(answers)
        self.course.losses.append(learned["loss"])
        self.course.tokens += int(made.batch.seen.sum()) * config.passes
        self.answer_tokens += int(made.batch.mask.sum()) * config.passes
        if step % config.log_every_steps == 0 or step + 1 == self.steps:
            self.recorder.metrics(
                step + 1,
                **learned,
                score=score,
                kl=made.kl,
                kl_coefficient=self.kl_coefficient,
                answer_tokens=sum(len(answer.ids) for answer in answers) / len(answers),
                stopped=sum(answer.stopped for answer in answers) / len(answers),
                learning_rate=rate,
                **({"explained_variance": made.explained_variance} if config.method == "ppo" else {}),
            )
        if config.kl_target is not None:
            self.kl_coefficient = ppo.AdaptiveKl(config.kl_target).after(self.kl_coefficient, made.kl)
        return score

    def roll_out(self, step: int, numbers: Sequence[int]) -> list[Answer]:
        """The policy's answers to these prompts, judged. Ranks answer a share each, and all get all of them."""
        self.actor.become(self.learner.nets.policy)
        mine = [(number, self.prompts[number]) for number in numbers[rank() :: world_size()]]
        answers = self.actor.answers(mine, step=step)
        self.judge(answers)
        each = self.config.answers_per_prompt
        shares = together(lambda: [answers[at : at + each] for at in range(0, len(answers), each)])
        groups = [group for some in itertools.zip_longest(*shares) for group in some if group is not None]
        return [answer for group in groups for answer in group]

    def judge(self, answers: Sequence[Answer]) -> None:
        """Give each answer its score, and what reference and critic say of its tokens: once, for all passes."""
        batch = as_batch(answers)
        reference = unfilled(self.reference.log_probabilities(batch), batch.mask)
        values = unfilled(self.learner.values(batch), batch.mask)
        for answer, score, known, value in zip(answers, self.scores.of(answers), reference, values, strict=True):
            answer.score = score if answer.stopped else self.config.unfinished_score
            answer.reference, answer.values = known, value

    def measure(self) -> dict[str, float]:
        """Scores of one sample to each held-out prompt, and its distance from the reference."""
        self.actor.become(self.learner.nets.policy)
        self.actor.decoding = self.decoding_of(1)
        answers: list[Answer] = []
        for start in range(0, len(self.heldout), AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, len(self.heldout)))
            some = self.actor.answers([(number, self.heldout[number]) for number in numbers], step=FINAL)
            self.judge(some)
            answers += some
        count = len(answers)
        return {
            "score": sum(answer.score for answer in answers) / count,
            "kl": sum(sum(a.sampled) - sum(a.reference) for a in answers) / count,
            "stopped": sum(answer.stopped for answer in answers) / count,
            "answer_tokens": sum(len(answer.ids) for answer in answers) / count,
        }

    def _watched(self) -> Watched | None:
        if self.config.drift is None:
            return None
        limits: dict[str, Any] = {"max_seq_len": self.job.max_seq_len, "max_dropped_share": 1.0}
        pairs = read_pairs(self.job.heldout_file, self.spoken, **limits).rows
        return Watched(self.job, self.config.drift, self.spoken.renderer, pairs, self.reference, self.recorder)

    def _batches(self, done: int) -> Iterator[tuple[int, list[int]]]:
        """The number of each step that is left, with those of its prompts."""
        lengths = [len(asked.ids) for asked in self.prompts]
        order = LengthWindows(lengths, batch=self.config.batch_prompts, seed=self.config.seed)
        end = done if self.course.stopped else self.steps
        return zip(range(done, end), itertools.islice(order.batches(), done, None), strict=False)

    def _prompts(self, file: Path) -> tuple[list[Asked], int]:
        room = self.job.max_seq_len - self.config.max_new_tokens
        return read_prompts(file, self.spoken, room=room, max_dropped_share=self.config.max_dropped_share)

    def _scores(self) -> Scores:
        """What says how good an answer is."""
        if self.job.reward is None:
            return ByContract([*self.prompts, *self.heldout], self.spoken.renderer.tokenizer)
        limits: dict[str, Any] = {
            "max_seq_len": self.job.max_seq_len,
            "max_dropped_share": self.config.max_dropped_share,
        }
        pairs = read_pairs(self.job.train_file, self.spoken, **limits).rows[:KNOWN_PAIRS]
        known = [row.prompt_ids + answer for row in pairs for answer in (row.chosen_ids, row.rejected_ids)]
        return ByModel(self.job.reward, device(), known)

    def decoding_of(self, samples: int) -> Decoding:
        """At temperature 1: at another one the policy that learns would not be the one that spoke."""
        stop_id, config = self.spoken.renderer.protocol.stop_id, self.config
        return Decoding(stop_id, config.max_new_tokens, 1.0, config.seed, greedy=False, samples=samples)


def train(job: OnlineJob, recorder: Recorder) -> Tuned:
    """Let the SFT model learn from scores of its own answers, and leave a model folder in `out_dir`."""
    recorder.progress(0, 1, "steps", "reading and checking rows")
    training = Training(job, recorder)
    training.run()
    heldout, course, watched = training.measure(), training.course, training.watched
    model = training.learner.nets.policy
    steps = len(course.losses)
    drift = watched.measure(model, steps) if watched else {}
    if watched and rank() == 0:
        watched.watch.write(job.out_dir)
    probe = as_batch([Answer(asked.ids, [0], True, []) for asked in training.heldout[:PROBED]])
    parameters, difference = posttrain.save_model(model, job.sft, job.out_dir, probe.ids)
    merged = {"merged_logits_difference": difference} if job.config.lora else {}
    recorder.metrics(steps, **{f"heldout/{name}": value for name, value in heldout.items()}, **merged)
    return Tuned(
        parameters=parameters,
        steps=steps,
        tokens_seen=course.tokens,
        final_loss=course.final_loss(),
        supervised_share=round(training.answer_tokens / course.tokens, 6),
        dropped={TOO_LONG: training.dropped} if training.dropped else {},
        heldout=heldout,
        drift=drift,
        findings={course.stopped.partition(" ")[0]: 1} if course.stopped else {},
    )


def in_its_own_process(job: OnlineJob, recorder: Recorder) -> Tuned:
    if world_size() == 1:  # several ranks learn under DeepSpeed, whatever the stage
        posttrain.deepspeed_or_not(job.config)
    return train(job, recorder)


if __name__ == "__main__":
    doorway.run(OnlineJob, in_its_own_process)
