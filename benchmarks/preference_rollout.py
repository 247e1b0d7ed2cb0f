"""How fast a policy answers: behind a key-value cache, as PPO samples, or reading everything again for every token.

    python -m benchmarks.preference_rollout [--checkpoint FOLDER] [--json FILE]

Both draw with the same noise, and must give the same answers before they are timed. Without a checkpoint the network is
the tiny recipe's, untrained: it never stops early, so every answer has all its tokens.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from lifecycle.evaluation.decoding import Decoding, Prompt, decode
from lifecycle.evaluation.faster import faster
from lifecycle.evaluation.noise import Noise
from lifecycle.workers.posttrain import load_model

PROMPTS, ANSWERS, PROMPT_TOKENS, NEW_TOKENS, TIMES = 64, 2, 72, 32, 5  # as recipe `instructgpt` samples
VOCABULARY = 1024
SHARED = 12  # tokens that all prompts begin with: the template and the question's first words
NEVER = -1  # no token is it: nobody stops


def recipe_network() -> Any:
    """The shape of the tiny recipe, with random weights."""
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=VOCABULARY, intermediate_size=352, max_position_embeddings=128, tie_word_embeddings=True, **shape
    )
    config._attn_implementation = "eager"  # the faster one here, for both
    return LlamaForCausalLM(config).eval()


def prompts(vocabulary: int) -> list[Prompt]:
    draws = torch.Generator().manual_seed(1)
    ids = torch.randint(8, vocabulary, (PROMPTS, PROMPT_TOKENS), generator=draws)
    ids[:, :SHARED] = ids[0, :SHARED]
    return [Prompt(str(number), row) for number, row in enumerate(ids.tolist())]


@torch.inference_mode()
def without_cache(model: Any, asked: Sequence[Prompt], decoding: Decoding) -> list[list[int]]:
    """The same draws by the plain network, which reads prompt and answer again for every token."""
    noise = Noise(model.config.vocab_size, decoding.seed, model.device)
    drawn_by = [(prompt.id, sample) for prompt in asked for sample in range(decoding.samples)]
    rows = torch.tensor([prompt.ids for prompt in asked]).repeat_interleave(decoding.samples, 0)
    for position in range(decoding.max_new_tokens):
        logits = model(rows, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        names = [(name, position, sample) if sample else (name, position) for name, sample in drawn_by]
        drawn = (logits + noise.gumbel(names)).argmax(-1)
        rows = torch.cat([rows, drawn[:, None]], dim=1)
    return rows[:, len(asked[0].ids) :].tolist()


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def row(model: Any) -> dict[str, Any]:
    """Tokens a second of both, in turn, after both gave the same answers."""
    asked = prompts(model.config.vocab_size)
    decoding = Decoding(NEVER, NEW_TOKENS, 1.0, 0, greedy=False, samples=ANSWERS)
    network = faster(model)
    ours, theirs = [draw.ids for draw in decode(network, asked, decoding)], without_cache(model, asked, decoding)
    if ours != theirs:
        raise SystemExit(
            f"{sum(a != b for a, b in zip(ours, theirs, strict=True))} of {PROMPTS * ANSWERS} answers differ"
        )
    pairs = [
        (seconds(lambda: decode(network, asked, decoding)), seconds(lambda: without_cache(model, asked, decoding)))
        for _ in range(TIMES)
    ]
    mine, peer = (statistics.median(times) for times in zip(*pairs, strict=True))
    tokens = PROMPTS * ANSWERS * NEW_TOKENS
    ratios = [theirs / ours for ours, theirs in pairs]
    return {
        "name": "rollout",
        "ours": tokens / mine,
        "peer": tokens / peer,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "unit": "tokens/s",
        "n": TIMES,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = row(load_model(arguments.checkpoint).eval() if arguments.checkpoint else recipe_network())
    print(
        f"{found['name']}: {found['ours']:,.0f} tokens/s with a cache, {found['peer']:,.0f} without: "
        f"{found['ratio']:.1f} times ({found['low']:.1f} to {found['high']:.1f}, {found['n']} runs)"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps([found], indent=1) + "\n")
    return 0 if found["ratio"] >= 10 else 1


if __name__ == "__main__":
    sys.exit(main())
