"""What is released is what was evaluated, byte for byte, and nothing that did not pass gets this far."""

import json
from functools import partial
from typing import ClassVar

import orjson
import pytest
from pydantic import ValidationError

from lifecycle.artifacts import Checkpoint, Corpus, Demonstrations, Release, SourceCount
from lifecycle.errors import ContractError, DamagedArtifact, PromotionBlocked
from lifecycle.evaluation.kinds.drift import RECORDS, answer_record
from lifecycle.evaluation.rules import Floor
from lifecycle.sealing import StageConfig
from lifecycle.stages.gate import GateConfig, decide_gate
from lifecycle.stages.release import ReleaseConfig, release

CONFIG = ReleaseConfig(name="records-1m", licence="apache-2.0", description="Reads one field out of a record.")
METRIC = "contract.greedy_correct"


@pytest.fixture
def judged(make_report, answer, tmp_path):
    """A report on a checkpoint and the gate's decision, with `right` of 100 items right and half of them asked."""

    def judge(checkpoint: Checkpoint, right=90):
        report = make_report([answer(n, correct=n < right) for n in range(100)], checkpoint=checkpoint.digest)
        folder = tmp_path / f"decision-{right}-{checkpoint.digest[:6]}"
        folder.mkdir()
        gate = GateConfig(rules=(Floor(metric=METRIC, at_least=0.5),))
        return decide_gate(gate, report, out_dir=folder), report

    return judge


def test_the_release_is_the_checkpoint_byte_for_byte_with_a_card(sft, judged, out_dir):
    decision, report = judged(sft)
    made = release(CONFIG, sft, decision, report, out_dir=out_dir)
    for name, entry in sft.manifest.files.items():
        assert made.manifest.files[f"model/{name}"] == entry
    added = {name for name in made.manifest.files if name.removeprefix("model/") not in sft.manifest.files}
    assert added == {"lineage.json", "model/README.md"}
    assert made.scores[METRIC] == report.scores[METRIC].mean == 0.9
    assert Release.load(out_dir) == made


def test_a_checkpoint_whose_drift_was_watched_is_released_with_that_evidence(sft, judged, out_dir):
    watched = with_file(sft, RECORDS, json.dumps(answer_record("answer-0", kl=0.3, tokens=8)).encode())
    made = release(CONFIG, watched, *judged(watched), out_dir=out_dir)
    assert made.manifest.files[f"model/{RECORDS}"] == watched.manifest.files[RECORDS]


def test_the_card_says_what_it_scored_and_how_to_load_it(sft, judged, out_dir):
    made = release(CONFIG, sft, *judged(sft), out_dir=out_dir)
    card = (made.model_dir / "README.md").read_text()
    front, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert 'license: "apache-2.0"' in front
    # Wilson at 95 % for 90 of 100.
    assert "| contract.greedy_correct | 0.9000 | 0.8238 to 0.9510 | 100 | 0 | higher |" in body
    assert "| contract.majority_answer | 0.2400 |" in body
    assert 'AutoModelForCausalLM.from_pretrained("path/to/model")' in body
    assert f"| Checkpoint | made_up | {sft.digest} |" in body


def test_text_from_outside_is_no_markup_in_the_card(sft, judged, out_dir):
    hostile = "<img src=x onerror=alert(1)> [here](http://evil) | cell\n# Title\n---\nlicense: mit"
    config = CONFIG.model_copy(update={"description": hostile, "intended_use": hostile})
    card = (release(config, sft, *judged(sft), out_dir=out_dir).model_dir / "README.md").read_text()
    assert "<img" not in card
    assert "[here](" not in card
    assert "\n# Title" not in card
    assert card.count("\n---\n") == 1


@pytest.mark.parametrize("name", ["../up", "a/b", "", "<b>", "a b", "x: y"])
def test_a_name_that_is_no_name_is_refused(name):
    with pytest.raises(ValidationError):
        ReleaseConfig(name=name, licence="mit")


def test_a_blocked_checkpoint_is_not_released(sft, judged, out_dir):
    decision, report = judged(sft, right=20)
    assert decision.verdict == "BLOCK"
    with pytest.raises(PromotionBlocked, match=r"found BLOCK: contract.greedy_correct FAIL. Train a better one"):
        release(CONFIG, sft, decision, report, out_dir=out_dir)
    assert not list(out_dir.iterdir())


def test_an_inconclusive_one_is_not_released_either(sft, judged, out_dir):
    decision, report = judged(sft, right=52)
    with pytest.raises(PromotionBlocked, match="found INCONCLUSIVE"):
        release(CONFIG, sft, decision, report, out_dir=out_dir)


def test_a_decision_for_another_checkpoint_is_refused(base, sft, judged, out_dir):
    decision, report = judged(base)
    assert base.digest != sft.digest
    with pytest.raises(ContractError, match="the decision is for checkpoint"):
        release(CONFIG, sft, decision, report, out_dir=out_dir)


def test_a_decision_on_another_report_is_refused(sft, judged, make_report, answer, out_dir):
    decision, _ = judged(sft)
    other = make_report([answer(n) for n in range(100)], checkpoint=sft.digest, suites="t" * 64)
    with pytest.raises(ContractError, match="Gate this checkpoint"):
        release(CONFIG, sft, decision, other, out_dir=out_dir)


def test_weights_changed_after_the_gate_are_refused(sft, judged, out_dir):
    decision, report = judged(sft)
    file = sft.path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedArtifact, match=r"model.safetensors"):
        release(CONFIG, sft, decision, report, out_dir=out_dir)


