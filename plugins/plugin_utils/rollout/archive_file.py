# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with what the journal said of deployments that are long over.

A file is JSON, a line for each thing, compressed with gzip, so ``zcat`` and ``jq`` read it. The first line is the head: a statement about
the sha256 of all that follows, and, where somebody signed it, the envelope around the same statement. Each further line is a deployment:
its row, its waves, its hosts, its lines in the journal in order, and the CIs of its change, each row with all its columns.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cmdb.schema import schema
from ..errors import IntegrityError, NotFoundError
from ..files import write_new

with suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK = 1 << 20


def deployment_document(connection: sa.Connection, number: int) -> dict[str, Any]:
    """All that the CMDB has of one deployment, in plain JSON types."""
    t = schema()
    (deployment,) = _rows(connection, sa.select(t.deployment).where(t.deployment.c.id == number))
    of_change = sa.select(t.change_ci.c.ci).where(t.change_ci.c.number == deployment["rfc"]).order_by(t.change_ci.c.ci)
    return {
        "deployment": deployment,
        "waves": _rows(connection, sa.select(t.wave).where(t.wave.c.deployment_id == number).order_by(t.wave.c.number)),
        "hosts": _rows(
            connection,
            sa.select(t.deployment_host).where(t.deployment_host.c.deployment_id == number).order_by(t.deployment_host.c.position),
        ),
        "journal": _rows(connection, sa.select(t.journal).where(t.journal.c.deployment_id == number).order_by(t.journal.c.seq)),
        "cis": list(connection.scalars(of_change)),
    }


def _rows(connection: sa.Connection, select: sa.Select[Any]) -> list[dict[str, Any]]:
    return [{key: _plain(value) for key, value in row.items()} for row in connection.execute(select).mappings()]


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def body_of(documents: Iterable[Mapping[str, Any]]) -> bytes:
    """What follows the head of a file with these deployments; the same for the same rows."""
    return b"".join(_line(document) for document in documents)


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def digest_of(content: bytes) -> str:
    """A digest as statements have it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write_archive(folder: Path, name: str, head: Mapping[str, Any], body: bytes) -> tuple[Path, str]:
    """Write a file, complete and on disk before it has its name; return its path and digest. Raises :class:`OSError`.

    Its name has the digest of all of it, head and body: that of another run, which the CMDB may name already, is never replaced.
    """
    target = io.BytesIO()
    with gzip.GzipFile("", "wb", 6, target, mtime=0) as packed:
        packed.write(_line(head))
        packed.write(body)
    content = target.getvalue()
    digest = digest_of(content)
    path = folder / f"{name}-{digest[7:19]}.jsonl.gz"
    with suppress(FileExistsError):  # the same, or what the reader refuses
        write_new(path, content)
    return path, digest


def read_archive(path: Path, digest: str) -> tuple[dict[str, Any], bytes]:
    """The head of a file and what follows it, once the file is the one with that digest and its head is about its body.

    Raises :class:`NotFoundError` when it is not there and :class:`IntegrityError` when it is not what was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFoundError(f"the archive {path} can't be read ({error.strerror}); bring it back from a backup") from error
    wrong = f"the archive {path} is not as it was written; bring it back from a backup"
    if digest_of(content) != digest:
        raise IntegrityError(wrong)
    try:
        first, _end, body = gzip.decompress(content).partition(b"\n")
        head = json.loads(first)
        about = head["statement"]["subject"][0]["digest"]["sha256"]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, IndexError, TypeError) as error:
        raise IntegrityError(wrong) from error
    if f"sha256:{about}" != digest_of(body):
        raise IntegrityError(wrong)
    return head, body


def documents_in(body: bytes) -> Iterator[dict[str, Any]]:
    """The deployments in a file."""
    for line in body.splitlines():
        yield json.loads(line)


def archived_in(connection: sa.Connection, numbers: Sequence[int]) -> dict[int, tuple[Path, str]]:
    """For each of these deployments that is archived, the file that it is in, and the file's digest."""
    of = schema().journal_archive.c
    rows = connection.execute(sa.select(of.deployment_id, of.file, of.sha256).where(of.deployment_id.in_(numbers)))
    return {row.deployment_id: (Path(row.file), row.sha256) for row in rows}


def archived_deployment(file: Path, digest: str, number: int) -> dict[str, Any]:
    """What a file says of one deployment; see :func:`read_archive` for what it raises."""
    _head, body = read_archive(file, digest)
    for document in documents_in(body):
        if document["deployment"]["id"] == number:
            return document
    raise IntegrityError(f"the archive {file} has no deployment {number}; this is a defect, please report it")
