# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses the seats of licensed products, and what is installed without one: between the CMDB and the DSL."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from ..cmdb.store import Cmdb
from ..dsl.package import load_package_manifest
from ..dsl.repository import Library
from ..errors import TidegateError
from .entitlements import entitlements, taken_seats
from .seats import Entitlement, SeatState, Unlicensed, unlicensed


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
        return unlicensed(installations, products, (one.seat for one in taken_seats(connection)), entitlements(connection), now)


def survey(cmdb: Cmdb, product: str | None, now: datetime) -> list[dict[str, Any]]:
    """Every entitlement, or those for a product, with how many of its seats are used, reserved and free, and by whom."""
    users: dict[str, list[dict[str, str]]] = defaultdict(list)
    with cmdb.read() as connection:
        known = entitlements(connection, product)
        for one in taken_seats(connection, product):
            user = {"ci": one.seat.ci, "release": one.seat.release, "state": str(one.state), "since": one.since.isoformat(), "rfc": one.rfc}
            users[one.seat.entitlement].append(user)
    return [_surveyed(one, sorted(users[one.name], key=itemgetter("ci", "release")), now) for one in known]


def _surveyed(entitlement: Entitlement, users: list[dict[str, str]], now: datetime) -> dict[str, Any]:
    # A CI uses one seat, however many of its releases share it.
    by_ci = {user["ci"]: state for state in (SeatState.RESERVED, SeatState.USED) for user in users if user["state"] == state}
    count = Counter(by_ci.values())
    return {
        "name": entitlement.name,
        "product": entitlement.product,
        "seats": entitlement.seats,
        "used": count[SeatState.USED],
        "reserved": count[SeatState.RESERVED],
        "free": entitlement.seats - len(by_ci),
        "valid": entitlement.valid(now),
        "valid_from": entitlement.valid_from.isoformat() if entitlement.valid_from else None,
        "valid_until": entitlement.valid_until.isoformat() if entitlement.valid_until else None,
        "reference": entitlement.reference,
        "users": users,
    }
