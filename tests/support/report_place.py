# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CMDB and a library of which a report has something to say on each of its pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.model import CalendarFiles
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history, append_journal
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.approval import APPROVED, Matter
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import (
    CLEARANCE,
    CLEARED,
    SBOM,
    Statement,
    purl,
    release_statement,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.waiver import waiver_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Policy
from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import Report, build_report
from ansible_collections.tidegate.release.plugins.plugin_utils.report.site import with_library, with_site
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import register_change
from documents import loaded_rfc
from ics_files import write as write_calendar
from past import history
from releases import HELLO
from seals import KEYS, policy

NOW = datetime.fromisoformat("2027-03-01T22:00:00+00:00")
NUMBER, COMING = "CHG0030001", "CHG0030002"
HOSTS = [f"web{number}.ams.example.net" for number in range(1, 7)]
_DONE = {"active": 3, "failed": 0, "lost": 0, "undone": 0, "size": 3}


class Place:
    """A change that was deployed, gone back in its second wave, and another one that a freeze stops; each with its evidence."""

    def __init__(self, path: Path) -> None:
        self.path = path
        layout = OciLayout.create(path / "dsl")
        self.digest = archive(HELLO, layout).digest
        self.rfc = self._rfc(NUMBER, NOW - timedelta(hours=3), "Say hello to everybody")
        with Cmdb.open(self.cmdb, create=True) as cmdb:
            cmdb.put_cis([{"name": name, "class": "server", "site": "ams", "environment": "live"} for name in HOSTS], "ann")
            with cmdb.begin() as connection:
                register_change(connection, self.rfc, HOSTS, NOW - timedelta(days=2))
                register_change(connection, self._rfc(COMING, NOW + timedelta(days=3), "Again"), HOSTS[:2], NOW)
                self._deployment(connection)
                self._decided(connection)
            live = {"release": "hello", "version": "1.0", "digest": self.digest}
            with cmdb.begin() as connection:
                cmdb.record_installations(connection, [{"ci": name, **live} for name in HOSTS[:3]], "ann", NOW - timedelta(hours=2))
            save_audit(cmdb, 6, 6, [], "ann", NOW - timedelta(minutes=5))
        for envelope in self._evidence():
            attach(layout, self.digest, envelope)

    @property
    def cmdb(self) -> str:
        """The address of the CMDB."""
        return str(self.path / "cmdb.sqlite")

    def policy(self) -> Policy:
        """A policy that knows who signed, with a freeze in which the second change would be."""
        start = NOW + timedelta(days=2)
        event = f"SUMMARY:quarter's end\nDTSTART:{start:%Y%m%dT%H%M%SZ}\nDURATION:P3D"
        freeze = write_calendar(self.path, event, name="freezes.ics")
        return replace(policy(), calendars=CalendarFiles(freezes=(str(freeze),)))

    def report(self, dsl: bool = True) -> Report:
        """The whole report; without ``dsl`` as if nobody had named the library."""
        rules = self.policy()
        with Cmdb.open(self.cmdb) as cmdb, cmdb.at_one_moment() as moment:
            made = with_site(build_report(moment, NOW, past=True), moment, rules, NOW)
        return with_library(made, str(self.path / "dsl") if dsl else None, rules, NOW)

    def _rfc(self, number: str, start: datetime, title: str) -> Rfc:
        about: dict[str, Any] = {"release": "hello", "version": "1.0", "digest": self.digest, "fingerprint": number[-1] * 64}
        about |= {"requested_by": "rita", "assigned_to": "oscar", "start_date": start, "end_date": start + timedelta(hours=4)}
        return loaded_rfc(number=number, short_description=title, state=-2, **about)

    def _deployment(self, connection: sa.Connection) -> None:
        t, begun = schema(), NOW - timedelta(hours=2)
        ends = {"state": "backed_out", "reason": "wave 2 lost too many", "started": begun, "finished": begun + timedelta(minutes=40)}
        about = {"rfc": NUMBER, "release": "hello", "version": "1.0", "digest": self.digest, "created": begun, **ends}
        history(connection, 1, names=HOSTS, host="backed_out", **about)
        of = t.wave.c
        for wave, decision, reason in ((1, "proceed", "all 3 hosts are active"), (2, "back_out", "1 of 3 hosts failed, and 0 may")):
            opened = begun + timedelta(minutes=10 * wave)
            values = {"decision": decision, "reason": reason, "opened": opened, "decided": opened + timedelta(minutes=8)}
            connection.execute(t.wave.update().where(of.deployment_id == 1, of.number == wave).values(**values))
            counts = {**_DONE, **({"active": 2, "failed": 1} if wave == 2 else {})}
            rollout = {"wave_budget": {"value": 0, "percent": False}, "total_budget": {"value": 5, "percent": True}}
            inputs = {"counts": counts, "bad_so_far": wave - 1, "total": 6, "rollout": rollout, "metrics": None}
            measured = {"metric": "errors", "values": {"web": 0.2}, "unclear": "", "error": ""}
            lines = [
                {"at": opened, "event": "measured", "data": measured},
                {"at": opened, "event": "decided", "data": {"decision": decision, "reason": reason, "inputs": inputs}},
            ]
            append_journal(connection, [{"deployment_id": 1, "host": None, "wave": wave, **line} for line in lines])
        back = [{"at": begun + timedelta(minutes=30), "event": "backing_out"}, {"at": begun + timedelta(minutes=40), "event": "backed_out"}]
        reason = {"reason": "wave 2 lost too many"}
        append_journal(connection, [{"deployment_id": 1, "host": None, "wave": None, "data": reason, **line} for line in back])
        debt = {"rfc": NUMBER, "duty": "review", "release": "hello", "version": "1.0", "digest": self.digest, "incurred": begun}
        connection.execute(t.debt.insert(), {**debt, "due": NOW + timedelta(days=2)})

    def _decided(self, connection: sa.Connection) -> None:
        data = {"rfc": NUMBER, "role": "release-manager", "fingerprint": self.rfc.fingerprint, "complete": True}
        append_history(connection, [{"at": NOW - timedelta(days=1), "actor": "carl", "event": "rfc approved", "data": data}])

    def _evidence(self) -> Iterator[bytes]:
        matter = Matter(NUMBER, self.rfc.fingerprint, "hello", "1.0", self.digest, tuple(sorted(HOSTS)))
        at, name = NOW - timedelta(days=1), purl("hello", "1.0")
        yield sign(release_statement("hello", "1.0", self.digest), KEYS["rita"], at)
        yield sign(matter.statement("release-manager", APPROVED, "as discussed"), KEYS["carl"], at)
        yield sign(replace(matter, fingerprint="0" * 64).statement("release-manager", APPROVED, "too early"), KEYS["rita"], at)
        yield sign(matter.statement("release-manager", APPROVED, "let me in"), KEYS["mallory"], at)
        yield sign(replace(matter, rfc="CHG9999999").statement("release-manager", APPROVED, "of another change"), KEYS["carl"], at)
        waived = waiver_statement(matter, "window", "release-manager", "no time", NOW + timedelta(hours=1))
        yield sign(waived, KEYS["carl"], at)
        licences: list[dict[str, Any]] = [{"licenses": [{"license": {"id": "MIT"}}]}, {"licenses": [{"expression": "Apache-2.0"}]}, {}]
        yield sign(Statement(name, self.digest, SBOM, {"bomFormat": "CycloneDX", "components": licences}), KEYS["rita"], at)
        own = {"rfc": NUMBER, "controls": {"approvals": "pass", "window": "waived", "scan": "fail"}}
        yield sign(Statement(name, self.digest, CLEARANCE, {"verificationResult": "PASSED", CLEARED: own}), KEYS["rita"], at)
