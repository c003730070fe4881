# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entitlements and their seats in the CMDB.

Writers of a CMDB take turns, so what a transaction has counted is still true when it takes seats: the last one is taken once.
A seat follows what the CMDB says is installed: it is used from the moment that the installation is recorded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ..cmdb.chain import append_history, append_journal
from ..cmdb.schema import schema
from ..errors import ConflictError, TidegateError
from .seats import Allotment, Entitlement, Seat, SeatState, allot

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_CHUNK = 500  # names in one IN list
_PRODUCT = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")  # as the schema of release.yml has it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,99}")


@dataclass(frozen=True)
class Held:
    """A seat with its state, since when it is that, and the RFC for which it was reserved."""

    seat: Seat
    state: SeatState
    since: datetime
    rfc: str


# -- entitlements ----------------------------------------------------------


def entitlements(connection: sa.Connection, product: str | None = None) -> list[Entitlement]:
    """Entitlements, all or those of a product, by name."""
    table = schema().entitlement
    select = sa.select(table) if product is None else sa.select(table).where(table.c.product == product)
    return sorted((Entitlement(**row) for row in connection.execute(select).mappings()), key=lambda one: one.name)


def taken_seats(connection: sa.Connection, product: str | None = None) -> Iterator[Held]:
    """Seats that are reserved or used, all or those of a product, in no order: one after the other, for there may be very many."""
    t = schema()
    seat = t.seat.c
    select = sa.select(seat.entitlement, seat.ci, seat.release, seat.state, seat.since, t.deployment.c.rfc)
    select = select.join(t.deployment, t.deployment.c.id == seat.deployment_id)
    if product is not None:
        select = select.join(t.entitlement, t.entitlement.c.name == seat.entitlement).where(t.entitlement.c.product == product)
    for entitlement, ci, release_, state, since, rfc in connection.execute(select):
        yield Held(Seat(entitlement, ci, release_), SeatState(state), since, rfc)


def check(wanted: Entitlement) -> None:
    """Raise :class:`TidegateError` unless an entitlement can be what it says."""
    if not _NAME.fullmatch(wanted.name):
        raise TidegateError(
            f"{wanted.name!a:.80} can't be the name of an entitlement; use at most 100 letters, digits, spaces, ., _, / and -, the first a "
            "letter or digit"
        )
    if not _PRODUCT.fullmatch(wanted.product) or len(wanted.product) > 64:
        raise TidegateError(
            f"{wanted.product!a:.80} can't be a product; use at most 64 lower case letters and digits, in words joined by ., _ or -"
        )
    if not 0 <= wanted.seats <= 2**31 - 1:
        raise TidegateError(f"{wanted.name} can't have {wanted.seats} seats; give a number from 0 to 2147483647")
    if wanted.valid_from and wanted.valid_until and wanted.valid_until <= wanted.valid_from:
        raise TidegateError(f"{wanted.name} ends before it begins, or at once; set valid_until after valid_from")


def save(connection: sa.Connection, wanted: Entitlement, actor: str, now: datetime, write: bool) -> Entitlement | None:
    """Enter an entitlement or change it to what is ``wanted``; return what it was.

    Raises :class:`ConflictError` when more of its seats are taken than it is to have, or any and it is to be for another product.
    """
    check(wanted)
    table = schema().entitlement
    before = next((one for one in entitlements(connection) if one.name == wanted.name), None)
    if before is not None:
        taken = len(_takers(connection, wanted.name))
        if taken > wanted.seats:
            raise ConflictError(
                f"{taken} seats of {wanted.name} are taken, so it can't have {wanted.seats}; free seats first, by back-outs"
            )
        if taken and wanted.product != before.product:
            raise ConflictError(f"{taken} seats of {wanted.name} are taken, so it stays one for {before.product}; enter a new one")
    if write and wanted != before:
        if before is None:
            connection.execute(sa.insert(table), asdict(wanted))
        else:
            connection.execute(sa.update(table).where(table.c.name == wanted.name).values(asdict(wanted)))
        _remember(connection, "entitlement changed" if before else "entitlement entered", wanted, actor, now)
    return before


def remove(connection: sa.Connection, name: str, actor: str, now: datetime, write: bool) -> Entitlement | None:
    """Remove an entitlement; return what it was. Raises :class:`ConflictError` while seats of it are taken."""
    table = schema().entitlement
    before = next((one for one in entitlements(connection) if one.name == name), None)
    if before is not None:
        cis = _takers(connection, name)
        if cis:
            raise ConflictError(
                f"{len(cis)} seats of {name} are taken ({', '.join(cis[:3])}), so it stays; set valid_until if it has ended"
            )
        if write:
            connection.execute(sa.delete(table).where(table.c.name == name))
            _remember(connection, "entitlement removed", before, actor, now)
    return before


def _takers(connection: sa.Connection, name: str) -> list[str]:
    seat = schema().seat
    return sorted(connection.scalars(sa.select(seat.c.ci).where(seat.c.entitlement == name).distinct()))


