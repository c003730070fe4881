# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses the seats of licensed products, and what is installed without one: between the CMDB and the DSL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..cmdb.store import Cmdb
from ..dsl.package import load_package_manifest
from ..dsl.repository import Library
from ..errors import TidegateError
from .entitlements import entitlements, list_seats
from .seats import SeatState, Unlicensed, unlicensed


def installed_products(library: Library, installations: Iterable[Mapping[str, Any]]) -> dict[str, str | Exception | None]:
    """The product that each installed package uses, by digest, each read once; or why that could not be found out."""
    products: dict[str, str | Exception | None] = {}
    for digest, release in sorted({(str(row["digest"]), str(row["release"])) for row in installations}):
        try:
            products[digest] = load_package_manifest(library.repository(release), digest).licensed_product
        except TidegateError as error:
            products[digest] = error
    return products


def without_seat(
    cmdb: Cmdb, installations: Sequence[Mapping[str, Any]], products: Mapping[str, str | Exception | None], now: datetime
) -> list[Unlicensed]:
    """The installations that need a seat and have no valid one."""
    with cmdb.read() as connection:
        return unlicensed(installations, products, [one.seat for one in list_seats(connection)], entitlements(connection), now)


def survey(cmdb: Cmdb, product: str | None, now: datetime) -> list[dict[str, Any]]:
    """Every entitlement, or those for a product, with how many of its seats are used, reserved and free, and by whom."""
    with cmdb.read() as connection:
        known, seats = entitlements(connection, product), list_seats(connection)
    found = []
    for one in known:
        users = [seat for seat in seats if seat.seat.entitlement == one.name]
        # A CI uses one seat, however many of its releases share it.
        by_ci = {seat.seat.ci: seat.state for seat in sorted(users, key=lambda seat: seat.state is SeatState.USED)}
        count = Counter(by_ci.values())
        found.append(
            {
                "name": one.name,
                "product": one.product,
                "seats": one.seats,
                "used": count[SeatState.USED],
                "reserved": count[SeatState.RESERVED],
                "free": one.seats - len(by_ci),
                "valid": one.valid(now),
                "valid_from": one.valid_from.isoformat() if one.valid_from else None,
                "valid_until": one.valid_until.isoformat() if one.valid_until else None,
                "reference": one.reference,
                "users": [
                    {"ci": x.seat.ci, "release": x.seat.release, "state": str(x.state), "since": x.since.isoformat(), "rfc": x.rfc}
                    for x in users
                ],
            }
        )
    return found
