# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role in a package: whether it may run, and how it is laid out where a run of Ansible finds it."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import yaml

from ..errors import DocumentError, IntegrityError, NotFoundError, TidegateError
from .package import Package, verify_tree
from .payload import FileEntry, visible
from .repository import Repository
from .role_documents import Budget, UnreadableError, pairs, read, text_of
from .role_rules import check_role

_BLOCK = 1 << 20


def unpack_role(home: Repository, package: Package, directory: Path) -> Path:
    """Lay out the role of a package below ``directory``, which is made if need be, and return where it is: there, by its name.

    Each byte is looked at while it is written, and nothing is left of a role that is not whole. Nobody else can enter the role's directory,
    and what is in it has the permissions that it was archived with. Raises :class:`IntegrityError` when it is not what the package says,
    and :class:`TidegateError` when there is no room, or something of that name already.
    """
    own, tar = package.manifest.ansible, package.role_archive
    if own is None or tar is None:
        raise NotFoundError(f"{package.manifest.name} {package.manifest.version} brings no role; leave out what asks for one")
    root = directory / own.name
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.mkdir(mode=0o700)
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        verify_tree(home, tar, package.role)
        with home.open_blob(tar.digest, tar.size) as stream:
            for entry in package.role:  # a directory comes before what is in it
                _lay_out(entry, root / entry.path, stream)
    except OSError as error:
        shutil.rmtree(root)
        raise _unwritable(root, error) from error
    except BaseException:
        shutil.rmtree(root)
        raise
    return root


def check_packaged_role(home: Repository, package: Package) -> None:
    """Look at the role of a package, if it has one, as at one that is archived: it may come from anywhere.

    Its bytes have to be verified. Raises :class:`DocumentError` with everything that is wrong.
    """
    own, tar = package.manifest.ansible, package.role_archive
    if own is None or tar is None:
        return
    tree = {entry.path: entry for entry in package.role}
    with home.open_blob(tar.digest, tar.size) as stream:

        def read(path: str, size: int) -> bytes:
            stream.seek(tree[path].offset or 0)
            return stream.read(min(size, tree[path].size or 0))

        problems = check_role(own, package.role, read)
    if problems:
        raise DocumentError(problems)


def role_tasks(home: Repository, package: Package) -> dict[str, list[str]]:
    """What the tasks of each step of a package's role are called, and of its ``back_out``; those of files that they include are left out.

    Empty when it brings no role. Raises :class:`IntegrityError` when that can't be read.
    """
    own, tar = package.manifest.ansible, package.role_archive
    if own is None or tar is None:
        return {}
    tree = {entry.path: entry for entry in package.role}
    budget, found = Budget(), {}
    with home.open_blob(tar.digest, tar.size) as stream:
        for step in (*own.steps, "back_out"):
            entry = tree.get(f"tasks/{step}.yml") or tree.get(f"tasks/{step}.yaml")
            if entry is None:
                continue
            stream.seek(entry.offset or 0)
            try:
                node = read(stream.read(entry.size or 0), budget)
            except UnreadableError as error:
                raise IntegrityError(f"{visible(entry.path)} of the role can't be read: {error}; archive it again") from error
            tasks = node.value if isinstance(node, yaml.SequenceNode) else []
            found[step] = [_called(task, budget) for task in tasks if isinstance(task, yaml.MappingNode)]
    return found


def _called(task: yaml.MappingNode, budget: Budget) -> str:
    """A task's name, or else the first word that is written of it, which mostly is its action."""
    entries = [(key, text_of(value)) for key, _node, value in pairs(task, budget)]
    named = next((text for key, text in entries if key == "name" and text), None)
    return visible(named or (entries[0][0] if entries else "a task"))


def _lay_out(entry: FileEntry, path: Path, stream: BinaryIO) -> None:
    if entry.type == "link":
        path.symlink_to(entry.target or "")
    elif entry.type == "directory":
        path.mkdir()
        path.chmod(entry.mode or 0)
    else:
        _copy(entry, path, stream)


def _copy(entry: FileEntry, path: Path, stream: BinaryIO) -> None:
    digest, left = hashlib.sha256(), entry.size or 0
    stream.seek(entry.offset or 0)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as target:
        while left and (block := stream.read(min(left, _BLOCK))):
            digest.update(block)
            target.write(block)
            left -= len(block)
        os.fchmod(target.fileno(), entry.mode or 0)
    if left or digest.hexdigest() != entry.sha256:
        raise IntegrityError(f"the role's {visible(entry.path)} changed while it was read; verify the DSL and run this again")


def _unwritable(root: Path, error: OSError) -> TidegateError:
    return TidegateError(f"the role can't be laid out in {root} ({error.strerror}); make room there, or name another directory")
