# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which seats of a licensed product a deployment has to reserve, and whether there are enough. Pure.

A CI needs one seat of a product, however many releases on it use that product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

_FOREVER = datetime.max.replace(tzinfo=UTC)


class SeatState(StrEnum):
    """``reserved`` for a deployment that is to install the release, ``used`` when it has."""

    RESERVED = "reserved"
    USED = "used"


@dataclass(frozen=True)
class Entitlement:
    """The right to use ``product`` on ``seats`` CIs, from ``valid_from`` until before ``valid_until``; ``None`` is no limit."""

    name: str
    product: str
    seats: int
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    reference: str = ""

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether it is valid all the time from ``start`` until before ``end``."""
        return (self.valid_from is None or self.valid_from <= start) and (self.valid_until is None or end <= self.valid_until)

    def valid(self, at: datetime) -> bool:
        """Whether it is valid at that moment."""
        return (self.valid_from is None or self.valid_from <= at) and (self.valid_until is None or at < self.valid_until)

    def term(self) -> str:
        """From when until when, for a person."""
        since = f"from {self.valid_from.isoformat()} " if self.valid_from else ""
        return f"{since}until {self.valid_until.isoformat()}" if self.valid_until else since.strip() or "without end"


@dataclass(frozen=True)
class Seat:
    """The seat of an entitlement that a release on a CI has."""

    entitlement: str
    ci: str
    release: str


@dataclass(frozen=True)
class Allotment:
    """What a deployment of a release does to the seats of its product.

    ``needed``: CIs that have no seat yet. ``new``: the seats to be reserved, empty when there are not enough. ``leaving``: seats that
    the release has on the CIs and does not use any more once it is deployed. ``free``: seats that were left before. ``ending``: the
    entitlements of the product whose term does not cover the whole window.
    """

    product: str
    needed: int = 0
    free: int = 0
    new: tuple[Seat, ...] = ()
    leaving: tuple[Seat, ...] = ()
    ending: tuple[Entitlement, ...] = field(default=())

    @property
    def suffices(self) -> bool:
        """Whether every CI gets its seat."""
        return self.needed <= self.free

    def sentence(self) -> str:
        """How many are needed and how many there are, for a person."""
        if not self.needed:
            return f"every CI in scope has its seat of {self.product}"
        there = f"{self.needed} more seats of {self.product} are needed and {self.free} are free for the whole window"
        if self.suffices:
            return there
        late = "; ".join(f"{one.name}, with {one.seats}, is valid {one.term()}" for one in self.ending[:3])
        return f"{there}, {self.needed - self.free} too few" + (f" ({late})" if late else "")


def allot(
    entitlements: Iterable[Entitlement],
    taken: Mapping[str, int],
    seats: Collection[Seat],
    product: str | None,
    release: str,
    cis: Collection[str],
    span: tuple[datetime, datetime],
) -> Allotment:
    """Find a seat of ``product`` for ``release`` on each of ``cis``, valid for the whole ``span``, or how many there are too few.

    ``taken``: how many seats of each entitlement are, wherever. ``seats``: those on ``cis`` that are of the product, or that ``release``
    has; others don't matter. A CI keeps the seat that it has, whatever release got it. New seats are of the entitlements that last
    longest. ``product`` is ``None`` for a release that needs no seat; what the release has on the CIs then leaves, as does a seat of
    another product.
    """
    wanted = set(cis)
    of_product = {one.name: one for one in entitlements if one.product == product}
    good = [one for one in of_product.values() if one.covers(*span)]
    left = {one.name: max(0, one.seats - taken.get(one.name, 0)) for one in good}
    good.sort(key=lambda one: one.name)
    good.sort(key=lambda one: one.valid_until or _FOREVER, reverse=True)

    has: dict[str, str] = {}  # the entitlement of which a CI has a seat that is good
    own: set[Seat] = set()
    for seat in sorted(seats, key=lambda seat: (seat.ci, seat.entitlement)):
        if seat.ci in wanted:
            if seat.release == release:
                own.add(seat)
            if seat.entitlement in left:
                has.setdefault(seat.ci, seat.entitlement)
    lacking = sorted(wanted - has.keys()) if product is not None else []
    free = sum(left.values())
    ending = tuple(sorted((one for one in of_product.values() if one.name not in left), key=lambda one: one.name))
    if len(lacking) > free:
        return Allotment(product or "", len(lacking), free, ending=ending)
    supply = (one.name for one in good for _seat in range(left[one.name]))
    given = has | dict(zip(lacking, supply, strict=False))
    target = {Seat(entitlement, ci, release) for ci, entitlement in given.items()}
    # A release that has good seats of two entitlements on one CI gives one of them back with this.
    new = tuple(sorted(target - own, key=lambda seat: seat.ci))
    leaving = tuple(sorted(own - target, key=lambda seat: (seat.ci, seat.entitlement)))
    return Allotment(product or "", len(lacking), free, new, leaving, ending)


@dataclass(frozen=True)
class Unlicensed:
    """A release is installed on a CI without the seat that it needs; ``product`` is ``None`` when it could not be found out of what."""

    ci: str
    release: str
    version: str
    product: str | None
    detail: str


def unlicensed(
    installations: Iterable[Mapping[str, Any]],
    products: Mapping[str, str | Exception | None],
    seats: Iterable[Seat],
    entitlements: Iterable[Entitlement],
    now: datetime,
) -> list[Unlicensed]:
    """The installations (``ci``, ``release``, ``version``, ``digest``) that need a seat and have none of an entitlement that is valid.

    ``products``: by digest the product that a release uses, ``None`` when it uses none, or why that could not be found out. A digest
    that is not in it is passed over.
    """
    known = {one.name: one for one in entitlements}
    has: dict[tuple[str, str], list[Entitlement]] = {}
    for seat in seats:
        entitlement = known[seat.entitlement]
        has.setdefault((seat.ci, entitlement.product), []).append(entitlement)
    found = []
    for row in installations:
        product = products.get(str(row["digest"]))
        ci, release, version = str(row["ci"]), str(row["release"]), str(row["version"])
        if isinstance(product, Exception):
            found.append(Unlicensed(ci, release, version, None, f"which seat {release} {version} needs could not be found out: {product}"))
        elif product is not None:
            rights = sorted(has.get((ci, product), []), key=lambda one: one.name)
            if not any(one.valid(now) for one in rights):
                why = f"its seat is of {rights[0].name}, which is valid {rights[0].term()}" if rights else "it has no seat of it"
                found.append(Unlicensed(ci, release, version, product, f"{release} {version} uses {product}, but {why}"))
    return found
