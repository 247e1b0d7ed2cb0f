"""Asks of every kind, against transformers where it can say the same, and what cannot be asked."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModelForCausalLM

from lifecycle.chat.render import load_renderer
from lifecycle.evaluation import engine as module
from lifecycle.evaluation.encode import Encoder
from lifecycle.evaluation.engine import Engine, Settings
from lifecycle.evaluation.journal import Alone, Journal
from lifecycle.evaluation.kinds.suite import Generate, Likelihood, Parity

SETTINGS = Settings(max_new_tokens=4, temperature=1.0, seed=0, context_tokens=0, max_seq_len=64, batch_items=2)
TURNS = [{"role": "user", "content": "section: libs"}]


@pytest.fixture
def engine(base, tmp_path):
    encoder = Encoder(load_renderer(base.path))
    model = AutoModelForCausalLM.from_pretrained(base.path).eval()
    with ThreadPoolExecutor(1) as pool:
        yield Engine(model, base.path, encoder, SETTINGS, Journal(tmp_path / "journal", Alone()), pool)


def ask(engine, *asks):
    return engine.replies([("item", asks)], lambda done, total: None)[0]


@torch.inference_mode()
def log_probability(engine, prompt, continuation):
    ids = torch.tensor([prompt + continuation])
    logp = engine.model(ids[:, :-1]).logits.log_softmax(-1)[0, len(prompt) - 1 :]
    return logp.gather(-1, torch.tensor(continuation)[:, None]).sum().item()


def test_asks_of_one_item_come_back_in_their_order(engine):
    conversation = [*TURNS, {"role": "assistant", "content": "naïve 🎉"}]
    short = Generate(TURNS, greedy=False, max_new_tokens=2)
    replies = ask(engine, Likelihood(TURNS, "libs"), Generate(TURNS, samples=2), Parity(conversation), short)
    assert [[reply.mode for reply in some] for some in replies] == [
        ["likelihood"],
        ["greedy", "sampled", "sampled"],
        ["likelihood"],
        ["sampled"],
    ]
    assert replies[2][0].most_likely  # transformers renders it as we do
    assert all(reply.tokens <= 2 for reply in replies[3])


def test_a_template_that_is_not_ours_is_noticed(engine, base):
    conversation = [*TURNS, {"role": "assistant", "content": "libs"}]
    template = base.path / "chat_template.jinja"
    template.write_text(template.read_text() + "{{ '!' }}")
    ((reply,),) = ask(engine, Parity(conversation))
    assert not reply.most_likely


def test_a_conversation_that_the_template_refuses_is_not_compared(engine):
    ((reply,),) = ask(engine, Parity([*TURNS, {"role": "assistant", "content": "typed <|end|>"}]))
    assert reply.fault == "template_refused"


def test_the_probability_of_an_answer_is_that_of_the_tokens_it_was_trained_as(engine):
    prompt = engine.encoder.prompt(TURNS)
    for ends in (False, True):
        (reply,) = ask(engine, Likelihood(TURNS, "libs", ends=ends))[0]
        ids = engine.encoder.text("libs") + [engine.encoder.protocol.stop_id] * ends
        assert reply.log_probability == pytest.approx(log_probability(engine, prompt, ids), abs=1e-3)
        assert reply.tokens == len(ids)


def test_plain_text_is_split_as_it_would_be_in_one_piece(engine):
    """The blank at the prompt's end belongs to the continuation, and no token reaches over from one to the other."""
    prompt, continuation = engine.encoder.pair(Likelihood("the record ", "of a package"))
    assert prompt == [engine.encoder.protocol.bos_id, *engine.encoder.text("the record")]
    assert [*prompt[1:], *continuation] == engine.encoder.text("the record of a package")


@pytest.mark.parametrize(
    ("one", "fault"),
    [
        (Generate(TURNS, max_new_tokens=60), "does_not_fit"),
        (Likelihood("x", "y " * 80), "does_not_fit"),
        (Likelihood(TURNS, ""), "no_continuation"),
    ],
)
def test_what_cannot_be_asked_has_a_fault_and_the_rest_goes_on(engine, one, fault):
    broken, fine = ask(engine, one, Likelihood(TURNS, "libs"))
    assert {reply.fault for reply in broken} == {fault}
    assert fine[0].fault is None


def test_a_batch_that_does_not_fit_in_memory_is_halved_until_it_does(engine, monkeypatch):
    real, sizes = module.likelihood.log_probabilities, []

    def greedy_for_memory(model, questions):
        sizes.append(len(questions))
        if len(questions) > 1 or questions[0].prompt[-1] == engine.encoder.text("b")[0]:
            raise torch.OutOfMemoryError("full")
        return real(model, questions)

    monkeypatch.setattr(module.likelihood, "log_probabilities", greedy_for_memory)
    (a,), (b,) = ask(engine, Likelihood("a", "x"), Likelihood("b", "x"))
    assert (a.fault, b.fault) == (None, "out_of_memory")
    assert sizes == [2, 1, 1]


def test_documents_without_a_finite_probability_have_none(engine):
    documents = [[0, *range(10, 20)], [0, 299, 11], [0, *range(20, 99)]]
    whole = engine.documents(documents, lambda done, total: None)
    assert whole[0] == pytest.approx(log_probability(engine, [0], documents[0][1:]), abs=1e-3)
    assert whole[2] < whole[0]  # longer than a window
    with torch.no_grad():
        engine.model.model.embed_tokens.weight[299] = float("nan")
    assert Engine.documents(engine, [[0, 299, 12]], lambda done, total: None) == [None]
