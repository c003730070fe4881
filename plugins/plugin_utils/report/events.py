# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rulebook is told of: the lines of the CMDB's history and of the journal that are events, each once, behind a position.

Both tables only grow, and their numbers are in the order in which transactions were committed: writers take turns (:mod:`..cmdb.engine`),
on PostgreSQL too, where a number is taken while the lock is held that the next writer waits for. So whoever has read up to a line has
missed none before it.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..cmdb.ci_changes import is_name
from ..cmdb.schema import schema
from ..errors import TidegateError
from ..files import write_atomically
from ..rfc.model import STATES
from ..rollout.states import DeploymentState
from .attention import differences_of
from .progress import counted

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_AT_ONCE = 500  # lines of one table that are read at once
_HOSTS = 50  # that an event names
_LETTERS = 1000  # of a sentence
_OF_HISTORY = {"rfc entered": "rfc_entered", "rfc approved": "rfc_approved", "rfc rejected": "rfc_rejected", "audited": "drift"}
_GATE = "decided"
_ARCHIVED = "journal archived"
# What goes into commands and paths has these letters and no others. The CMDB has nothing else, unless somebody wrote to it who should not.
_ALPHABETS = {
    "rfc": re.compile(r"[A-Z]{2,10}[0-9]{3,12}"),
    "release": re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*"),
    "version": re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"),
    "deployment": re.compile(r"[A-Z]{2,10}[0-9]{3,12}#[0-9]{1,18}"),
    "state": re.compile(r"[A-Za-z_]{1,40}"),
}


class PositionError(TidegateError):
    """A position that can't be used or kept: nothing is told with it."""


@dataclass(frozen=True)
class Mark:
    """A line of one table, by its number and its moment, which together no other CMDB has; 0 and empty before the first."""

    seq: int = 0
    at: str = ""


