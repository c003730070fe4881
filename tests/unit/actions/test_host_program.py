# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a step reaches the host program: by what command, with what on its standard input, in how many round trips."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host_program import NoAnswerError, host_program, run_on_host


class Shell:
    """A connection's shell: its temporary directory on the host."""

    def __init__(self, folder: Path) -> None:
        self.tmpdir: str | None = None
        self.folder = folder

    @staticmethod
    def join_path(*parts: str) -> str:
        return "/".join(parts)


class Action:
    """A task's action as far as a step uses it; its host is this machine, and what it is to run goes through two shells."""

    def __init__(self, tmp_path: Path, *, piped: bool = True, environment: str = "", delegate_to: str | None = None) -> None:
        self._connection = SimpleNamespace(_shell=Shell(tmp_path))
        self._task = SimpleNamespace(delegate_to=delegate_to)
        self._templar = Templar(DataLoader(), variables={"minor": "x"})
        self.piped, self.environment = piped, environment
        self.commands: list[str] = []
        self.sent: list[bytes] = []
        self.before = self.behind = ""

    def _is_pipelining_enabled(self, _style: str) -> bool:
        return self.piped

    def _compute_environment_string(self) -> str:
        return self.environment

    def _make_tmp_path(self) -> str:
        self._connection._shell.tmpdir = str(self._connection._shell.folder)
        return str(self._connection._shell.folder)

    def _transfer_data(self, path: str, data: bytes) -> None:
        Path(path).write_bytes(data)
        self.sent.append(data)

    def _fixup_perms2(self, paths: list[str], execute: bool) -> None:
        assert all(Path(path).exists() for path in paths)
        assert not execute

    def _low_level_execute_command(self, command: str, in_data: bytes | None) -> dict[str, Any]:
        self.commands.append(command)
        if in_data is not None:
            self.sent.append(in_data)
        line = f"{self.before}; {command}" if self.before else command
        become = f"/bin/sh -c {shlex.quote(f'echo BECOME-SUCCESS ; {line}')}{self.behind}"
        done = subprocess.run(["/bin/sh", "-c", become], input=in_data or b"", capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}


def ask(action: Action, root: Path, variables: dict[str, Any] | None = None, **how: Any) -> Any:
    named = {"ansible_python_interpreter": sys.executable} if variables is None else variables
    return run_on_host(action, {"operation": "release_facts", "root": str(root)}, named, **how)


@pytest.mark.parametrize("piped", [True, False])
def test_a_host_that_has_the_program_takes_one_round_trip_and_one_that_has_not_two(tmp_path: Path, piped: bool) -> None:
    first, second = Action(tmp_path, piped=piped), Action(tmp_path, piped=piped)
    assert ask(first, tmp_path / "root") == {"releases": []}
    assert len(first.commands) == 2
    assert ask(second, tmp_path / "root") == {"releases": []}
    assert len(second.commands) == 1
    assert len(second.sent[0]) < 200


@pytest.mark.parametrize("how", [{"along": True}, {"pack": b"x" * (2 << 20)}])
def test_a_host_that_can_not_have_it_gets_it_at_once(tmp_path: Path, how: dict[str, Any]) -> None:
    action = Action(tmp_path)
    assert ask(action, tmp_path / "root", **how) == {"releases": []}
    assert len(action.commands) == 1


def test_who_only_looks_leaves_nothing(tmp_path: Path) -> None:
    assert ask(Action(tmp_path), tmp_path / "root", keep=False) == {"releases": []}
    assert not (tmp_path / "root").exists()


