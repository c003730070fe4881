# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adopt what runs on hosts already as a release: fetch its tree from one host, and record it for those that have it.

What a host sends of a tree is a stranger's word: it is written below one directory, as plain files, directories and links, and held against
the sha256s that came before it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import posixpath
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cmdb.store import Cmdb
from ..dsl.manifest import Manifest, load_manifest
from ..errors import ConflictError, TidegateError
from ..licence.entitlements import entitlements, taken_seats
from ..licence.seats import unlicensed
from ..report.progress import share
from ..rollout.host_answer import printable
from ..settings import how_to_give
from ..strict_json import is_text

if TYPE_CHECKING:
    import sqlalchemy as sa

Part = tuple[str, int, int]
"""Bytes of a file in a tree: its path, where they begin, and how many there are."""
_Entry = Mapping[str, Any]
_ASKED = 8 << 20  # bytes that are asked for at once
_MOST = 1_000_000  # entries of a tree
_LARGEST = 1 << 40  # bytes of a file
_MODE = 0o777  # a host does not say which programs run as somebody else here
_KEYS = {"file": {"path", "type", "mode", "size", "sha256"}, "directory": {"path", "type", "mode"}, "link": {"path", "type", "target"}}


@dataclass(frozen=True)
class HostAdoption:
    """What became of a host: ``adopted``, and if not, why."""

    adopted: bool
    detail: str = ""


@dataclass(frozen=True)
class Recorded:
    """How it ended: the names of the hosts that have the release, those that the CMDB learned of, by host why others have not, and those
    that have no seat of the product that it uses."""

    adopted: list[str]
    new: list[str]
    missing: dict[str, str]
    unlicensed: list[str]


def release_to_adopt(directory: Path, path: str | None) -> Manifest:
    """What ``release.yml`` in a release's directory says.

    Raises :class:`DocumentError`, and :class:`TidegateError` when it has a payload and no ``path`` on hosts where that is now.
    """
    manifest = load_manifest(directory / "release.yml")
    if manifest.firmware or manifest.hardware:
        kind = "firmware" if manifest.firmware else "hardware"
        raise TidegateError(f"{manifest.name} is {kind}, which is in no directory of a host; deploy finds out what each device has")
    if manifest.has_tree and not path:
        raise TidegateError(
            f"where {manifest.name} is on hosts is not said; add {how_to_give('tidegate_path')}..., the directory that it runs from now"
        )
    return manifest


def refuse_changing(cmdb: Cmdb, manifest: Manifest, hosts: Collection[str]) -> None:
    """Raise :class:`TidegateError` unless the CMDB has all ``hosts``, with no other release of the name, and none is locked."""
    if not hosts:
        raise TidegateError("there is no host to adopt a release on; check tidegate_hosts and the inventory")
    with cmdb.read() as connection:
        _refuse_changing(cmdb, manifest, hosts, connection)


def _refuse_changing(cmdb: Cmdb, manifest: Manifest, hosts: Collection[str], connection: sa.Connection) -> None:
    missing = sorted(set(hosts) - {ci["name"] for ci in cmdb.cis(hosts, connection)})
    others = [
        f"{row['ci']} has {row['release']} {row['version']}"
        for row in cmdb.installations(hosts, connection)
        if row["release"] == manifest.name and row["version"] != manifest.version
    ]
    held = cmdb.locks(hosts, connection)
    if missing:
        raise TidegateError(f"the CMDB has no {', '.join(missing)}; enter them with tidegate.release.import first")
    if others:
        raise TidegateError(f"a release of {manifest.name} is there already, so there is nothing to adopt: {', '.join(others)}")
    if held:
        raise ConflictError(f"deployments hold {', '.join(sorted(held))}; wait until they end, and run this again")


def record(
    cmdb: Cmdb, manifest: Manifest, digest: str, outcomes: Mapping[str, HostAdoption], actor: str, now: datetime, write: bool
) -> Recorded:
    """Note in the CMDB, in one transaction, that the hosts which adopted the release have it.

    Raises what :func:`refuse_changing` raises, for hosts were compared, which takes long, since that was asked.
    """
    adopted = sorted(host for host, outcome in outcomes.items() if outcome.adopted)
    missing = {host: outcome.detail for host, outcome in sorted(outcomes.items()) if not outcome.adopted}
    with cmdb.begin() if write else cmdb.read() as connection:
        _refuse_changing(cmdb, manifest, outcomes, connection)
        known = {
            row["ci"]
            for row in cmdb.installations(adopted, connection)
            if (row["release"], row["version"], row["digest"]) == (manifest.name, manifest.version, digest)
        }
        new = [host for host in adopted if host not in known]
        if write:
            rows = [{"ci": host, "release": manifest.name, "version": manifest.version, "digest": digest} for host in new]
            cmdb.record_installations(connection, rows, actor, now)
        return Recorded(adopted, new, missing, _without_seat(connection, manifest, digest, adopted, now))