class Added(StageConfig):
    stage = "added"


def with_file(checkpoint: Checkpoint, name: str, content: bytes) -> Checkpoint:
    """The checkpoint sealed again with one more file."""
    (checkpoint.path / "manifest.json").unlink()
    (checkpoint.path / name).write_bytes(content)
    return Checkpoint(path=checkpoint.path, **checkpoint.facts()).seal(Added())


@pytest.mark.parametrize("name", ["training_args.bin", "modeling_x.py", "weights.pt", "optimizer.pkl", "run"])
def test_files_that_can_carry_code_are_refused(sft, judged, out_dir, name):
    sft = with_file(sft, name, b"")
    with pytest.raises(ContractError, match=f"expected only .* files in a checkpoint, found '{name}'"):
        release(CONFIG, sft, *judged(sft), out_dir=out_dir)


def test_a_config_that_names_code_is_refused(sft, judged, out_dir):
    config = json.loads((sft.path / "config.json").read_text())
    sft = with_file(sft, "config.json", orjson.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ContractError, match=r"found 'auto_map' in 'config\.json'"):
        release(CONFIG, sft, *judged(sft), out_dir=out_dir)


def test_the_same_release_has_the_same_bytes(sft, judged, tmp_path):
    decision, report = judged(sft)
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digests.add(release(CONFIG, sft, decision, report, out_dir=tmp_path / name).digest)
    assert len(digests) == 1


def test_lineage_and_licences_are_read_from_the_store(sft, judged, tmp_path, out_dir):
    """In a store the chain is followed to its beginning; the corpus's licences reach the card."""
    shelf = tmp_path / "store" / "artifacts"
    counts = SourceCount(licence="CC0-1.0", read=9, kept=8, kept_bytes=7000)
    corpus = Corpus(
        path=shelf / "corpus" / "x",
        train_documents=7,
        validation_documents=1,
        sources={"moby|dick": counts},
        suites_digest="s",
    )
    corpus.path.mkdir(parents=True)
    corpus = corpus.seal(Added())
    corpus.path.rename(corpus.path.with_name(f"{corpus.fingerprint[:16]}-0"))
    corpus = Corpus.load(corpus.path.with_name(f"{corpus.fingerprint[:16]}-0"))
    placed = shelf / "sft" / "y"
    placed.parent.mkdir()
    (sft.path / "manifest.json").unlink()
    sft.path.rename(placed)
    sft = Checkpoint(path=placed, **sft.facts()).seal(Added(), corpus)
    made = release(CONFIG, sft, *judged(sft), out_dir=out_dir)
    chain = orjson.loads((out_dir / "lineage.json").read_bytes())
    assert [entry["kind"] for entry in chain] == ["Corpus", "Checkpoint", "EvalReport", "GateDecision"]
    assert chain[1]["inputs"][0]["digest"] == chain[0]["digest"]
    assert not any("seconds" in entry for entry in chain)
    assert "| moby&#124;dick | CC0-1.0 | 8 | 7000 |" in (made.model_dir / "README.md").read_text()


class Adopted(StageConfig):
    stage: ClassVar[str] = "base"
    origin: str = "a package | of somebody"
    licence: str = "Apache-2.0"


class Talked(StageConfig):
    stage: ClassVar[str] = "demonstrations"
    train: None = None
    licence: str = "unstated"
    sources: tuple[dict[str, str], ...] = (
        {"name": "poems", "licence": "CC0-1.0"},
        {"name": "facts", "licence": "ODbL"},
    )


def test_the_card_names_an_adopted_base_and_every_source_of_the_demonstrations(sft, judged, tmp_path, out_dir):
    """Recipe smollm2 has neither a corpus nor one file of demonstrations: its card once ended its run."""

    def shelved(noun, config, *inputs):
        folder = tmp_path / "store/artifacts" / config.stage / "made"
        folder.mkdir(parents=True)
        sealed = noun(path=folder).seal(config, *inputs)
        placed = folder.with_name(f"{sealed.fingerprint[:16]}-0")
        folder.rename(placed)
        return type(sealed).load(placed)

    base = shelved(partial(Checkpoint, **{**sft.facts(), "role": "base"}), Adopted())
    talk = shelved(partial(Demonstrations, train_rows=1, dev_rows=1, dropped={}, suites_digest="0"), Talked())
    placed = tmp_path / "store/artifacts/sft/made"
    placed.parent.mkdir()
    (sft.path / "manifest.json").unlink()
    sft.path.rename(placed)
    sft = Checkpoint(path=placed, **sft.facts()).seal(Added(), base, talk)
    card = (release(CONFIG, sft, *judged(sft), out_dir=out_dir).model_dir / "README.md").read_text()
    assert "Adopted base: a package &#124; of somebody, licence Apache-2.0." in card
    assert "Demonstrations: poems, licence CC0-1.0." in card
    assert "Demonstrations: facts, licence ODbL." in card
    assert "A decoder of type llama with" in card


def test_transformers_loads_the_release_and_it_answers_as_the_checkpoint_did(sft, judged, out_dir):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = release(CONFIG, sft, *judged(sft), out_dir=out_dir)
    said = []
    for folder in (sft.path, made.model_dir):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        messages = [{"role": "user", "content": "section: libs"}]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        said.append(model.generate(**prompt, max_new_tokens=8, do_sample=False).tolist())
    assert said[0] == said[1]
