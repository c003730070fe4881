# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CMDB by itself: 30,000 CIs written on either database, what is hit among 100,000 of them, and a history of a million lines."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measure import Costs, Finding

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

_CIS = 30_000
_LINES = 1_000_000
CHANGED, UNCHANGED, ROWS = "1 % of them changed", "the same again", "rows without anything else"
IMPACT_BAR, VERIFY_BAR = 1.0, 60.0  # seconds


def cmdb_write_30k_sqlite() -> Finding:
    """Write 30,000 new CIs with ten attributes at once, then all again with 1 % changed, and unchanged; against the same rows of CIs
    and history in an SQLite file without anything else."""
    with _folder() as folder:

        def rows() -> None:
            connection = sqlite3.connect(folder / "rows.sqlite", isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            _insert(connection.execute, connection.executemany, "?")
            connection.close()

        return _written(str(folder / "cmdb.sqlite"), rows)


def cmdb_write_30k_postgresql() -> Finding:
    """The same in PostgreSQL."""
    import psycopg
    from postgresql import running_postgresql

    with running_postgresql() as server:
        plain = server.database().replace("+psycopg", "")

        def rows() -> None:
            with psycopg.connect(plain, autocommit=True) as connection, connection.cursor() as cursor:
                _insert(cursor.execute, cursor.executemany, "%s")

        return _written(server.database(), rows)


def _cis() -> list[dict[str, Any]]:
    """CIs with ten attributes, some of which many have alike."""
    return [
        {
            "name": f"h{n:05}",
            "class": "server",
            "site": f"s{n % 20}",
            "attributes": {"ansible_host": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "serial": f"SN{n:07}", "cores": 4 + n % 8}
            | {"os": f"os{n % 6}", "tier": f"t{n % 3}", "rack": n % 100, "duty": f"duty{n % 40}", "owner": f"team{n % 25}"}
            | {"memory": 1 + n % 16, "backup": bool(n % 2)},
        }
        for n in range(_CIS)
    ]


def _insert(execute: Callable[[str], object], execute_many: Callable[[str, list[tuple[Any, ...]]], object], mark: str) -> None:
    execute("CREATE TABLE ci (name TEXT PRIMARY KEY, class TEXT, site TEXT, attributes TEXT)")
    execute("CREATE TABLE history (ci TEXT, event TEXT, data TEXT)")
    rows = [(ci["name"], ci["class"], ci["site"], json.dumps(ci["attributes"])) for ci in _cis()]
    execute("BEGIN")
    execute_many(f"INSERT INTO ci VALUES ({mark}, {mark}, {mark}, {mark})", rows)  # noqa: S608 - the benchmark's own
    execute_many(f"INSERT INTO history VALUES ({mark}, 'created', {mark})", [(row[0], row[3]) for row in rows])  # noqa: S608 - as above
    execute("COMMIT")


def _written(url: str, rows: Callable[[], None]) -> Finding:
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb

    costs, new = Costs(), _cis()
    changed = copy.deepcopy(new)
    for ci in changed[:: _CIS // 300]:
        ci["attributes"]["cores"] += 1
    with Cmdb.open(url, create=True):
        pass

    def put(cis: list[dict[str, Any]], how: tuple[int, int, int]) -> None:
        with Cmdb.open(url) as cmdb:
            done = cmdb.put_cis(cis, "bench")
        if (len(done.created), len(done.updated), len(done.unchanged)) != how:
            raise RuntimeError(f"{len(done.created)} created, {len(done.updated)} updated, {len(done.unchanged)} unchanged")

    costs.take(ROWS, rows)
    costs.take("ours", lambda: put(new, (_CIS, 0, 0)))
    costs.take(CHANGED, lambda: put(changed, (0, 300, _CIS - 300)))
    costs.take(UNCHANGED, lambda: put(changed, (0, 0, _CIS)))
    return costs.finding(ROWS)


def impact_100k() -> Finding:
    """Say which of 100,000 CIs with 300,000 relations are hit by what happens to one of them, against reading the relations once."""
    import sqlalchemy as sa
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.impact import impact
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb

    chance, count, now, t = random.Random(1), 100_000, datetime.now(UTC), schema()  # noqa: S311 - no secret
    pairs: set[tuple[int, int]] = set()
    while len(pairs) < 3 * count:
        source = chance.randrange(2, count + 1)
        pairs.add((source, chance.randrange(max(1, source // 50), source)))
    with _folder() as folder, Cmdb.open(str(folder / "cmdb.sqlite"), create=True) as cmdb:
        with cmdb.begin() as connection:
            row = {"class_": "server", "attributes": {}, "created": now, "updated": now}
            connection.execute(sa.insert(t.ci), [{"id": n, "name": f"c{n:06}", **row} for n in range(1, count + 1)])
            connection.execute(sa.insert(t.relation), [{"source_id": one, "target_id": two, "kind": "uses"} for one, two in pairs])

        def asked() -> None:
            with cmdb.read() as connection:
                hit = impact(connection, cmdb.model(connection), ["c000001"])
            if len(hit) < count // 2:
                raise RuntimeError(f"{len(hit)} CIs are hit")

        def read() -> None:
            with cmdb.read() as connection:
                connection.execute(sa.select(t.relation)).all()

        costs = Costs()
        costs.take("reading the relations", read)
        costs.take("ours", asked)
        return costs.finding("reading the relations")


def verify_1m() -> Finding:
    """Verify a CMDB with a history of a million lines, each an update of one of 10,000 CIs, against reading the lines once."""
    import sqlalchemy as sa
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.past import lines_of
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
    from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
    from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import verify_cmdb

    cis, now, costs, ci = 10_000, datetime.now(UTC), Costs(), schema().ci
    with _folder() as folder:
        url = str(folder / "cmdb.sqlite")
        with Cmdb.open(url, create=True) as cmdb:
            cmdb.put_cis([{"name": f"h{n:05}", "attributes": {"turn": 1}} for n in range(cis)], "bench")
            for turn in range(2, _LINES // cis + 1):
                data = {"before": {"attributes": {"turn": turn - 1}}, "after": {"attributes": {"turn": turn}}, "revision": turn}
                line = {"at": now, "actor": "bench", "event": "updated", "data": data}
                with cmdb.begin() as connection:
                    append_history(connection, [line | {"ci": f"h{n:05}"} for n in range(cis)])
            with cmdb.begin() as connection:
                connection.execute(sa.update(ci).values(attributes={"turn": _LINES // cis}, revision=_LINES // cis))

        def verified() -> None:
            with Cmdb.open(url) as cmdb:
                found = verify_cmdb(cmdb, [])
            if found.count or found.lines["history"] != _LINES:
                raise RuntimeError(f"{found.count} findings in {found.lines} lines")

        def read() -> None:
            with Cmdb.open(url) as cmdb, cmdb.read() as connection:
                for _line in lines_of(connection, schema().history):
                    pass

        costs.take("reading the lines", read)
        costs.take("ours", verified)
        return costs.finding("reading the lines")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
