# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user of this host as whom a release's hooks and commands run, and what belongs to that user."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .release_record import HostError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Account(NamedTuple):
    """A user of this host; ``groups`` are the numbers of all its groups, ``home`` is its home directory."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def environment(self) -> dict[str, str]:
        """What its login would set."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def find_account(config: Mapping[str, Any]) -> Optional[Account]:
    """The user that a release names in its ``config``, nothing when it names none.

    Raises :class:`HostError` when this host does not have that user, or this process may not become it.
    """
    name = config.get("user")
    if name is None:
        return None
    release = f"{config['name']} {config['version']}"
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise HostError(
            f"{release} runs as the user {name}, which this host does not have; "
            f"make it, as with useradd --system {name}, and run this again"
        ) from None
    if os.geteuid() not in (0, found.pw_uid):
        raise HostError(
            f"{release} runs as the user {name}, which only root can become; leave tidegate_become at its default, or log in as {name}"
        )
    return Account(name, found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid)), found.pw_dir)


def check_account(config: Mapping[str, Any], files: Iterable[Mapping[str, Any]], folder: Path) -> Optional[Account]:
    """The same, once it is seen that this user gets into ``folder`` and may run the commands that are among ``files``, the file index.

    Raises :class:`HostError` when that is not so, for it has to be found out before anything is stopped.
    """
    account = find_account(config)
    if account is None or account.uid == os.geteuid():
        return account
    release = f"{config['name']} {config['version']} runs as the user {account.name}, who"
    if not _gets_into(account, folder):
        raise HostError(f"{release} can't get into {folder}; let everybody pass through the directories above, as with chmod a+x")
    modes = {entry["path"]: entry["mode"] for entry in files if entry["type"] != "link"}
    commands = [*config.get("hooks", {}).values(), *(check for check in config["health"] if "command" in check)]
    for program in (os.path.normpath(command["command"][0]) for command in commands):
        way = [program, *(str(parent) for parent in Path(program).parents)]
        closed = next((path for path in way if not modes.get(path, 0o755) & 0o001), "") if program in modes else ""
        if closed:
            raise HostError(f"{release} may not run {program}: {closed} has mode {modes[closed]:04o}; archive the release with one of 0755")
    return account


def _gets_into(account: Account, folder: Path) -> bool:
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(account.groups)
            os.setgid(account.gid)
            os.setuid(account.uid)
            os._exit(0 if os.access(folder, os.X_OK) else 1)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def give(folder: Path, account: Account, *, changed: bool) -> None:
    """Make ``folder``, and what in it is root's or its former owner's, the property of ``account``.

    ``changed``: the release before ran as somebody else; else nothing is done when the folder has the right owner. What is in there was
    made by a user who may want to have something else given away: no link is followed, and a file with more than one name, or one that
    is neither root's nor the former owner's, stays whose it is.
    """
    if os.geteuid() != 0:
        return
    top = os.open(folder, _DIRECTORY)
    try:
        owner = os.fstat(top).st_uid
        if changed or owner != account.uid:
            _give_below(top, frozenset({0, owner}) - {account.uid}, account)
            os.fchown(top, account.uid, account.gid)  # last: whoever is killed before begins again
    finally:
        os.close(top)


def _give_below(folder: int, owners: frozenset[int], account: Account) -> None:
    for name in os.listdir(folder):
        with contextlib.suppress(OSError, RecursionError):  # it is gone, somebody is changing it, or it is nested without end
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode):
                kind = os.O_DIRECTORY if stat.S_ISDIR(info.st_mode) else os.O_NONBLOCK | os.O_NOCTTY
                inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=folder)
                try:
                    _give_open(inner, os.fstat(folder).st_dev, owners, account)
                finally:
                    os.close(inner)
            elif info.st_uid in owners and not (stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode)):
                os.chown(name, account.uid, account.gid, dir_fd=folder, follow_symlinks=False)


def _give_open(inner: int, device: int, owners: frozenset[int], account: Account) -> None:
    """A file or directory by its handle, for the name may be another's by now."""
    info = os.fstat(inner)
    if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
        _give_below(inner, owners, account)
    elif not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        return
    if info.st_uid in owners:
        os.fchown(inner, account.uid, account.gid)
