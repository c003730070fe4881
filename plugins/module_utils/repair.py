# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting right what is about to become live: a release that is not as it was archived, or not here at all any more.

The digest in the order says what is right. The host's own good copies come first, then what came with the order. Files that nobody
released stay, unless they are in the way.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

from .release_files import changed_entries, remove
from .release_home import HostError, Release, ReleaseHome, Texts

# What it takes to build is imported when there is something to build: a host compiles its half anew each time.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from .build import Fetch, Pack

_LISTED = 5  # paths that a message names
_LOGGED = 100  # paths that the log names


class Lacking(Exception):
    """The order can't be carried out before whoever gives it brings more: documents of a package, or pieces of it.

    Nothing has been touched by then.
    """

    def __init__(self, digest: str, need: list[str]) -> None:
        super().__init__(digest)
        self.answer: dict[str, Any] = {"state": "lacking", "changed": False, "package": digest, "need": need}


class Damaged(HostError):
    """A release is not as it was archived, and what would put it right is not here."""


class Supplies:
    """What comes with an order to put releases right: the ``documents`` of one package, and a ``pack`` with pieces of it.

    ``more``: whoever gives the order brings what lacks when he is asked.
    """

    def __init__(self, documents: Optional[Texts] = None, pack: Pack = None, more: bool = False) -> None:
        self.documents = documents
        self.pack = pack
        self.more = more

    def documents_of(self, digest: str) -> Optional[Texts]:
        """The documents, if they are those of the package ``digest``."""
        return self.documents if self.documents is not None and self.documents.digest == digest else None

    def take_pack(self, digest: str) -> Pack:
        """The pack, if it is of the package ``digest``; it can be read once."""
        pack = self.pack if self.documents_of(digest) is not None else None
        if pack is not None:
            self.pack = None
        return pack

    def lack(self, digest: str, need: list[str], sentence: str) -> Exception:
        """What to raise for what is not here."""
        return Lacking(digest, need) if self.more else Damaged(sentence)


def find_release(home: ReleaseHome, digest: str, supplies: Supplies, advice: str, **entry: Any) -> Release:
    """The release that was made from the package ``digest``; its record, or all of it, is made anew when it is damaged or gone.

    Its files may still not be as archived. What is done is logged, with ``entry``. Raises :class:`Lacking` when the order has to bring
    something for that, and :class:`Damaged`, with ``advice``, when nobody can.
    """
    release = home.find(digest)
    if release is not None:
        return release
    from .build import build
    from .package_documents import read_package

    texts = supplies.documents_of(digest)
    if texts is None:
        raise supplies.lack(digest, [], f"the release {digest} {advice}")
    package = read_package(digest, *texts)
    if package.config["name"] != home.name:
        raise HostError(f"the package {digest} is {package.config['name']}, not {home.name}")
    home.expect(package.texts, package.config, package.files)
    release_id = home.id_of(package.config["version"], digest)
    if home.has_tree(release_id):
        home.write_record(home.releases / release_id, texts)
    else:
        work = home.staging / release_id
        built = build(home, package.files, work, supplies.take_pack(digest), record=texts)
        if built["need"]:
            raise supplies.lack(digest, built["need"], f"the release {digest} {advice}")
        home.append("repair", release_id, files=["."], count=len(package.files), **entry)
        home.put(work, release_id)
    release = home.get(release_id)
    if release is None:
        raise HostError(f"{home.releases / release_id} keeps changing; find out who writes there and run this again")
    return release


