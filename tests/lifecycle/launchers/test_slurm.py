"""What sbatch is given: checked words and quoted values. Jobs that really run are in tests/system/test_slurm.py."""

import shlex
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from lifecycle.errors import ConfigError
from lifecycle.launchers import slurm
from lifecycle.launchers.board import Board
from lifecycle.launchers.shape import Handle, Resources
from lifecycle.launchers.slurm import Slurm, SlurmSettings, script

TWO = Resources(nodes=2, ranks=8, threads=4, accelerators=8)


def rendered(tmp_path: Path, folder: str = "slurm", **settings: object) -> str:
    call, home = Board(tmp_path / folder).post("worker", tmp_path / "job", "pretrain-1", TWO)
    return script(call, home, SlurmSettings(**settings))


def test_a_script_asks_for_what_the_job_and_the_settings_say(tmp_path):
    lines = rendered(tmp_path, partition="gpu", account="llm", gres="gpu:h100:8", time="1-12:00:00", save_seconds=300)
    asked = {line.removeprefix("#SBATCH ") for line in lines.splitlines() if line.startswith("#SBATCH")}
    assert asked >= {"--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=32", "--partition=gpu", "--account=llm"}
    assert asked >= {"--gres=gpu:h100:8", "--time=1-12:00:00", "--signal=B:TERM@300", "--requeue", "--export=NONE"}
    assert asked >= {"--job-name=pretrain-1", "--dependency=singleton"}


@pytest.mark.parametrize("value", ["a b", "$(id)", "a;id", "--wrap=id", "a\nid", "`id`", "a'b", ""])
@pytest.mark.parametrize("name", ["partition", "account", "qos", "constraint", "gres", "time", "memory"])
def test_a_value_that_a_shell_would_read_is_refused(name, value):
    with pytest.raises(ValidationError):
        SlurmSettings(**{name: value})


@pytest.mark.parametrize("name", ["path", "A B", "A=B", "A;id", ""])
def test_a_variable_has_the_name_of_one(name):
    with pytest.raises(ValidationError):
        SlurmSettings(environment={name: "value"})


def test_a_shell_reads_odd_paths_and_values_as_they_are(tmp_path, monkeypatch):
    value = "$(touch /tmp/never) `id` \"'; exit 7 #"
    text = rendered(tmp_path, folder="it's $HOME; `id`", environment={"SAID": value})
    before, _, _ = text.partition("cd ")
    said = subprocess.run(
        ["bash", "-c", f'{before}\nprintf "%s\\n%s" "$SAID" "$LIFECYCLE_CALL"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.split("\n")[0] == value
    assert Path(said.split("\n")[1]).parent == tmp_path / "it's $HOME; `id`"
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_accelerators_are_the_schedulers_affair(tmp_path):
    call, _ = Board(tmp_path).post("worker", tmp_path, "pretrain-1", TWO)
    assert call.accelerators == 0


def test_without_slurm_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="expected Slurm's commands on this machine, found no squeue"):
        Slurm(tmp_path / "slurm", SlurmSettings()).reattach("pretrain-1")


def test_a_controller_that_does_not_answer_says_nothing_about_the_job(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    status = Slurm(tmp_path / "slurm", SlurmSettings())._ask(Handle(key="k", id="7:k.1"))
    assert status.state == "waiting"
    assert "Unable to contact slurm controller" in status.reason


@pytest.mark.parametrize(
    ("accounting", "reason"),
    [("echo 'NODE_FAIL|None|1:0'", "Slurm: node_fail (None)"), ("exit 1", "Slurm forgot the job (job 7)")],
)
def test_of_a_job_the_controller_forgot_the_accounting_is_asked(tmp_path, monkeypatch, accounting, reason):
    fake(tmp_path, monkeypatch, "scontrol", "echo 'Invalid job id specified' >&2; exit 1")
    fake(tmp_path, monkeypatch, "sacct", accounting)
    status = Slurm(tmp_path / "slurm", SlurmSettings())._ask(Handle(key="k", id="7:k.1"))
    assert (status.state, status.exit_code) == ("ended", 1)
    assert status.reason.startswith(reason)


def test_variables_of_slurm_do_not_override_the_script(tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    fake(tmp_path, monkeypatch, "squeue", "env")
    said = slurm._run(["squeue"])
    assert "SBATCH_PARTITION" not in said
    assert "SLURM_CONF=/etc/slurm/slurm.conf" in said


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    """A command of that name, first in PATH."""
    commands = tmp_path / "commands"
    commands.mkdir(exist_ok=True)
    (commands / name).write_text(f"#!/bin/sh\n{body}\n")
    (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{shlex.quote(str(commands))}:/usr/bin:/bin")
