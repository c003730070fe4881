# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ansible-playbook within this one, for the play of a release's own role.

It gets what this run was given: inventory, extra variables, connection options, passwords and vault secrets, none of which touches a disk
or an argument that it did not touch before. What it does is written by the callback ``receipt`` as it happens, and read here; what it
prints goes to a log of its owner's alone.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from ansible import constants, context

from ...module_utils.processes import Processes, below, find_prctl, start_time
from ..dsl.role_documents import Budget, pairs, read, texts_of
from ..errors import TidegateError
from ..files import make_folder
from ..rollout.holder import DRIVER, Holder
from ..rollout.role_play import MARK, RECEIPTS, Receipt
from .workers import die_with

ORDER = "TIDEGATE_RECEIPTS"
"""The variable of the environment by which the callback gets its order: a JSON file with ``receipts``, ``cmdb``, ``deployment``, ``token``
and ``end``, the name of the last task. Without a deployment, it is nobody's turn but this run's."""

_C: Any = constants  # made when they are imported, so nothing has types for them
_CALLBACK = "tidegate.release.receipt"
_GONE = 10.0  # seconds until what was killed has to be gone
_LOOK = 0.1  # seconds between two looks at whether it has ended
_VALUES = {
    "connection": "--connection",
    "private_key_file": "--private-key",
    "remote_user": "--user",
    "ssh_common_args": "--ssh-common-args",
    "ssh_extra_args": "--ssh-extra-args",
    "sftp_extra_args": "--sftp-extra-args",
    "scp_extra_args": "--scp-extra-args",
    "become_method": "--become-method",
    "become_user": "--become-user",
}
# What a play of ours must not be cut by, and what would ask a terminal that is not there.
_UNSET = ("ANSIBLE_RUN_TAGS", "ANSIBLE_SKIP_TAGS", "ANSIBLE_STRATEGY")
_SET = {
    "ANSIBLE_ASK_PASS": "false",
    "ANSIBLE_ASK_VAULT_PASS": "false",
    "ANSIBLE_BECOME_ASK_PASS": "false",
    "ANSIBLE_LOG_PATH": os.devnull,
    "ANSIBLE_NOCOLOR": "true",
    "ANSIBLE_RETRY_FILES_ENABLED": "false",
    "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
}


class NotBegunError(TidegateError):
    """It is known that none of its tasks was begun."""


@dataclass
class RolePlay:
    """A play to be run. ``steps``: by the names of its parts, for how many seconds each may take. ``variables`` go before all others."""

    play: Mapping[str, Any]
    end: str
    steps: Mapping[str, float]
    variables: Mapping[str, Any]
    roles_path: Sequence[str]
    log: Path


@dataclass
class Seen:
    """What was seen of it: its receipts, how many tasks failed on each host, as far as that was said, and how it ended."""

    receipts: list[Receipt] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    ended: str = ""
    step: str = ""  # the one that is under way


def run_play(action: Any, wanted: RolePlay, order: Mapping[str, Any], work: Path, watch: Callable[[], None]) -> Seen:
    """Run a play in a process of its own and say what was seen of it.

    ``order``: ``cmdb``, ``deployment`` (``None`` for none) and ``token``, for the look at the fencing token before each task; ``work``: a
    directory of this user's alone. ``watch`` is called all the time; what it raises ends the run and is raised. Raises
    :class:`NotBegunError` when it can't be started.
    """
    name = secrets.token_hex(4)
    play, receipts, orders, variables = (work / f"{name}.{kind}" for kind in ("yml", "receipts", "json", "vars"))
    seen = Seen()
    # JSON is YAML; and Ansible templates what stands in it as in any play.
    _write(play, [wanted.play])
    _write(variables, {**wanted.variables, RECEIPTS: str(receipts)})
    receipts.touch(0o600)
    _write(orders, {**order, "receipts": str(receipts), "end": wanted.end})
    mark = str(wanted.play["environment"][MARK])
    find_prctl()  # looking for it takes long, and must not be done between fork and exec
    try:
        with _log(wanted.log) as log, _secrets(action, work) as (descriptors, options, identities):
            log.write(f"--- {wanted.play['name']}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ansible", "playbook", str(play), *_options(), *options, "-e", f"@{variables}"],
                env=_environment(work, orders, mark, identities, wanted.roles_path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=descriptors,
                start_new_session=True,  # what interrupts this run is for this run to decide about
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - a worker has one thread that matters, and these are system calls
            )
    except OSError as error:
        raise NotBegunError(
            f"the release's role can't be run ({error.filename or 'ansible-playbook'}: {error.strerror}); mend that and run this again"
        ) from error
    try:
        _follow(process, receipts, wanted.steps, seen, watch)
    finally:
        _end(process)
    if not seen.step and not seen.receipts:
        raise NotBegunError(f"the release's role was not begun ({seen.ended}), see {wanted.log}; mend that and run this again")
    return seen


