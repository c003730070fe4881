# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CMDB as it is after years: what is over grows with its age; what is installed, planned or under way does not.

The database makes most of the rows itself: there are millions of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import Schema, schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import rollout_to_dict
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)
OWN_SEATS = 200  # of the product that is asked for


@dataclass(frozen=True)
class Age:
    """How much there is. ``deployments`` of some ``releases`` are completed, each of so many ``hosts``; ``planned`` changes have not begun.

    ``seats``: how many other products use than ``prod0``, which uses :data:`OWN_SEATS`.
    """

    deployments: int
    seats: int = 0
    cis: int = 3000
    hosts: int = 100
    releases: int = 30
    planned: int = 200
    products: int = 20


def build_aged(url: str, age: Age) -> None:
    """Make a CMDB and fill it."""
    t = schema()
    with Cmdb.open(url, create=True) as cmdb, cmdb.begin() as connection:
        for fill in (_add_cis, _add_deployments, _add_changes, _add_seats):
            fill(connection, t, age)
        if connection.dialect.name == "postgresql":  # which counts only the rows that it numbered itself
            for table in (t.ci, t.deployment):
                sequence = sa.func.pg_get_serial_sequence(table.name, "id")
                connection.execute(sa.select(sa.func.setval(sequence, sa.func.max(table.c.id))))


def host_name(number: int) -> str:
    """The name of the CI with that number, from 1."""
    return f"h{number:05}"


def digest_of(release: int, version: int) -> str:
    """A digest, as packages have one."""
    return f"sha256:{release:032x}{version:032x}"


def _add_cis(connection: sa.Connection, t: Schema, age: Age) -> None:
    words = {"class_": "server", "environment": "live", "created": NOW, "updated": NOW}
    numbers = range(1, age.cis + 1)
    rows = [{"id": n, "name": host_name(n), "site": f"s{n % 20}", "attributes": {"rack": n % 100}, **words} for n in numbers]
    connection.execute(t.ci.insert(), rows)
    related = [{"source_id": n, "target_id": n + 1, "kind": "depends_on"} for n in range(1, age.cis, 7)]
    connection.execute(t.relation.insert(), related)


