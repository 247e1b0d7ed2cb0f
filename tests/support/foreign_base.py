"""A foreign base in miniature: random weights of a real family, a ChatML tokenizer that pads with its stop token."""

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXT = ["Return section from this record as JSON, null when absent.", '{"section": "libs"}', "system user assistant"]
POSITIONS = 256

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    "mistral": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2},
    "qwen2": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2},
    "qwen3": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS},
}


def chatml_tokenizer(extra: int = 60) -> Tokenizer:
    """A byte-level BPE with ChatML's tokens first."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = len(SPECIALS) + len(alphabet) + extra
    bpe.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
        ),
    )
    bpe.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    return bpe


def write_tokenizer(folder: Path, *, template: str | None = CHATML) -> int:
    """The tokenizer's files; how many ids it has."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe = chatml_tokenizer()
    bpe.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return bpe.get_vocab_size()


def write_base(folder: Path, family: str = "llama", *, tied: bool = True, **shape: Any) -> Path:
    """A model folder as somebody else's program saves one; the same one each time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    vocab_size = write_tokenizer(folder)
    settings: dict[str, Any] = {"vocab_size": vocab_size, "tie_word_embeddings": tied, **SHAPES[family], **shape}
    if family != "gpt2":
        settings |= {"num_key_value_heads": 1, "max_position_embeddings": POSITIONS, "head_dim": 16}
    if family == "qwen2":
        del settings["head_dim"]
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings, **ids))
    model.save_pretrained(folder)
    return folder


def write_gguf(path: Path, *, cut: str = "smollm", architecture: str = "llama") -> Path:
    """The same Llama as a GGUF file: header, tokenizer and fp32 weights, as llama.cpp's converter lays them out."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM

    folder = write_base(path.with_suffix(""))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    bpe = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = sorted(bpe["model"]["vocab"], key=bpe["model"]["vocab"].__getitem__)
    writer = gguf.GGUFWriter(path, architecture)
    config, heads = model.config, model.config.num_attention_heads
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in SPECIALS else 1 for token in vocabulary])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHATML)
    for name, weight in model.state_dict().items():
        if (there := gguf_name(name)) is not None:
            writer.add_tensor(there, permuted(name, weight, heads, config.num_key_value_heads).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.move(folder, path.with_suffix(".source"))
    return path


def gguf_name(name: str) -> str | None:
    """llama.cpp's name of a tensor; None for the tied head."""
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.": "blk.",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "ffn_norm",
        "input_layernorm": "attn_norm",
    }.items():
        name = name.replace(ours, theirs)
    return None if name == "lm_head.weight" else name


def permuted(name: str, weight: Any, heads: int, kv_heads: int) -> Any:
    """Queries and keys as llama.cpp turns them: pairs side by side where transformers has halves."""
    count = heads if "q_proj" in name else kv_heads if "k_proj" in name else 0
    if not count:
        return weight
    rows, columns = weight.shape
    return weight.view(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()