def put_right(home: ReleaseHome, release: Release, supplies: Supplies, **entry: Any) -> list[str]:
    """Make the files of ``release`` what was archived; return the paths of those that were not, the tree itself being ``.``.

    It may be live and serving: each file is replaced in one step. What is done is logged, with ``entry``. Raises :class:`Lacking` or
    :class:`Damaged` when pieces are not here, with nothing changed; and :class:`Damaged` for what can't be replaced.
    """
    wrong = changed_entries(release)
    if not wrong:
        return []
    paths = [entry["path"] or "." for entry in wrong]
    built = collect(home, release, wrong, supplies.take_pack(release.digest))
    if built["need"]:
        need = set(built["need"])
        lacking = [entry["path"] for entry in wrong if entry["type"] == "file" and need & _pieces(entry)]
        raise supplies.lack(
            release.digest,
            built["need"],
            f"{len(lacking)} files of {release.name} {release.version} are not as archived, and this host has no good copy of them: "
            f"{_listed(lacking)}; run the back-out, or the deployment, from a controller, which sends them",
        )
    # Written ahead: what runs since before is not at rest until it was started anew.
    home.append("repair", release.id, files=paths[:_LOGGED], count=len(paths), **entry)
    install(home, release, wrong)
    return paths


def collect(home: ReleaseHome, release: Release, wrong: list[dict[str, Any]], pack: Pack = None, fetch: Fetch = None) -> dict[str, Any]:
    """Build what is ``wrong`` in ``release`` beside it; return what :func:`build.build` does."""
    from .build import build

    wanted = set()
    for entry in wrong:
        path = entry["path"]
        while path:
            wanted.add(path)
            path = path.rpartition("/")[0]
    files = [entry for entry in release.files if entry["path"] in wanted]
    return build(home, files, home.staging / release.id, pack, fetch, known=release.files)


def install(home: ReleaseHome, release: Release, wrong: list[dict[str, Any]]) -> None:
    """Put what :func:`collect` built in the place of what is ``wrong``. Raises :class:`Damaged` with the path that can't be replaced."""
    from .build import sync_file_system

    work = home.staging / release.id
    with _directory(os.fsencode(release.tree)) as tree, _directory(os.fsencode(work)) as aside, _directory(b"tree", aside) as new:
        for number, entry in enumerate(wrong):
            try:
                _replace(entry, tree, new, aside, b"aside-%d" % number)
            except OSError as error:
                raise Damaged(
                    f"{entry['path'] or 'the tree'} of {release.name} {release.version} is not as archived and can't be put right "
                    f"({error.strerror or error}); mend it on the host and run this again"
                ) from error
    sync_file_system(release.tree)
    remove(work)


def _replace(entry: dict[str, Any], tree: int, new: int, aside: int, spare: bytes) -> None:
    """Put one entry right below the open directory ``tree``; ``new`` has it, and what is in its way goes to ``aside`` as ``spare``."""
    folder, _slash, name = entry["path"].encode().rpartition(b"/")
    with _below(tree, folder) as parent:
        mode = _kind(name, parent)
        if entry["type"] == "directory":
            if name and not stat.S_ISDIR(mode):
                if mode:
                    os.rename(name, spare, src_dir_fd=parent, dst_dir_fd=aside)
                os.mkdir(name, 0o700, dir_fd=parent)
            with _below(parent, name) as made:
                os.fchmod(made, entry["mode"])
            return
        if stat.S_ISDIR(mode):
            os.rename(name, spare, src_dir_fd=parent, dst_dir_fd=aside)
        with _below(new, folder) as source:
            os.replace(name, name, src_dir_fd=source, dst_dir_fd=parent)


def _kind(name: bytes, parent: int) -> int:
    """The mode of what is there, 0 for nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except OSError:
        return 0


@contextlib.contextmanager
def _directory(path: bytes, parent: Optional[int] = None) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _below(top: int, path: bytes) -> Iterator[int]:
    """A directory below an open one, whatever links somebody put on the way: they are not followed."""
    with contextlib.ExitStack() as stack:
        for name in filter(None, path.split(b"/")):
            top = stack.enter_context(_directory(name, top))
        yield top


def _pieces(entry: dict[str, Any]) -> set[str]:
    return {entry["sha256"], *(sha for _size, sha in entry.get("chunks", ()))}


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return ", ".join(paths[:_LISTED]) + more