def _add_deployments(connection: sa.Connection, t: Schema, age: Age) -> None:
    options = rollout_to_dict(Rollout())
    rows, waves = [], []
    for number in range(1, age.deployments + 1):
        at = NOW - timedelta(days=730) * (1 - number / (age.deployments + 1))
        version, release = divmod(number, age.releases)
        rows.append(
            {
                "id": number,
                "rfc": f"CHG{number:07}",
                "release": f"app{release:02}",
                "version": f"{version}.0",
                "digest": digest_of(release, version),
                "state": "completed",
                "options": options,
                "holder": "controller pid 1",
                "token": int(at.timestamp() * 1000),
                "created": at,
                "started": at,
                "finished": at + timedelta(hours=1),
            }
        )
        waves += [
            {"deployment_id": number, "number": wave, "state": "decided", "decision": "proceed", "opened": at, "decided": at}
            for wave in (1, 2)
        ]
    connection.execute(t.deployment.insert(), rows)
    connection.execute(t.wave.insert(), waves)

    d, h = t.deployment.c, t.deployment_host.c
    place = _numbers(age.hosts)
    # Each release goes to the same CIs again and again, and some CIs have several releases.
    ci = (d.id % age.releases * (age.cis // age.releases) + place.c.n) % age.cis + 1
    wave = sa.case((place.c.n == 0, 1), else_=2)
    none, empty = sa.null(), _text("{}")
    hosts = sa.select(d.id, t.ci.c.name, wave, place.c.n, _text("active"), _text(""), d.finished)
    hosts = hosts.select_from(sa.join(t.deployment, place, sa.true()).join(t.ci, t.ci.c.id == ci)).order_by(d.id, place.c.n)
    _insert(connection, t.deployment_host, "deployment_id host wave position state detail updated", hosts)

    both = sa.join(t.deployment, t.deployment_host, h.deployment_id == d.id)
    whole, each = _texts("planned", "staging", "activating"), _texts("staged", "activating", "started", "active")
    of_all = sa.select(d.id, d.created, whole.c.text, none.label("host"), none.label("wave"), sa.literal(0).label("place"), whole.c.n)
    of_one = sa.select(d.id, d.created, each.c.text, h.host, h.wave, sa.literal(1), each.c.n)
    joined = of_all.select_from(sa.join(t.deployment, whole, sa.true())), of_one.select_from(both.join(each, sa.true()))
    e = sa.union_all(*joined).subquery().c
    events = sa.select(e.id, e.created, e.text, e.host, e.wave, empty).order_by(e.id, e.place, e.n)
    _insert(connection, t.journal, "deployment_id at event host wave data", events)
    history = sa.select(d.finished, d.holder, h.host, _text("installed"), empty).select_from(both)
    _insert(connection, t.history, "at actor ci event data", history)

    last = sa.select(d.release, sa.func.max(d.id).label("id")).group_by(d.release).subquery()
    live = sa.select(t.ci.c.id, d.release, d.version, d.digest, _text("active"), d.id, d.finished)
    live = live.select_from(both.join(last, last.c.id == d.id).join(t.ci, t.ci.c.name == h.host))
    _insert(connection, t.installation, "ci_id release version digest state deployment_id since", live)


def _add_changes(connection: sa.Connection, t: Schema, age: Age) -> None:
    d, h = t.deployment.c, t.deployment_host.c
    normal, title, person = (_text(word) for word in ("normal", "Upgrade", "rita"))
    about = (normal, d.release, d.version, d.digest, d.digest, title, person, person, sa.literal(0), sa.literal(4))
    over = sa.select(d.rfc, *about, d.created, d.finished, d.started, d.finished, d.finished)
    columns = "number type release version digest fingerprint short_description requested_by assigned_to state risk start_date end_date"
    _insert(connection, t.change, f"{columns} work_start work_end updated", over)
    cis = sa.select(d.rfc, h.host).select_from(sa.join(t.deployment, t.deployment_host, h.deployment_id == d.id))
    _insert(connection, t.change_ci, "number ci", cis)
    duties = sa.select(d.rfc, _text("review"), d.release, d.version, d.digest, d.finished, d.finished, d.finished)
    _insert(connection, t.debt, "rfc duty release version digest incurred due settled", duties.where(d.id % 7 == 0))
    for number in range(age.planned):
        start, release = NOW + timedelta(hours=4 * number + 24), number % age.releases
        change = {
            "number": f"CHG9{number:06}",
            "type": "normal",
            "release": f"app{release:02}",
            "version": "99.0",
            "digest": digest_of(release, 99),
            "fingerprint": "e" * 64,
            "short_description": "Planned upgrade",
            "requested_by": "rita",
            "assigned_to": "oscar",
            "state": -2,
            "risk": 4,
            "start_date": start,
            "end_date": start + timedelta(hours=4),
            "updated": NOW,
        }
        connection.execute(t.change.insert(), change)
        first = release * (age.cis // age.releases)
        names = [host_name((first + n) % age.cis + 1) for n in range(age.hosts)]
        connection.execute(t.change_ci.insert(), [{"number": change["number"], "ci": name} for name in names])


def _add_seats(connection: sa.Connection, t: Schema, age: Age) -> None:
    products = range(age.products + 1)
    rows = [{"name": f"E{n}", "product": f"prod{n}", "seats": 100_000, "reference": ""} for n in products]
    connection.execute(t.entitlement.insert(), rows)
    seats = [
        {
            "entitlement": f"E{n}",
            "ci": host_name((n * 37 + i) % age.cis + 1),
            # Where there are more seats than CIs, several releases of a CI share one product.
            "release": f"app{(n + i // age.cis) % age.releases:02}",
            "deployment_id": (n + i) % age.deployments + 1,
            "state": "used",
            "since": NOW,
        }
        for n in products
        for i in range(age.seats // age.products if n else OWN_SEATS)
    ]
    connection.execute(t.seat.insert(), seats)


def _insert(connection: sa.Connection, table: sa.Table, columns: str, rows: sa.Select[Any]) -> None:
    # Without the defaults of the columns that are left out, which the statement would ask for row by row.
    connection.execute(table.insert().from_select(columns.split(), rows))


def _numbers(count: int) -> sa.CTE:
    """A table with the column ``n``: 0, 1 and so on."""
    first = sa.select(sa.literal(0).label("n")).cte(recursive=True)
    return first.union_all(sa.select(first.c.n + 1).where(first.c.n < count - 1))


def _texts(*texts: str) -> sa.Subquery:
    """A table with the columns ``n`` and ``text``."""
    return sa.union_all(*(sa.select(sa.literal(n).label("n"), _text(text).label("text")) for n, text in enumerate(texts))).subquery()


def _text(text: str) -> sa.ColumnElement[str]:
    """A text in a statement, which becomes what the column is that it goes to: a document too."""
    return sa.literal_column(f"'{text}'")