def test_the_task_s_environment_is_the_program_s(tmp_path: Path) -> None:
    (tmp_path / "python").write_text(f'#!/bin/sh\necho "$COLOUR" >{tmp_path}/seen\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    for variables in ({"ansible_python_interpreter": f"{tmp_path}/python"}, {"ansible_python_interpreter": "auto"}):
        action = Action(tmp_path, environment="COLOUR='light blue' OTHER=1")
        action.before = f"alias x=y; PATH={tmp_path}:$PATH"
        (tmp_path / "python3").unlink(missing_ok=True)
        (tmp_path / "python3").symlink_to("python")
        ask(action, tmp_path / "root", {**variables, "ansible_interpreter_python_fallback": ["nosuch", "python3"]}, along=True)
        assert (tmp_path / "seen").read_text() == "light blue\n"
        (tmp_path / "seen").unlink()


@pytest.mark.parametrize(
    ("variables", "begin"),
    [
        ({"ansible_python_interpreter": trust_as_template("/opt/python3.{{ minor }}")}, "/opt/python3.x -I -S -c "),
        ({"ansible_python_interpreter": "/usr/bin/env python3"}, "/usr/bin/env python3 -I -S -c "),
        ({"ansible_facts": {"discovered_interpreter_python": "/found"}}, "/found -I -S -c "),
        ({"ansible_python_interpreter": "auto_silent", "ansible_facts": {}}, "for python in "),
        ({}, "for python in "),
        ({"ansible_python_interpreter": "/a", "ansible_delegated_vars": {"other": {"ansible_python_interpreter": "/b"}}}, "/b -I -S -c "),
    ],
)
def test_it_is_started_by_the_python_that_ansible_would_take(tmp_path: Path, variables: dict[str, Any], begin: str) -> None:
    action = Action(tmp_path, delegate_to="other" if "ansible_delegated_vars" in variables else None)
    action.before = "exit 1"
    with pytest.raises(NoAnswerError):
        ask(action, tmp_path / "root", variables)
    assert action.commands[0].startswith(begin)


def test_no_python_and_an_old_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError) as caught:
        ask(Action(tmp_path), tmp_path / "root", {"ansible_interpreter_python_fallback": ["nosuch"]})
    assert caught.value.last_words().startswith("no Python was found, install 3.9 or newer or set ansible_python_interpreter")
    (tmp_path / "old").write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 6); exec(sys.argv[4])' \"$@\"\n"
    )
    (tmp_path / "old").chmod(0o755)
    with pytest.raises(NoAnswerError) as caught:
        ask(Action(tmp_path), tmp_path / "root", {"ansible_python_interpreter": f"{tmp_path}/old"})
    assert "its Python is 3.6, and 3.9 or newer is needed" in caught.value.last_words()


def test_a_name_without_a_python_behind_it_is_passed_over(tmp_path: Path) -> None:
    """As pyenv has them, for each Python that is installed and not chosen here."""
    (tmp_path / "shim").write_text("#!/bin/sh\necho pyenv: python3.10: command not found >&2\nexit 127\n")
    (tmp_path / "shim").chmod(0o755)
    candidates = [f"{tmp_path}/shim", sys.executable]
    assert ask(Action(tmp_path), tmp_path / "root", {"ansible_interpreter_python_fallback": candidates}) == {"releases": []}


def test_what_else_a_login_prints_does_not_matter(tmp_path: Path) -> None:
    action = Action(tmp_path)
    action.before, action.behind = "echo '{ welcome }'; printf x", "; echo '{}'; echo tidegate-; printf x"
    assert ask(action, tmp_path / "root") == {"releases": []}


def test_what_a_host_says_instead_of_an_answer_is_quoted_without_settings(tmp_path: Path) -> None:
    action = Action(tmp_path)
    action.before = "echo hello; echo 'cat: /srv/s3cret-token: No space left on device' >&2; echo more >&2; exit 3"
    with pytest.raises(NoAnswerError) as caught:
        ask(action, tmp_path / "root")
    redactor = Redactor({"token": "s3cret-token"})
    assert caught.value.last_words(redactor) == "cat: /srv/${token}: No space left on device; make room there"
    for length in range(4, 12):  # the value is not cut in two before it is looked for
        assert "cret-token"[-length:] not in NoAnswerError("", "s3cret-token" + "." * (65536 - length), 1).last_words(redactor)


def test_a_program_that_is_damaged_on_the_way_is_not_run(tmp_path: Path) -> None:
    action = Action(tmp_path)
    whole = host_program().pack()
    execute = action._low_level_execute_command
    spoilt = whole[200:300]
    action._low_level_execute_command = lambda command, in_data: execute(command, (in_data or b"").replace(spoilt, bytes(100)))  # type: ignore[method-assign]
    with pytest.raises(NoAnswerError) as caught:
        ask(action, tmp_path / "root")
    assert "did not arrive whole" in caught.value.last_words()
    assert not (tmp_path / "root").exists()
