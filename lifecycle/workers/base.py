"""Adopting a foreign base: `-m lifecycle.workers.base JOB_FOLDER`. What is not listed here stays unseen."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers.generation.configuration_utils import GenerationConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from lifecycle.chat.adopt import prove
from lifecycle.chat.protocol import load_tokenizer, protocol_of
from lifecycle.errors import InputError
from lifecycle.model import foreign
from lifecycle.model.gguf_file import GgufFile
from lifecycle.model.safetensors_header import INDEX, weights_of
from lifecycle.sealing import FileEntry, sha256_file
from lifecycle.stages.base import Adopted, BaseJob
from lifecycle.workers import job as doorway
from lifecycle.workers.job import Recorder

PROBE = (
    "The sun rises in the east and sets in the west. Water freezes at zero degrees Celsius and boils at one hundred. "
    "Most people learn to read when they are children, and many of them read every day for the rest of their lives."
)
"""A base that was adopted whole finds this easy: SmolLM2-135M needs 2.94 nats a token, chance is 10.8."""

CONFIG, WEIGHTS = "config.json", "weights.gguf"
HEAD, EMBEDDINGS = "lm_head.weight", ("model.embed_tokens.weight", "transformer.wte.weight")


def adopt(job: BaseJob, recorder: Recorder) -> Adopted:
    """Write the base to `out_dir`: its protocol first, which is proven in milliseconds, then its weights."""
    source = job.config.source
    foreign.check_names(source)
    seen = job.scratch_dir / "seen"  # all that transformers gets to see: files listed here, under names of ours
    shutil.rmtree(seen, ignore_errors=True)
    seen.mkdir(parents=True)
    recorder.progress(0, 3, "steps", "reading its protocol")
    gguf = GgufFile(source) if source.is_file() else None
    read = take_gguf(gguf, job) if gguf else take_folder(job)
    prove_protocol(job)
    recorder.progress(1, 3, "steps", "reading weights")
    (seen / (WEIGHTS if gguf else CONFIG)).symlink_to(source.resolve() if gguf else (source / CONFIG).resolve())
    model = load(seen, source, gguf_file=WEIGHTS if gguf else None)
    must_be_whole(model, job)
    loss = probe(model, job.out_dir)
    recorder.progress(2, 3, "steps", "writing weights")
    save(model, job)
    positions = foreign.positions_of(foreign.read_json(job.out_dir / CONFIG))
    return Adopted(
        parameters=model.num_parameters(),
        max_seq_len=min(job.config.max_seq_len or positions, positions),
        loss=loss,
        files={path.name: FileEntry(bytes=path.stat().st_size, sha256=sha256_file(path)) for path in sorted(read)},
    )


def take_folder(job: BaseJob) -> list[Path]:
    """Show transformers a folder's weights if their headers hold, copy the tokenizer; the files that count."""
    source, seen = job.config.source, job.scratch_dir / "seen"
    config = foreign.read_config(source)
    tensors = weights_of(source)
    for path in tensors:
        (seen / path.name).symlink_to(path.resolve())
    index = source / INDEX
    if index.exists():
        (seen / index.name).symlink_to(index.resolve())
    must_have_layers(config, sum(map(len, tensors.values())), source)
    must_tie(config, {name: path for path, held in tensors.items() for name in held}, source)
    settings = foreign.read_json(source / "tokenizer_config.json")
    foreign.read_json(source / "tokenizer.json")
    names = [name for name in foreign.TOKENIZER_FILES if (source / name).is_file()]
    for name in names:
        shutil.copyfile(source / name, job.out_dir / name)
    inside, template = settings.get("chat_template"), job.out_dir / "chat_template.jinja"
    if isinstance(inside, str) and template.exists() and template.read_text(encoding="utf-8") != inside:
        raise InputError(
            f"{source}: expected one chat template, found another in tokenizer_config.json than in "
            f"{template.name}. Remove the one the model was not trained with."
        )
    if isinstance(inside, str):
        template.write_text(inside, encoding="utf-8")
    read = [source / name for name in ("config.json", *names)] + list(tensors)
    return [*read, index] if index.exists() else read


def take_gguf(gguf: GgufFile, job: BaseJob) -> list[Path]:
    """Write a GGUF file's tokenizer and template; the file that counts."""
    gguf.save_tokenizer(job.out_dir)
    return [gguf.path]