def _write(path: Path, document: Any) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(document, stream)


def _follow(process: subprocess.Popen[bytes], receipts: Path, steps: Mapping[str, float], seen: Seen, watch: Callable[[], None]) -> None:
    began, parent = time.monotonic(), os.getppid()
    with receipts.open(encoding="utf-8") as stream:
        while True:
            status = process.poll()
            for event in _events(stream):
                if event.get("event") == "task" and event.get("step") not in ("", seen.step):
                    seen.step, began = str(event["step"]), time.monotonic()
                _take(event, seen)
            if status is not None:
                seen.ended = seen.ended or f"ansible-playbook ended with status {status}"
                return
            limit = steps.get(seen.step)
            if limit is not None and time.monotonic() > began + limit:
                seen.ended = f"{seen.step} took longer than {limit:g} s"
                _end(process)
                continue  # what it wrote until then says how far it came
            if os.getppid() != parent:
                raise TidegateError("the run of Ansible that this is a part of has ended")
            watch()
            time.sleep(_LOOK)


def _events(stream: Any) -> Iterator[dict[str, Any]]:
    """What was written since; a line that is not whole is read again."""
    while True:
        place = stream.tell()
        line = stream.readline()
        if not line.endswith("\n"):
            stream.seek(place)
            return
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _take(event: Mapping[str, Any], seen: Seen) -> None:
    kind = event.get("event")
    if kind in ("reached", "failed", "unreachable"):
        seen.receipts.append(Receipt(kind, *(str(event.get(key, "")) for key in ("host", "task", "module", "message", "part"))))
    elif kind == "stats":
        seen.failures[str(event["host"])] = int(event["failures"])
    elif kind == "ended":
        seen.ended = str(event.get("why", ""))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it has started here, if it has not ended itself."""
    if process.poll() is not None:
        return
    # What is stopped starts nothing more, so in the end all of it is known; what is killed leaves its children to others.
    known: Processes = {}
    found = {process.pid: start_time(process.pid)}
    while found:
        _signal(found, signal.SIGSTOP)
        known |= found
        found = {pid: moment for pid, moment in below(known).items() if pid not in known}
    _signal(known, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + _GONE
    while any(start_time(pid) == moment for pid, moment in known.items() if moment) and time.monotonic() < deadline:
        time.sleep(_LOOK)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, number)


def _options() -> list[str]:
    """The options of this run that are for the other one, too."""
    given: Mapping[str, Any] = context.CLIARGS
    options = [
        "--tags",
        "all",
        "--forks",
        str(given.get("forks") or _C.DEFAULT_FORKS),
        "--timeout",
        str(given.get("timeout") or _C.DEFAULT_TIMEOUT),
    ]
    for source in given.get("inventory") or ():
        options += ["--inventory", str(source)]
    for path in given.get("module_path") or ():
        options += ["--module-path", str(path)]
    for name, option in _VALUES.items():
        if given.get(name):
            options.append(f"{option}={given[name]}")
    for extra in given.get("extra_vars") or ():
        options += ["--extra-vars", str(extra)]
    return options


@contextmanager
def _secrets(action: Any, work: Path) -> Iterator[tuple[list[int], list[str], str]]:
    """Passwords and vault secrets, each in memory that has no name: the descriptors, the options that name them, the vault identities.

    Ansible wants a file, and looks for one by its real path, which such memory has not; or a program that prints the secret.
    """
    descriptors: list[int] = []

    def hidden(content: bytes) -> str:
        if not hasattr(os, "memfd_create"):
            raise TidegateError("passwords and vault secrets for a release's role need a controller with Linux; run this on one")
        descriptor = os.memfd_create("tidegate", os.MFD_CLOEXEC)
        descriptors.append(descriptor)
        os.write(descriptor, content)
        program = work / f"secret-{secrets.token_hex(4)}"
        program.write_text(f'#!/bin/sh\nexec cat "/proc/$PPID/fd/{descriptor}"\n', encoding="utf-8")
        program.chmod(0o700)
        return str(program)

    try:
        options = []
        given: Mapping[str, Any] = context.CLIARGS
        for password, option, asked in (
            (action._play_context.password, "--connection-password-file", ("ask_pass", "connection_password_file")),
            (action._play_context.become_pass, "--become-password-file", ("become_ask_pass", "become_password_file")),
        ):
            if password and any(given.get(name) for name in asked):  # and not one that is localhost's alone
                options += [option, hidden(str(password).encode())]
        vault = getattr(action._loader._vault, "secrets", None) or ()
        yield descriptors, options, ",".join(f"{name}@{hidden(secret.bytes)}" for name, secret in vault)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _environment(work: Path, order: Path, mark: str, identities: str, roles_path: Sequence[str]) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _UNSET} | _SET
    enabled = [name for name in _C.CALLBACKS_ENABLED if name != _CALLBACK]
    environment |= {
        "ANSIBLE_CALLBACKS_ENABLED": ",".join([*enabled, _CALLBACK]),
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(_C.COLLECTIONS_PATHS),
        "ANSIBLE_LOCAL_TEMP": str(work),
        "ANSIBLE_ROLES_PATH": os.pathsep.join([*roles_path, *_C.DEFAULT_ROLES_PATH]),
        ORDER: str(order),
        MARK: mark,
        DRIVER: str(Holder.this_run().pid),
    }
    if identities:
        environment["ANSIBLE_VAULT_IDENTITY_LIST"] = identities
    return environment


def prepare_log(path: Path) -> None:
    """See to it that there can be a log; raises :class:`TidegateError` while nothing was begun."""
    try:
        make_folder(path.parent)
        writable = os.access(path.parent, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise TidegateError(f"can't write in {path.parent}, where what a role prints is kept; set XDG_STATE_HOME to another directory")


@contextmanager
def _log(path: Path) -> Iterator[Any]:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    with open(descriptor, "ab") as stream:
        found = os.fstat(descriptor)
        # It may have been there, with rights for others, as somebody else's, or under another name that others can read.
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise TidegateError(f"{path}, where what a role prints is kept, is not a file of yours alone; remove it and run this again")
        os.fchmod(descriptor, 0o600)
        os.set_blocking(descriptor, True)  # it was opened so that nobody's pipe is waited for, and Ansible wants it as others are
        yield stream


def installed_version(collection: str) -> str | None:
    """Which version of a collection Ansible would take here, ``None`` when there is none; one that does not say has an empty one."""
    try:
        found = find_spec(f"ansible_collections.{collection}")
    except ImportError:
        return None
    if found is None:
        return None
    for place in found.submodule_search_locations or ():
        for name, keys in (("MANIFEST.json", ("collection_info", "version")), ("galaxy.yml", ("version",))):
            with suppress(OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
                said = yaml.safe_load((Path(place) / name).read_text(encoding="utf-8"))
                for key in keys:
                    said = said[key]
                return str(said)
    return ""


def handler_names(role: Path) -> list[str]:
    """What a role's handlers can be notified by: their names, and what they listen to.

    Those of files that are included are left out, for Ansible may not include them. The role was looked at when it was archived.
    """
    names: list[str] = []
    budget = Budget()
    for path in (role / "handlers" / "main.yml", role / "handlers" / "main.yaml"):
        node = read(path.read_bytes(), budget) if path.is_file() else None
        for task in node.value if isinstance(node, yaml.SequenceNode) else ():
            for key, _node, value in pairs(task, budget) if isinstance(task, yaml.MappingNode) else ():
                if key in ("name", "listen"):
                    names += [text for text, _value in texts_of(value, budget)]
    return list(dict.fromkeys(names))
