"""The chat protocol: special tokens, template and tokenizer as one folder with one digest.

Two artifacts with the same protocol digest turn the same conversation into the same ids. A folder with `protocol.json`
speaks a foreign protocol, which was proven (`chat.prove`); one without speaks ours.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import tokenizers
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.chat import panics
from lifecycle.chat.definitions import DEFINITION, SYSTEM
from lifecycle.chat.structure import ANSWER, ASSISTANT, FINISH, START, TOOL, Structure
from lifecycle.errors import ContractError, InputError
from lifecycle.sealing import sha256_file

BOS, PAD, END = "<|bos|>", "<|pad|>", "<|end|>"
ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = (BOS, PAD, END, *ROLE_TOKENS.values())
"""In the order of their ids, from 0. Padding has its own token: padding with <|end|> would mask it out of the loss."""

CALL = "<|call|>"
TOOL_TOKENS = ("<|tool|>", CALL)
"""Behind the others, so that a tokenizer with tools changes none of their ids."""

TEMPLATE = Path(__file__).with_name("template.jinja")
TOOLS_TEMPLATE = Path(__file__).with_name("template_with_tools.jinja")
GOLDEN_FILE = "golden.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", GOLDEN_FILE)
PROVEN_FILE = "protocol.json"


class Protocol(NamedTuple):
    """The ids a model must know, and the digest that says two folders speak alike."""

    bos_id: int
    pad_id: int
    stop_id: int
    digest: str


class Proven(BaseModel):
    """A foreign protocol: the table its template is, for exactly these files."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = 1
    structure: Structure
    bos_id: int = Field(description="Stands before a text; where there is no BOS token, the one that ends a text.")
    pad_id: int
    stop_id: int
    files: dict[str, str] = Field(description="SHA-256 of the files it was proven for.")


def special_tokens(*, tools: bool) -> tuple[str, ...]:
    """Of our protocol, in the order of their ids."""
    return (*SPECIAL_TOKENS, *TOOL_TOKENS) if tools else SPECIAL_TOKENS


def own(*, tools: bool = False) -> Structure:
    """Our protocol: <|bos|>, then <|role|>content<|end|> per message; where an answer is asked for, <|assistant|>.

    With tools an answer is its content, then <|call|>{"name": ..., "arguments": {...}} for each call, then <|end|>; and
    a system turn its content, then <|tool|>{"name": ..., "description": ..., "parameters": {...}} for each definition.
    """
    roles = {**ROLE_TOKENS, TOOL: TOOL_TOKENS[0]} if tools else ROLE_TOKENS
    others = {role: token for role, token in roles.items() if role != ASSISTANT}
    following = {**others, ANSWER: roles[ASSISTANT], FINISH: ""}
    joins = {START: {right: BOS + text for right, text in following.items()}, ANSWER: {ASSISTANT: ""}}
    joins |= {left: {right: END + text for right, text in following.items()} for left in roles}
    if not tools:
        return Structure(joins=joins, stop=END)
    call = "call.function"
    joins[call] = dict(joins[ASSISTANT])
    for left in (ANSWER, ASSISTANT, call):
        joins[left][call] = CALL
    joins[DEFINITION] = dict(joins[SYSTEM])
    joins[START][DEFINITION] = BOS + roles[SYSTEM] + roles[TOOL]
    for left in (SYSTEM, DEFINITION):
        joins[left][DEFINITION] = roles[TOOL]
    return Structure(joins=joins, stop=END, call=(call,), tool=(TOOL,), definition="shown")


def structure_of(folder: Path) -> Structure:
    """What the folder's template writes around contents. Of ours, the one with tools names the token of a call."""
    found = proven(folder)
    if found is not None:
        return found.structure
    return own(tools=CALL in (folder / "chat_template.jinja").read_text(encoding="utf-8"))


def proven(folder: Path) -> Proven | None:
    """The foreign protocol of a folder, if it has one; its files are those it was proven for."""
    try:
        found = Proven.model_validate_json((folder / PROVEN_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ContractError(
            f"{folder}: expected a proven protocol in {PROVEN_FILE}, found {type(error).__name__}. Adopt the base "
            "again."
        ) from error
    for name, digest in found.files.items():
        here = sha256_file(folder / name) if (folder / name).is_file() else "nothing"
        if here != digest:
            raise ContractError(
                f"{folder}: expected the {name} that its protocol was proven for, {digest[:12]}, found {here[:12]}. "
                "Put the file back, or adopt the base again."
            )
    return found


def protocol_of(folder: Path) -> Protocol:
    """The protocol of a tokenizer folder, computed from its bytes."""
    found = proven(folder)
    if found is not None:
        return Protocol(found.bos_id, found.pad_id, found.stop_id, sha256_file(folder / PROVEN_FILE))
    ids = special_ids(folder)
    parts = {"ids": ids, **{name: sha256_file(folder / name) for name in ("tokenizer.json", "chat_template.jinja")}}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Protocol(ids["bos_token"], ids["pad_token"], ids["eos_token"], digest)


def special_ids(folder: Path) -> dict[str, int]:
    """Ids of the tokens that begin, pad and end, as the folder's two JSON files name them."""
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
        added = json.loads((folder / "tokenizer.json").read_bytes())["added_tokens"]
        id_of = {token["content"]: int(token["id"]) for token in added}
        return {name: id_of[config[name]] for name in ("bos_token", "pad_token", "eos_token")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: expected a tokenizer folder ({', '.join(TOKENIZER_FILES)}) that names its bos, pad and eos "
            f"tokens; found {error!r}. Rerun the tokenizer stage."
        ) from error


def load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """The fast tokenizer of a folder, without transformers."""
    with panics.refused(folder):
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