@dataclass(frozen=True)
class FeedPosition:
    """The last line of each table that was told, or that is nothing to be told."""

    history: Mark = Mark()
    journal: Mark = Mark()

    @classmethod
    def load(cls, path: Path) -> FeedPosition | None:
        """What :meth:`save` wrote; ``None`` without a file. Raises :class:`PositionError` when it can't be read or is something else."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            marks = {name: Mark(int(document[name]["seq"]), str(document[name]["at"])) for name in ("history", "journal")}
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PositionError(f"the position {path} can't be read ({error.strerror}); give this user the right to it") from error
        except (ValueError, KeyError, TypeError):
            raise PositionError(
                f"{path} is no position in a CMDB; restore it, or remove it, and then nothing is told that happened before"
            ) from None
        return cls(**marks)

    def save(self, path: Path) -> None:
        """Write it whole or not at all; it is on the disk when this returns. Raises :class:`PositionError`."""
        try:
            write_atomically(path, json.dumps(asdict(self)).encode())
        except OSError as error:
            raise PositionError(
                f"the position {path} can't be written ({error.strerror}), so events would be told twice; give this user the right to its "
                "directory, and room"
            ) from error


@dataclass(frozen=True)
class Told:
    """An event, and the position that is reached with it. ``fault``: why it is none; then there is nothing to tell."""

    event: dict[str, Any]
    after: FeedPosition
    fault: str = ""


def newest(connection: sa.Connection) -> FeedPosition:
    """The position behind all that there is."""
    t = schema()
    return FeedPosition(_newest_of(connection, t.history), _newest_of(connection, t.journal))


def read_events(connection: sa.Connection, position: FeedPosition) -> tuple[list[Told], FeedPosition, bool]:
    """The events behind a position, those that came first at the front, the position behind them, and whether there may be more.

    Raises :class:`PositionError` when the position is not one in this CMDB.
    """
    t = schema()
    top = newest(connection)
    if top == position:
        return [], position, False
    if _mark(connection, t.history, position.history.seq) != position.history:
        raise _of_another(position)
    position = replace(position, journal=_journal_mark(connection, position))
    history, journal = _lines_of_history(connection, position), _lines_of_journal(connection, position)
    end = FeedPosition(_end_of(history, top.history), _end_of(journal, top.journal))
    told = []
    for name, row in heapq.merge(
        (("history", row) for row in history), (("journal", row) for row in journal), key=lambda one: one[1]["at"]
    ):
        position = replace(position, **{name: Mark(row["seq"], _text(row["at"]))})
        line = f"{name}-{row['seq']}"
        try:
            event = _from_history(row) if name == "history" else _from_journal(row)
        except (AttributeError, KeyError, TypeError, ValueError):
            told.append(Told({}, position, f"the CMDB's line {line} is not told, for it is none of Tidegate's; find out who wrote it"))
            continue
        if event is not None:
            event = {"id": line, "at": _text(row["at"]), **event}
            told.append(Told({"tidegate": event}, position, _fault(event)))
    return told, end, _AT_ONCE in (len(history), len(journal))


def _of_another(position: FeedPosition) -> PositionError:
    return PositionError(
        "the position is one in another CMDB, or in this one before it was restored from a backup: there is no line of "
        f"{position.history.at}; give the file that belongs to this CMDB, or remove it, and then nothing is told that happened before"
    )


def _journal_mark(connection: sa.Connection, position: FeedPosition) -> Mark:
    """The last line of the journal that was told and is there.

    When the newest lines are archived, an SQLite file gives their numbers again. What was archived had been over for days, so of the lines
    that were there before, none is younger than the first archive since; those that got the numbers are.
    """
    t = schema()
    if _mark(connection, t.journal, position.journal.seq) == position.journal:
        return position.journal
    h, j = t.history.c, t.journal.c
    archived = sa.select(h.at).where(h.event == _ARCHIVED, h.ci.is_(None), h.seq > position.history.seq).order_by(h.seq).limit(1)
    at = connection.scalar(archived)
    if at is None:
        raise _of_another(position)
    before = sa.select(j.seq, j.at).where(j.at < at, j.seq <= position.journal.seq).order_by(j.seq.desc()).limit(1)
    row = connection.execute(before).first()
    return Mark(row.seq, _text(row.at)) if row else Mark()


def _mark(connection: sa.Connection, table: sa.Table, seq: int) -> Mark:
    at = connection.scalar(sa.select(table.c.at).where(table.c.seq == seq)) if seq else None
    return Mark(seq, _text(at)) if at else Mark()


def _newest_of(connection: sa.Connection, table: sa.Table) -> Mark:
    row = connection.execute(sa.select(table.c.seq, table.c.at).order_by(table.c.seq.desc()).limit(1)).first()
    return Mark(row.seq, _text(row.at)) if row else Mark()


def _end_of(rows: Sequence[Mapping[str, Any]], top: Mark) -> Mark:
    """The line behind which is read on: there may be more when as many were found as are read at once."""
    return Mark(rows[-1]["seq"], _text(rows[-1]["at"])) if len(rows) == _AT_ONCE else top


def _lines_of_history(connection: sa.Connection, position: FeedPosition) -> list[Mapping[str, Any]]:
    h = schema().history.c
    about = (h.seq > position.history.seq, h.ci.is_(None), h.event.in_(sorted(_OF_HISTORY)))
    select = sa.select(h.seq, h.at, h.actor, h.event, h.data).where(*about).order_by(h.seq).limit(_AT_ONCE)
    return [dict(row) for row in connection.execute(select).mappings()]


def _lines_of_journal(connection: sa.Connection, position: FeedPosition) -> list[Mapping[str, Any]]:
    t = schema()
    j, d = t.journal.c, t.deployment.c
    # Joined to nothing, so that it is no use to the index over events, which SQLite would go through from the journal's first line on.
    event = j.event.concat("").in_(sorted({_GATE, *DeploymentState} - {DeploymentState.PLANNED}))
    about = (j.seq > position.journal.seq, j.host.is_(None), event)
    columns = (j.seq, j.at, j.event, j.wave, j.data, d.id, d.rfc, d.release, d.version)
    select = sa.select(*columns).join(t.deployment, d.id == j.deployment_id).where(*about).order_by(j.seq).limit(_AT_ONCE)
    return [dict(row) for row in connection.execute(select).mappings()]


def _from_history(row: Mapping[str, Any]) -> dict[str, Any] | None:
    kind, data = _OF_HISTORY[row["event"]], row["data"]
    if kind == "drift":
        count, real = differences_of(data)
        if not count:
            return None
        hosts = sorted({str(one.get("host")) for one in real if is_name(one.get("host"))})[:_HOSTS]
        named = f", first on {', '.join(hosts[:5])}" if hosts else ""
        sentence = f"an audit of {data.get('compared')} of {data.get('hosts')} hosts found {counted(count, 'difference')}{named}"
        return _event(kind, hosts=hosts, sentence=sentence)
    about = {name: str(data.get(name, "")) for name in ("rfc", "release", "version")}
    what = f"{about['rfc']} ({about['release']} {about['version']})"
    if kind == "rfc_entered":
        state = STATES.get(data.get("state"), "")
        return _event(kind, **about, state=state, sentence=f"{what} was entered, {state}")
    decision, complete = kind.removeprefix("rfc_"), data.get("complete") is True
    more = "; that is all that it needs" if complete else ""
    sentence = f"{row['actor']} {decision} {what} as {data.get('role')}{more}"
    return _event(kind, **about, state=decision, complete=complete, sentence=sentence)


def _from_journal(row: Mapping[str, Any]) -> dict[str, Any]:
    label = f"{row['rfc']}#{row['id']}"
    about = {"rfc": row["rfc"], "release": row["release"], "version": row["version"], "deployment": label}
    what = f"{label} ({row['release']} {row['version']})"
    reason = str(row["data"].get("reason") or "")
    why = f": {reason}" if reason else ""
    if row["event"] == _GATE:
        decision, wave = str(row["data"].get("decision")), row["wave"]
        after = "of hosts that had got lost" if wave is None else f"after wave {wave}"
        return _event("gate_decided", **about, wave=wave or 0, state=decision, sentence=f"the gate {after} of {what} says {decision}{why}")
    return _event("deployment", **about, state=row["event"], sentence=f"{what} is {row['event'].replace('_', ' ')}{why}")


def _event(kind: str, **about: Any) -> dict[str, Any]:
    """An event with every key, for a condition over one that is lacking is an error. What people wrote stays what it is: no template."""
    of_all = {"rfc": "", "release": "", "version": "", "deployment": "", "wave": 0, "state": "", "complete": False, "hosts": []}
    return {"event": kind, **of_all, **about, "sentence": _inert(about["sentence"])}


def _inert(text: str) -> str:
    """``text`` on one line, in which Jinja finds nothing to do: rulebooks and extra variables are templates."""
    return re.sub(r"\{(?=[{%#])|[}%#](?=\})", r"\g<0> ", " ".join(text.split()))[:_LETTERS]


def _fault(event: Mapping[str, Any]) -> str:
    """Why an event is not told: a name in it that can't be one."""
    bad = [name for name, alphabet in _ALPHABETS.items() if event[name] and not alphabet.fullmatch(event[name])]
    if event["event"] != "drift" and not event["rfc"]:
        bad.append("rfc")
    if not bad:
        return ""
    return f"the CMDB's line {event['id']} is not told, for its {', '.join(bad)} can't be one; find out who wrote it"


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
