# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Play a scenario: molecule under ansible-runner, without the caller's homes and keys around it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...module_utils.redaction import NOTHING, Redactor
from ..activity import note
from ..errors import IntegrityError
from ..settings import is_secret
from ..strict_json import read_object
from .scene import Scene

_TAIL = 20  # lines of output that a person is shown when it fails
_NOISE = re.compile(
    r"\x1b\[[0-9;]*[A-Za-z]|[A-Za-z0-9+/]{60,}=*"
)  # colours, and the events that Ansible's callback writes between its lines
_PLAY = re.compile(r"^PLAY \[([^\[\]\n]{1,100})\]", re.MULTILINE)
_REASON = 1000  # signs
_CONVERGE = "converge.yml"  # deploys the release, in the shipped scenario and in molecule's own way of naming them
_KEPT = ("ANSIBLE_PYTHON_INTERPRETER", "ANSIBLE_HOME", "ANSIBLE_FORKS", "REGISTRY_AUTH_FILE")
_OWN = ("TIDEGATE_", "ANSIBLE_", "MOLECULE_", "SN_")  # how variables begin that are the caller's alone


@dataclass(frozen=True)
class Played:
    """``ended``: how it ended if not well, in words. ``events``: those of every run of Ansible in it; ``output``: its last lines."""

    ended: str
    events: tuple[Mapping[str, Any], ...]
    output: str


def play(scene: Scene, dsl: str, collections: str, isolated: bool, timeout: int, redactor: Redactor = NOTHING) -> Played:
    """Play the scenario of ``scene``. ``collections``: where Ansible looks for collections; ``isolated``: what lab hosts are.

    What ``redactor`` knows is in no text that is to be shown of it.
    """
    from ansible_runner.interface import init_command_config  # noqa: PLC0415 - slow to import, and nothing else needs it

    with _around(scene, dsl, collections, isolated):
        runner = init_command_config(
            "molecule",
            ["test", "--scenario-name", "verify"],
            private_data_dir=str(scene.path),
            host_cwd=str(scene.path),
            ident="verify",
            quiet=True,
            event_handler=_note_play,
            settings={"job_timeout": timeout, "pexpect_timeout": 5},
            timeout=timeout,
        )
        runner.run()
    artifacts = scene.path / "artifacts" / "verify"
    output = _output(artifacts / "stdout", redactor)
    ended = ""
    if runner.status == "timeout":
        ended = f"the scenario did not end within {timeout} s"
    events = tuple(_events(artifacts / "job_events"))
    if not ended and runner.rc != 0:
        why = first_failure(events, redactor)
        ended = f"the scenario ended with status {runner.rc}{f': {why}' if why else ''}"
    return Played(ended, events, output)


def redact_records(scene: Scene, redactor: Redactor) -> None:
    """Take what ``redactor`` knows out of what the runner and the tests left in the scene's directory, once it has been read."""
    for path in (*(scene.path / "artifacts").rglob("*"), *(scene.path / "state").rglob("*"), scene.results):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                shown = redactor.data(data)
                if shown != data:
                    path.write_bytes(shown)


def _note_play(event: Mapping[str, Any]) -> bool:
    """Note which play of the scenario has begun; true, so that the runner keeps the event."""
    for name in _PLAY.findall(str(event.get("stdout") or "")):
        note(f"in the lab: {name}")
    return True


def began(events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the scenario came as far as deploying the release."""
    playbooks = (data.get("playbook") for event in events if isinstance(data := event.get("event_data"), Mapping))
    return any(Path(str(playbook)).name == _CONVERGE for playbook in playbooks)


def first_failure(events: Iterable[Mapping[str, Any]], redactor: Redactor = NOTHING) -> str:
    """What the first task that failed says, of those that don't only say that a command did, which is another run of Ansible."""
    failures = [one for one in events if one.get("event") in ("runner_on_failed", "runner_on_unreachable")]
    for event in sorted(failures, key=lambda one: str(one.get("created"))):
        data: Mapping[str, Any] = event.get("event_data") or {}
        result = data.get("res")
        said = str(result.get("msg", "")) if isinstance(result, Mapping) else ""
        if said and said != "non-zero return code" and not data.get("ignore_errors"):
            where = data.get("host") or data.get("remote_addr")
            return f"{where}: {' '.join(redactor.text(said).split())}"[:_REASON]
    return ""


@contextlib.contextmanager
def _around(scene: Scene, dsl: str, collections: str, isolated: bool) -> Iterator[None]:
    """The environment of a scenario: homes of its own, the DSL to read, and no key or password. The runner writes it into a file."""
    before = dict(os.environ)
    kept = {name: value for name, value in before.items() if name in _KEPT or not (name.startswith(_OWN) or is_secret(name))}
    paths = (os.path.dirname(sys.executable), before.get("PATH", os.defpath))
    pythonpath = (str(scene.path / "python"), before.get("PYTHONPATH", ""))
    try:
        os.environ.clear()
        os.environ.update(
            kept,
            PATH=os.pathsep.join(paths),
            PYTHONPATH=os.pathsep.join(part for part in pythonpath if part),
            PYTEST_ADDOPTS=f"-p tidegate_test_results --rootdir={scene.scenario}",
            ANSIBLE_COLLECTIONS_PATH=collections,
            MOLECULE_EPHEMERAL_DIRECTORY=str(scene.path / "ephemeral"),
            ANSIBLE_CALLBACK_RESULT_FORMAT="yaml",
            MOLECULE_COMMAND_BORDERS="0",
            TIDEGATE_DSL=dsl,
            TIDEGATE_CMDB=str(scene.cmdb),
            TIDEGATE_POLICY=str(scene.path / "policy.yml"),
            TIDEGATE_WORK=str(scene.path),
            XDG_STATE_HOME=str(scene.path / "state"),  # what a role prints here belongs to none of the caller's deployments
            TIDEGATE_BECOME="true" if isolated else "false",
            TIDEGATE_TEST_RESULTS=str(scene.results),
        )
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _events(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Each event once. Those of a run of Ansible inside another stay partial: only the outer one's output is taken apart."""
    seen = set()
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, IntegrityError):
            event = read_object(path.read_bytes(), "an event")
            if event.get("uuid") not in seen:
                seen.add(event.get("uuid"))
                yield event


def _output(path: Path, redactor: Redactor) -> str:
    try:
        text = redactor.text(_NOISE.sub("", path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return ""
    printable = ("".join(sign if sign.isprintable() or sign == "\t" else " " for sign in line).rstrip() for line in text.splitlines())
    return "\n".join([line for line in printable if line and line != "e30="][-_TAIL:])  # an event without data
