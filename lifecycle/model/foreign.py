"""A model folder or GGUF file from outside, judged before it is parsed: names first, then JSON as data. No code is run.

Weights are headers here (`model.safetensors_header`); a worker reads the tensors.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lifecycle.errors import InputError
from lifecycle.model.architecture import ModelConfig
from lifecycle.model.families import Model
from lifecycle.model.gpt2 import Gpt2Config

# A list of what is allowed, as a release has one: of what can carry code, the next kind is always missing.
DATA = {".safetensors", ".json", ".jinja", ".txt", ".md", ".model"}
NOTICES = {"license", "licence", "notice", "copying", ".gitattributes"}
CODE = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".pyc", ".so", ".joblib", ".npy", ".npz"}
GGUF = ".gguf"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
JSON_BYTES = 64 * 2**20  # the largest tokenizer.json in use, of 262,144 tokens, has 33 MB

FAMILIES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"""`model_type`s that are adopted: transformers' own classes, tested here with weights of each."""
CONTINUED = ("gpt2", "llama")
"""Those whose pretraining can be continued: their memory is planned."""

IMPLEMENTATIONS = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3")
"""Of attention; transformers takes any other name for a repository of kernels, fetches it and runs what it holds."""

LLAMAS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "vocab_size",
)
GPT2 = ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size")
SIZES = dict.fromkeys(FAMILIES, LLAMAS) | {"gpt2": GPT2}
"""What a config has to say: transformers would fill the sizes of another model in for those that it leaves out."""
ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "relu")

COPY = "Copy config.json, *.safetensors and the tokenizer's files into a folder of their own, and adopt that."


def check_names(place: Path) -> None:
    """Raise InputError where a base could run code, or reach out of its folder, by its files' names alone."""
    if place.is_symlink():
        raise InputError(f"{place}: expected a folder or a file, found a link. Name what it points to.")
    if place.is_file():
        if place.suffix != GGUF:
            raise InputError(f"{place}: expected a {GGUF} file or a folder, found a {place.suffix} file. {COPY}")
        return
    if not place.is_dir():
        raise InputError(f"{place}: expected a model folder or a {GGUF} file, found nothing. Check base.source.")
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_symlink():
            raise InputError(f"{place}: expected plain files, found the link {name!r} to {path.readlink()}. {COPY}")
        if path.is_dir() or path.name.lower() in NOTICES:
            continue
        if path.suffix.lower() in CODE:
            raise InputError(f"{place}: expected files that are data, found {name!r}, which can run code. {COPY}")
        if path.suffix.lower() not in DATA or not path.is_file():
            raise InputError(f"{place}: expected {', '.join(sorted(DATA))} files, found {name!r}. {COPY}")
    for needed in ("config.json", *TOKENIZER_FILES[:2]):
        if not (place / needed).is_file():
            raise InputError(f"{place}: expected a {needed}, found none. Add it, or save the model with transformers.")


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file that somebody else wrote: small enough, and without `auto_map` at any depth."""
    try:
        if path.stat().st_size > JSON_BYTES:
            raise InputError(
                f"{path}: expected at most {JSON_BYTES:,} bytes of JSON, found {path.stat().st_size:,}. Check the file."
            )
        found = json.loads(path.read_bytes())
        asks_for_code = any("auto_map" in item for item in _objects(found))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a JSON object, found {type(error).__name__}. Download it again.") from error
    if asks_for_code:
        raise InputError(
            f"{path}: expected a model without code of its own, found 'auto_map', which names some. Adopt a model that "
            "transformers has a class for, without this key."
        )
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, found a {type(found).__name__}. Download it again.")
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder, if its family is known and its weights are plain numbers."""
    config = read_json(folder / "config.json")
    check_family(config.get("model_type"), folder)
    check_sizes(config, folder)
    for name, value in ((name, value) for item in _objects(config) for name, value in item.items()):
        if name.endswith("_implementation") and value not in IMPLEMENTATIONS:
            raise InputError(
                f"{folder}: expected a model without code of its own, found {name}={value!r}, which names some. Remove "
                "the key from config.json."
            )
    if "quantization_config" in config:
        method = (config["quantization_config"] or {}).get("quant_method")
        raise InputError(
            f"{folder}: expected plain weights, found them quantized ({method}). Adopt the unquantized model, or a "
            f"{GGUF} file, which is converted."
        )
    return config


def check_sizes(config: dict[str, Any], folder: Path) -> None:
    """Raise InputError where a config leaves out a size of its network, or names what no network here has."""
    for name in SIZES[config["model_type"]]:
        if type(size := config.get(name)) is not int or size < 1:
            raise InputError(
                f"{folder}: expected a whole number from 1 on as {name} in config.json, found {size!r}. Take the "
                "config.json that its weights were saved with."
            )
    name = "activation_function" if config["model_type"] == "gpt2" else "hidden_act"
    if (found := config.get(name, ACTIVATIONS[0])) not in ACTIVATIONS:
        raise InputError(
            f"{folder}: expected {name} in config.json to be one of {', '.join(ACTIVATIONS)}, found {found!r}. Take "
            "the config.json that its weights were saved with."
        )


def check_family(found: Any, place: Path) -> None:
    """The network is one that is known here."""
    if found not in FAMILIES:
        raise InputError(
            f"{place}: expected a model of a known family ({', '.join(FAMILIES)}), found {found!r}. Adopt one of these."
        )


def shape_of(folder: Path) -> Model:
    """The shape of a folder's network as the memory planner knows it; its home is the folder's config.json."""
    config = read_config(folder)
    family = config["model_type"]
    if family not in CONTINUED:
        raise InputError(
            f"{folder}: expected a base of family {' or '.join(CONTINUED)} to go on pretraining, whose memory is "
            f"planned, found {family!r}. Fine-tune it as it is, or continue another base."
        )
    odd = _unplanned(config)
    if odd:
        raise InputError(
            f"{folder}: expected a {family} whose memory is planned, found {', '.join(odd)}. Fine-tune it as it is, or "
            "continue another base."
        )
    try:
        return _gpt2(config) if family == "gpt2" else _llama(config)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{folder}: expected the shape of a {family} in config.json, found {error}. Mend it."
        ) from error


def positions_of(config: dict[str, Any]) -> int:
    """How many tokens the network was made for."""
    return int(config["n_positions"] if config["model_type"] == "gpt2" else config["max_position_embeddings"])


def _llama(config: dict[str, Any]) -> ModelConfig:
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    return ModelConfig(
        hidden_size=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        intermediate_size=config["intermediate_size"],
        tie_embeddings=config.get("tie_word_embeddings", False),
        rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10_000.0),
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        initializer_range=config.get("initializer_range", 0.02),
    )


def _gpt2(config: dict[str, Any]) -> Gpt2Config:
    return Gpt2Config(
        hidden_size=config["n_embd"],
        layers=config["n_layer"],
        heads=config["n_head"],
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        initializer_range=config.get("initializer_range", 0.02),
    )


def _unplanned(config: dict[str, Any]) -> list[str]:
    """What a config asks for that the planner's formulas leave out."""
    if config["model_type"] == "gpt2":
        width, inner = config.get("n_embd"), config.get("n_inner")
        return [f"n_inner={inner}"] if inner not in (None, 4 * (width or 0)) else []
    odd = [name for name in ("attention_bias", "mlp_bias") if config.get(name)]
    width, heads, size = (config.get(name) for name in ("hidden_size", "num_attention_heads", "head_dim"))
    return odd + ([f"head_dim={size}"] if size not in (None, (width or 0) // (heads or 1)) else [])


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(item)
