"""What a local task file may not say, and how its parts come together."""

import pytest

from lifecycle.errors import InputError
from lifecycle.evaluation.harness_task import read_task, task_files, task_rows

TASK = """include: base.yaml
task: sections
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: choices
doc_to_target: gold
"""
BASE = "dataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\ntest_split: test\noutput_type: other\n"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "task.yaml").write_text(TASK)
    (folder / "base.yaml").write_text(BASE)
    (folder / "rows.jsonl").write_text('{"q": "a?", "choices": ["b", "c"], "gold": 0}\n')
    (tmp_path / "secret.jsonl").write_text('{"q": "secret"}\n')
    return folder


def test_a_file_wins_over_what_it_includes_and_names_all_its_files(folder):
    said = read_task(folder / "task.yaml")
    assert (said["output_type"], said["test_split"]) == ("multiple_choice", "test")
    assert [file.name for file in task_files(folder / "task.yaml")] == ["base.yaml", "rows.jsonl"]
    assert task_rows(folder / "task.yaml") == {"test": [{"q": "a?", "choices": ["b", "c"], "gold": 0}]}


def test_rows_may_be_one_json_array(folder):
    (folder / "rows.json").write_text('[{"q": 1}, {"q": 2}]')
    (folder / "base.yaml").write_text(BASE.replace("rows.jsonl", "rows.json"))
    assert task_rows(folder / "task.yaml") == {"test": [{"q": 1}, {"q": 2}]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("process_docs: !function utils.go", "!function"),
        ("x: !!python/object/apply:os.system [true]", "python"),
        ("class: !function utils.Task", "!function"),
        ("process_docs: utils.go", "process_docs"),
        ("process_results: utils.go", "process_results"),
        ("custom_dataset: utils.go", "custom_dataset"),
        ("unsafe_code: true", "unsafe_code"),
        ("use_prompt: promptsource:x", "use_prompt"),
        ("dataset_path: some/repository", "dataset_path: json"),
        ("dataset_kwargs: {data_files: {test: ../secret.jsonl}}", "files within"),
        ("dataset_kwargs: {data_files: {test: /etc/passwd}}", "files within"),
        ("dataset_kwargs: {data_files: {test: link.jsonl}}", "files within"),
        ("dataset_kwargs: {data_files: {test: 'https://example.org/rows.jsonl'}}", "files within"),
        (
            "dataset_kwargs: {data_files: {test: rows.jsonl}, trust_remote_code: true}\ninclude: ../task/x.yaml",
            "within",
        ),
        ("metric_list: [{metric: accuracy, hf_evaluate: true}]", "hf_evaluate"),
        ("fewshot_config: {process_docs: utils.go}", "fewshot_config"),
        ("include: task.yaml", "includes itself"),
        ("metadata: [&a [1, 2], *a]", "aliases"),
    ],
)
def test_what_runs_code_or_leaves_the_folder_is_refused(folder, line, message):
    (folder / "link.jsonl").symlink_to(folder.parent / "secret.jsonl")
    kept = [old for old in TASK.splitlines() if old.split(":")[0] not in line.split("\n")[-1]]
    (folder / "task.yaml").write_text("\n".join([*kept, line]) + "\n")
    with pytest.raises(InputError, match=message):
        task_files(folder / "task.yaml")
