# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The beginning of the host program: it brings the other files of this directory as modules, out of the one text that it stands in.

The program is this file with the source of the others behind it, as ``SOURCES``. Whoever starts it has compared its digest, so where it
lies is not trusted. What this Python made of it is kept beside it, compiled, in a directory that is this user's alone: that has no digest
that somebody else vouches for, only one against damage.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import stat
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module typing costs as much as a tenth of a step
    from types import CodeType, ModuleType
    from typing import Any, BinaryIO, Optional

PACKAGE = "tidegate_host"
SOURCES: dict[str, str] = {}  # by module, set where this file is made a program

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_LARGEST = 16 << 20  # bytes of compiled modules that are read


class _Modules:
    """Finds and loads the modules of :data:`PACKAGE`; each is compiled when it is asked for, unless ``compiled`` has it."""

    def __init__(self, sources: dict[str, str], compiled: dict[str, bytes]) -> None:
        self.sources = sources
        self.compiled = compiled

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        """Where a module comes from, as the import system asks for it."""
        package, _dot, module = name.partition(".")
        if package != PACKAGE or module not in self.sources:
            return None
        spec: Any = type(sys.__spec__)  # importing importlib.machinery for ModuleSpec would cost time
        return spec(name, self)

    def create_module(self, _spec: object) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        name = module.__name__.partition(".")[2]
        # It is needed once, and who waits for an instant keeps all that is in memory then.
        code = marshal.loads(self.compiled.pop(name)) if name in self.compiled else self.compile(name)  # noqa: S302 - this user's own
        exec(code, module.__dict__)  # noqa: S102 - what loaders of modules do

    def compile(self, name: str) -> CodeType:
        """A module's code, from its source."""
        return compile(self.sources[name], f"<{PACKAGE}>/{name}.py", "exec", dont_inherit=True)

    def get_source(self, name: str) -> str:
        """A module's source, as loaders of the import system give it."""
        return self.sources[name.partition(".")[2]]


def start(order: bytes, rest: BinaryIO, mark: bytes, directory: str = "", digest: str = "", program: bytes = b"") -> None:
    """Carry out ``order`` and print the answer behind ``mark``; what follows the order, a pack, is in ``rest``.

    ``directory``: where what is compiled of the program, whose sha256 is ``digest``, is kept, and the ``program`` itself when it came with
    the order; empty when the host is to be left as it is.
    """
    modules, problem = _Modules(SOURCES, {}), ""
    if directory:
        try:
            modules.compiled = _keep(modules, directory, digest, program)
        except (OSError, ValueError) as error:  # then it is compiled each time, and sent each time
            problem = f"{directory}: {getattr(error, 'strerror', None) or error}"
    module: Any = type(sys)
    package, entry = module(PACKAGE), module(f"{PACKAGE}.program")
    package.__path__, entry.__package__ = [], PACKAGE
    sys.modules[PACKAGE] = package
    sys.meta_path.insert(0, modules)
    modules.exec_module(entry)
    entry.main(order, rest, mark, problem)


def _keep(modules: _Modules, directory: str, digest: str, program: bytes) -> dict[str, bytes]:
    """The compiled modules that are kept in ``directory``, made if there are none; a ``program`` that is not empty goes beside them.

    Raises :class:`OSError` and :class:`ValueError` where nothing can be kept that can be relied on.
    """
    umask = os.umask(0o022)  # services get to their releases through the directory above, whatever the login's is
    try:
        os.makedirs(os.path.dirname(directory), 0o755, exist_ok=True)
    finally:
        os.umask(umask)
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    folder = os.open(directory, _DIRECTORY)
    try:
        if not _is_own(os.fstat(folder), stat.S_IFDIR):
            raise ValueError(f"is not a directory of the user {os.geteuid()} alone; remove it and run this again")
        name = f"{digest}.{sys.implementation.cache_tag}-{sys.hexversion:x}"
        known = _read_compiled(folder, name)
        if known is None:
            known = {module: marshal.dumps(modules.compile(module)) for module in modules.sources}
            data = marshal.dumps(known)
            for other in os.listdir(folder):
                if not other.startswith(digest):  # another program's
                    os.unlink(other, dir_fd=folder)
            _write(folder, name, hashlib.sha256(data).digest() + data)
        if program:
            _write(folder, digest, program)
        return known
    finally:
        os.close(folder)


def _is_own(info: os.stat_result, kind: int) -> bool:
    """Whether this is of that kind, and nobody else can have changed it or what is in it."""
    return stat.S_IFMT(info.st_mode) == kind and info.st_uid == os.geteuid() and not info.st_mode & 0o077


def _read_compiled(folder: int, name: str) -> Optional[dict[str, bytes]]:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        if not _is_own(os.fstat(descriptor), stat.S_IFREG):
            return None
        data = os.read(descriptor, _LARGEST)
    finally:
        os.close(descriptor)
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        return None
    known: dict[str, bytes] = marshal.loads(data[32:])  # noqa: S302 - from a directory that is this user's alone
    return known


def _write(folder: int, name: str, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    unfinished = f"{name}.{os.getpid()}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    with open(descriptor, "wb") as file:
        file.write(data)
    os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)


def by_hand() -> None:
    """Carry out the order, in JSON, that is in the file named on the command line, and print the answer."""
    with open(sys.argv[1], "rb") as file:
        order = file.read()
    if not isinstance(json.loads(order), dict):
        raise SystemExit(f"{sys.argv[1]} is no order: a JSON object with operation, root, name, digest, previous, deployment and token")
    with open(os.devnull, "rb") as nothing:
        start(order, nothing, b"")