def _without_seat(connection: sa.Connection, manifest: Manifest, digest: str, hosts: Sequence[str], now: datetime) -> list[str]:
    product = manifest.licensed_product
    if product is None:
        return []
    rows = [{"ci": host, "release": manifest.name, "version": manifest.version, "digest": digest} for host in hosts]
    seats = (one.seat for one in taken_seats(connection, product))
    return [one.ci for one in unlicensed(rows, {digest: product}, seats, entitlements(connection, product), now)]


def describe(manifest: Manifest, recorded: Recorded, dry_run: bool) -> str:
    """How it ended, a line for each host that does not have the release."""
    number = len(recorded.adopted) + len(recorded.missing)
    would = "would be adopted" if dry_run else "is adopted"
    said = f"{manifest.name} {manifest.version} {would} on {share(len(recorded.adopted), number)}"
    if not recorded.missing and not recorded.new:
        said += ", as before"
    lines = [f"  {host}: {detail}" for host, detail in recorded.missing.items()]
    if recorded.unlicensed:
        lines.append(
            f"  {', '.join(recorded.unlicensed)}: no seat of {manifest.licensed_product}; a deployment takes seats and adopting none, so "
            "leave as many free until the next one"
        )
    return "\n".join((said, *lines))


# --- a tree from a host ------------------------------------------------------------------------------------------------------------------


def parse_survey(files: object) -> list[_Entry]:
    """The entries of a tree as a host lists them; raises :class:`TidegateError` for what is no list of one, or leads out of it."""
    if not isinstance(files, list) or len(files) > _MOST:
        raise TidegateError("it does not say what is in the tree; find out who answers there")
    folders = {""}
    seen = set()
    for entry in files:
        if not _is_entry(entry) or entry["path"] in seen or posixpath.dirname(entry["path"]) not in folders:
            raise TidegateError("what it says is in the tree can't be; find out who answers there")
        seen.add(entry["path"])
        if entry["type"] == "directory":
            folders.add(entry["path"])
    return files


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, Mapping) or entry.get("type") not in _KEYS or entry.keys() != _KEYS[str(entry["type"])]:
        return False
    path, mode, size = entry["path"], entry.get("mode", 0), entry.get("size", 0)
    texts = all(is_text(entry.get(key, "")) for key in ("path", "sha256", "target"))
    numbers = _is_below(mode, 0o10000) and _is_below(size, _LARGEST)
    return texts and numbers and all(part not in ("", ".", "..") for part in path.split("/"))


def _is_below(number: object, limit: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < limit


def batches(files: Sequence[_Entry]) -> Iterator[list[Part]]:
    """All bytes of the files, in parts that are asked for together."""
    batch: list[Part] = []
    room = _ASKED
    for entry in files:
        offset = 0
        while offset < entry.get("size", 0):
            size = min(room, entry["size"] - offset)
            batch.append((entry["path"], offset, size))
            offset, room = offset + size, room - size
            if not room:
                yield batch
                batch, room = [], _ASKED
    if batch:
        yield batch


def write_tree(folder: Path, files: Sequence[_Entry], read: Callable[[list[Part]], bytes]) -> None:
    """Make the tree of ``files`` as ``folder``, all of it or nothing; ``read`` brings the bytes of parts, one behind the other.

    Raises :class:`TidegateError` when they are not what the files were said to be.
    """
    work = folder.with_name(f".{folder.name}.fetched")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o755, parents=True)
    try:
        size, free = sum(entry.get("size", 0) for entry in files), shutil.disk_usage(work).free
        if size > free:
            raise TidegateError(f"the tree has {size} bytes, and in {folder.parent} there is room for {free}; make room, or leave more out")
        for entry in files:
            if entry["type"] == "directory":
                (work / entry["path"]).mkdir(mode=0o700)
            elif entry["type"] == "file":
                (work / entry["path"]).touch(mode=0o600, exist_ok=False)
        for batch in batches(files):
            _write(work, batch, read(batch))
        for entry in reversed(files):  # what is in a directory before its own mode, which may not let its owner write there
            _finish(work / entry["path"], entry)
        if folder.is_dir():
            folder.rmdir()
        work.chmod(0o755)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(work: Path, batch: list[Part], data: bytes) -> None:
    place = 0
    for path, offset, size in batch:
        with (work / path).open("r+b") as stream:
            stream.seek(offset)
            stream.write(data[place : place + size])
        place += size


def _finish(path: Path, entry: _Entry) -> None:
    if entry["type"] == "link":  # last, so nothing is written through one
        os.symlink(entry["target"], path)
        return
    if entry["type"] == "file":
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != entry["sha256"]:
                raise TidegateError(f"{printable(entry['path'])} changed while it was fetched; run this again when nothing writes there")
    path.chmod(entry["mode"] & _MODE)


def parse_contents(data: object, size: int) -> bytes:
    """The bytes that a host sent, ``size`` of them; raises :class:`TidegateError` for anything else."""
    try:
        unpack = zlib.decompressobj()
        found = unpack.decompress(base64.b64decode(str(data), validate=True), size + 1)
    except (binascii.Error, zlib.error, ValueError):
        found = b""
    if len(found) != size:
        raise TidegateError("what it sent of the tree is not what was asked for; run this again when nothing writes there")
    return found