def prove_protocol(job: BaseJob) -> None:
    """The template, its own or the given one, is proven for this tokenizer, and golden conversations are sealed."""
    config, template = job.config, job.out_dir / "chat_template.jinja"
    if template.exists() == (config.template is not None):
        found = "one, and another in base.template" if config.template else "none"
        raise InputError(
            f"{config.source}: expected one chat template, found {found}. Give base.template a .jinja file where the "
            "base brings none, and only there."
        )
    if config.template is not None:
        shutil.copyfile(config.template, template)
    prove(job.out_dir)


def load(seen: Path, source: Path, *, gguf_file: str | None) -> Any:
    """The network in fp32, every tensor from the file and none left over: a missing one would be random, unsaid."""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            seen,
            gguf_file=gguf_file,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",  # not what its config names
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # of what a config can hold, transformers meets the most with whatever Python raises
        raise InputError(
            f"{source}: expected a model that transformers can build, found one that ends in {type(error).__name__}: "
            f"{str(error)[:300]}. Mend its config.json, or adopt another model."
        ) from error
    odd = {name.removesuffix("_keys"): sorted(map(str, info[name])) for name in sorted(info) if info[name]}
    if odd:
        kind, names = next(iter(odd.items()))
        raise InputError(
            f"{source}: expected exactly the tensors of a {model.config.model_type}, found {len(names)} {kind}, "
            f"{', '.join(names[:3])} among them. Adopt the folder as its author published it."
        )
    return model


def must_be_whole(model: Any, job: BaseJob) -> None:
    """Weights are numbers, and there is a row of the embedding for every id of the tokenizer."""
    source = job.config.source
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise InputError(f"{source}: expected finite weights, found NaN or Inf in {name}. Download it again.")
    ids = load_tokenizer(job.out_dir).get_vocab()
    rows = model.get_input_embeddings().weight.shape[0]
    if (largest := max(ids.values())) >= rows:
        token = next(token for token, number in ids.items() if number == largest)
        raise InputError(
            f"{source}: expected an embedding for every id, found {rows:,} rows and the id {largest:,} of {token!r}. "
            "Take the tokenizer that belongs to these weights."
        )


def must_have_layers(config: dict[str, Any], tensors: int, source: Path) -> None:
    """No more layers than there are tensors: the network is built before they are looked for, 3 ms and 70 KB each."""
    layers = config.get("n_layer" if config["model_type"] == "gpt2" else "num_hidden_layers", 0)
    if type(layers) is not int or not 0 <= layers <= tensors:
        raise InputError(
            f"{source}: expected at most as many layers as the {tensors:,} tensors of its files, found {layers!r}. "
            "Adopt the folder as its author published it."
        )


def must_tie(config: dict[str, Any], places: dict[str, Path], source: Path) -> None:
    """Where input and output embedding are said to be one, a file that holds both holds the same numbers twice."""
    embedding = next((name for name in EMBEDDINGS if name in places), None)
    tied = config.get("tie_word_embeddings", config["model_type"] == "gpt2")  # GPT-2's default; no other family's here
    if not tied or HEAD not in places or embedding is None:
        return
    both = []
    for name in (HEAD, embedding):
        with safe_open(places[name], framework="pt") as file:
            both.append(file.get_tensor(name))
    if not torch.equal(*both):
        raise InputError(
            f"{source}: expected one embedding (tie_word_embeddings), found {HEAD} and {embedding} with other numbers: "
            "one of them would be dropped. Set tie_word_embeddings to false in config.json if both were trained."
        )


@torch.inference_mode()
def probe(model: Any, folder: Path) -> float:
    """Mean nats a token of the probe text, behind the token that begins a text where there is one."""
    ids = [protocol_of(folder).bos_id, *load_tokenizer(folder).encode(PROBE, add_special_tokens=False).ids]
    ids_BT = torch.tensor([ids])
    return round(float(model(ids_BT, labels=ids_BT).loss), 6)


def save(model: Any, job: BaseJob) -> None:
    """Plain safetensors and a config that names the ids of the protocol and nothing of where the model came from."""
    protocol, config = protocol_of(job.out_dir), model.config
    for name in ("quantization_config", "_model_name_or_path"):
        if hasattr(config, name):
            delattr(config, name)
    model.hf_quantizer = None  # what a GGUF file held is dequantized by now
    ids = {"bos_token_id": protocol.bos_id, "pad_token_id": protocol.pad_id, "eos_token_id": protocol.stop_id}
    for name, number in ids.items():
        setattr(config, name, number)
    config.use_cache = True
    model.generation_config = GenerationConfig(**ids)
    if job.config.precision == "bf16":
        model = model.to(torch.bfloat16)
    model.save_pretrained(job.out_dir)


if __name__ == "__main__":
    doorway.run(BaseJob, adopt)
