# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``tidegate init``: a directory from which a first release can be deployed, and how."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import libs
from ..clock import utc_now
from ..cmdb.store import Cmdb
from ..errors import TidegateError
from ..keys import make_key_pair
from ..rollout.holder import user_name
from .first_release import KINDS, FirstRelease, nearest_name, parse_hosts

_HOSTS = "web1,web2"
_OWN = ("release", "keys", "dsl", "cmdb.sqlite")  # what may not be there either, besides the files themselves
_NAMED = 5  # files that a message names


def parser(description: str) -> argparse.ArgumentParser:
    """What parses the arguments of ``tidegate init``."""
    made = argparse.ArgumentParser(
        "tidegate init",
        description=f"{description}. On a terminal it asks for what is not given; elsewhere it takes the defaults. It overwrites nothing.",
        allow_abbrev=False,
    )
    made.add_argument("directory", nargs="?", default=".", metavar="DIRECTORY", help="where to; else here")
    made.add_argument("--kind", choices=list(KINDS), help=f"what a host gets: {', '.join(KINDS)}; else {next(iter(KINDS))}")
    made.add_argument("--name", help="of the release; else that of the directory")
    made.add_argument("--hosts", help=f"where it goes, such as web1,web2 or web1=192.0.2.11 with an address; else {_HOSTS}")
    return made


def init(given: argparse.Namespace) -> int:
    """Write the files, and print what to do next."""
    libs.require("base")
    folder = Path(given.directory)
    kind = given.kind or _asked(f"What does a host get ({', '.join(KINDS)})?", next(iter(KINDS)))
    if kind not in KINDS:
        raise TidegateError(f"{kind!r:.60} is no kind of release; it can be {', '.join(KINDS)}")
    name = given.name or _asked("What is the release called?", nearest_name(folder.absolute().resolve().name))
    hosts = given.hosts if given.hosts is not None else _asked("On which hosts is it to run?", _HOSTS)
    first = FirstRelease(kind, name, parse_hosts(hosts), user_name(), utc_now().astimezone())
    if kind == "deb" and shutil.which("dpkg-deb") is None:
        raise TidegateError("this machine has no dpkg-deb, which makes the first package; install dpkg, or take another --kind")
    private, public = make_key_pair()
    files = dict(first.files(public))
    _check_free(folder, [*files, *_OWN])
    key = f"keys/{_file_name(first.person)}.pem"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".tidegate-", dir=folder) as made:
            _fill(Path(made), first, files | {key: private.decode()})
            for entry in Path(made).iterdir():
                entry.rename(folder / entry.name)
    except OSError as error:
        raise TidegateError(f"can't write {error.filename or folder}: {error.strerror}; name a directory that has room for it") from error
    print("\n".join(_next(folder, first, key)))
    return 0


def _asked(question: str, default: str) -> str:
    """What somebody at a terminal answers; ``default`` where there is none, or they say nothing."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return default
    try:
        return input(f"{question} [{default}] ").strip() or default
    except EOFError:
        return default


def _file_name(person: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in person).lstrip(".") or "key"


def _check_free(folder: Path, paths: list[str]) -> None:
    """Raises :class:`TidegateError` when there is anything that would be overwritten, or become a part of the release."""
    if folder.exists() and not folder.is_dir():
        raise TidegateError(f"{folder} is no directory; name one, or one that is to be made")
    there = [path for path in paths if os.path.lexists(folder / path)]
    there = [path for path in there if path in _OWN or path.partition("/")[0] not in _OWN]
    if there:
        more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
        raise TidegateError(f"{folder} has {', '.join(there[:_NAMED])}{more} already, and nothing is overwritten; choose another directory")


def _fill(folder: Path, first: FirstRelease, files: Mapping[str, str]) -> None:
    """Write all files into an empty directory, with modes that the umask has no part in: those in the release are its hosts'."""
    for path, text in files.items():
        private = path.startswith("keys/")
        for parent in reversed(Path(path).parents[:-1]):
            (folder / parent).mkdir(exist_ok=True)
            (folder / parent).chmod(0o700 if private else 0o755)
        with open(os.open(folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o600 if private else 0o755 if text.startswith("#!") else 0o644)
    if first.kind == "deb":
        _build(folder, first.name)
    with Cmdb.open(str(folder / "cmdb.sqlite"), create=True):
        pass  # so that it can be the inventory from now on


def _build(folder: Path, name: str) -> None:
    """Make the package of Debian that the first version is."""
    place = folder / "release" / "payload" / "debs" / f"{name}.deb"
    for made in (place.parent.parent, place.parent):
        made.mkdir()
        made.chmod(0o755)
    command = ["dpkg-deb", "--root-owner-group", "--build", str(folder / "release" / "package"), str(place)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise TidegateError(f"dpkg-deb could not make {place}: {done.stderr.strip()}")
    place.chmod(0o644)


def _next(folder: Path, first: FirstRelease, key: str) -> Iterator[str]:
    """What was made and what to do with it, in lines; what does not begin with # works as it stands."""
    about = KINDS[first.kind]
    lab = shlex.join(["tidegate", "lab", "--lab-path", "lab", "--lab-cmdb", "cmdb.sqlite", *_lab_hosts(first)])
    yield f"{first.name} 0.1.0 is in {folder / 'release'}; put your own software in its place. It needs {about.needs}."
    yield "Next:"
    if folder.absolute().resolve() != Path.cwd().resolve():
        yield f"  {shlex.join(['cd', str(folder)])}"
    yield "  tidegate import -i hosts.yml"
    if about.lab == "anybody" or (about.lab == "root" and os.geteuid() == 0):
        yield "  # or, without hosts of your own, and with the line of cmdb.yml that is for them:"
        yield f"  #   {lab}"
    if first.kind == "container":
        yield f"  # name your image in release/ansible/{first.name.replace('-', '_')}/defaults/main.yml"
    yield "  tidegate archive release"
    yield "  # write the digest that it prints into rfc.yml"
    yield f"  tidegate approve rfc.yml --key {shlex.quote(key)}"
    yield "  tidegate deploy rfc.yml"


def _lab_hosts(first: FirstRelease) -> Iterator[str]:
    for host in first.hosts:
        yield from ("--lab-hosts", f"name={host}")
