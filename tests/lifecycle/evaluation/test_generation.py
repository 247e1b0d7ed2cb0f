"""What is asked first, what is learned of it, and that it changes nothing but the time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from transformers import AutoModelForCausalLM

from lifecycle.chat.render import load_renderer
from lifecycle.evaluation.decoding import Decoding, Prompt
from lifecycle.evaluation.drafts import Drafts
from lifecycle.evaluation.encode import Encoder
from lifecycle.evaluation.engine import Engine, Settings
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.generation import OUT_OF_MEMORY, Generation
from lifecycle.evaluation.journal import Alone, Journal
from lifecycle.evaluation.kinds.suite import Generate

DECODING = Decoding(stop_id=2, max_new_tokens=4, temperature=1.0, seed=0)
SETTINGS = Settings(max_new_tokens=8, temperature=1.0, seed=0, context_tokens=0, max_seq_len=64, batch_items=8)
PROMPTS = [Prompt(f"p{n}", [6, 7, 8 + n % 5, 20 + n]) for n in range(80)]


@pytest.fixture
def fast(base):
    return faster(AutoModelForCausalLM.from_pretrained(base.path).eval())


def test_pilots_and_others_are_all_prompts_once(fast, bpe):
    generation = Generation(fast, bpe, DECODING, PROMPTS, guesses=True)
    pilots, others = generation.pilots(), generation.others(16)
    assert sorted(n for part in pilots + others for n in part) == list(range(len(PROMPTS)))
    assert len(pilots) > 0


def test_without_guesses_and_with_a_network_that_checks_none_there_are_no_pilots(fast, base, bpe):
    plain = AutoModelForCausalLM.from_pretrained(base.path).eval()
    assert Generation(fast, bpe, DECODING, PROMPTS, guesses=False).pilots() == []
    assert Generation(plain, bpe, DECODING, PROMPTS, guesses=True).pilots() == []


def test_a_prompt_that_did_not_fit_is_no_pilot_and_has_its_fault(fast, bpe):
    generation = Generation(fast, bpe, DECODING, PROMPTS, guesses=True)
    generation.learn([(0, None)])
    assert {reply.fault for reply in generation.replies(0, None)} == {OUT_OF_MEMORY}
    assert generation.results(PROMPTS[:2])[0]["replies"]


@pytest.mark.parametrize("threads", [1, 2])
def test_replies_are_the_same_with_and_without_guesses(fast, base, tmp_path, monkeypatch, threads):
    always = property(lambda self: True, lambda self, found: None)  # random weights: nobody would guess well
    monkeypatch.setattr(Drafts, "worth", always, raising=False)
    encoder = Encoder(load_renderer(base.path))
    asks = [Generate([{"role": "user", "content": f"section: libs {n % 7} {n}"}], samples=1) for n in range(70)]
    found = []
    for guesses in (True, False):
        journal = Journal(tmp_path / str(guesses), Alone())
        with ThreadPoolExecutor(threads) as pool:
            engine = Engine(fast, base.path, encoder, replace(SETTINGS, guesses=guesses), journal, pool)
            found.append(engine.replies([(str(n), [ask]) for n, ask in enumerate(asks)], lambda done, total: None))
            assert set(engine.seconds) == {str(n) for n in range(70)}
    said = [[[(r.mode, r.text, r.tokens, r.stopped) for r in some] for (some,) in items] for items in found]
    assert said[0] == said[1]