def _remember(connection: sa.Connection, event: str, entitlement: Entitlement, actor: str, now: datetime) -> None:
    data = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(entitlement).items()}
    append_history(connection, [{"at": now, "actor": actor, "event": event, "data": data}])


# -- seats, in the transactions of a deployment ----------------------------


def would_reserve(
    connection: sa.Connection, product: str | None, release: str, cis: Collection[str], span: tuple[datetime, datetime]
) -> Allotment:
    """What :func:`reserve` would do."""
    seat = schema().seat.c
    of_product = [] if product is None else entitlements(connection, product)
    names = [one.name for one in of_product]
    # Others may have tens of thousands of seats: of the product the database counts them, of other products they don't matter.
    count = sa.select(seat.entitlement, sa.func.count(seat.ci.distinct())).where(seat.entitlement.in_(names)).group_by(seat.entitlement)
    taken = {row[0]: int(row[1]) for row in connection.execute(count)} if names else {}
    found: set[Seat] = set()
    for chunk in _chunks(cis):
        here = sa.select(seat.entitlement, seat.ci, seat.release).where(seat.ci.in_(chunk))
        for these in (seat.release == release, *([seat.entitlement.in_(names)] if names else [])):
            found.update(Seat(*row) for row in connection.execute(here.where(these)))
    return allot(of_product, taken, found, product, release, cis, span)


def reserve(
    connection: sa.Connection, deployment_id: int, product: str | None, release: str, cis: Collection[str], span: tuple[datetime, datetime]
) -> None:
    """Reserve the seats of ``product`` that a deployment will use in ``span``, all or none; raises :class:`ConflictError` when there
    are not enough. ``None`` for a release that needs none."""
    t = schema()
    allotment = would_reserve(connection, product, release, cis, span)
    if not allotment.suffices:
        raise ConflictError(f"{allotment.sentence()}; enter an entitlement with tidegate.release.licence, or choose fewer CIs")
    if allotment.new:
        row = {"deployment_id": deployment_id, "state": SeatState.RESERVED, "since": span[0]}
        connection.execute(sa.insert(t.seat), [asdict(seat) | row for seat in allotment.new])
    if allotment.leaving:
        same = (getattr(t.seat.c, name) == sa.bindparam(f"of_{name}") for name in ("entitlement", "ci", "release"))
        leave = sa.update(t.seat).where(*same).values(leaves_with=deployment_id)
        connection.execute(leave, [{f"of_{key}": value for key, value in asdict(seat).items()} for seat in allotment.leaving])
    if allotment.new or allotment.leaving:
        data = {"product": product, "new": len(allotment.new), "leaving": len(allotment.leaving)}
        append_journal(connection, [{"deployment_id": deployment_id, "at": span[0], "event": "seats_reserved", "data": data}])


def mark_used(connection: sa.Connection, deployment_id: int, hosts: Iterable[str], now: datetime) -> None:
    """The release is installed on ``hosts``: what was reserved for them is used."""
    seat = schema().seat
    for mine in _of(deployment_id, hosts):
        connection.execute(sa.update(seat).where(mine, seat.c.state == SeatState.RESERVED).values(state=SeatState.USED, since=now))


def release(connection: sa.Connection, deployment_id: int, hosts: Iterable[str]) -> None:
    """The deployment was undone on ``hosts``: what it took for them is free again. What they had before stays."""
    for mine in _of(deployment_id, hosts):
        connection.execute(sa.delete(schema().seat).where(mine))


def release_reserved(connection: sa.Connection, deployment_id: int, hosts: Iterable[str]) -> None:
    """The deployment gives ``hosts`` up: what it reserved for them and did not use is free again."""
    seat = schema().seat
    for mine in _of(deployment_id, hosts):
        connection.execute(sa.delete(seat).where(mine, seat.c.state == SeatState.RESERVED))


def release_all(connection: sa.Connection, host: str) -> int:
    """A host is gone: every seat that it has is free again; return how many that were."""
    seat = schema().seat
    return int(connection.execute(sa.delete(seat).where(seat.c.ci == host)).rowcount)


def close_reservations(connection: sa.Connection, deployment_id: int, active: Iterable[str]) -> None:
    """The deployment has ended and the release is on ``active``: what it reserved and did not use is free, and so is what these hosts
    had for the release before and do not use any more."""
    seat = schema().seat
    connection.execute(sa.delete(seat).where(seat.c.deployment_id == deployment_id, seat.c.state == SeatState.RESERVED))
    leaving = seat.c.leaves_with == deployment_id
    for names in _chunks(active):
        connection.execute(sa.delete(seat).where(leaving, seat.c.ci.in_(names)))
    connection.execute(sa.update(seat).where(leaving).values(leaves_with=None))


def _of(deployment_id: int, hosts: Iterable[str]) -> Iterable[Any]:
    seat = schema().seat
    return (sa.and_(seat.c.deployment_id == deployment_id, seat.c.ci.in_(names)) for names in _chunks(hosts))


def _chunks(names: Iterable[str]) -> Iterable[list[str]]:
    listed = list(names)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))
