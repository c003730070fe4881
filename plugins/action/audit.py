# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.audit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.verdict import leave_verdict
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import named_before, save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.recorded_sets import recorded_sets
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import list_levels, list_units, readings_of, record_versions
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.unit_check import (
    OTHER_FIRMWARE,
    DeviceReading,
    check_readings,
    units_by_serial,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import folded
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.firmware import FirmwareImage
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import manifests_of
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.recover import recover
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import meant_by
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.package import judge_library, unmet_sentence
from ansible_collections.tidegate.release.plugins.plugin_utils.files import write_atomically
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.usage import installed_products, without_seat
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Policy
from ansible_collections.tidegate.release.plugins.plugin_utils.report.artifacts import passed_on
from ansible_collections.tidegate.release.plugins.plugin_utils.report.audited import NOT_SEEN, Severity, junit, severity
from ansible_collections.tidegate.release.plugins.plugin_utils.report.differences import difference_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted, share
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import spans
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.data_journal import DataJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import (
    Found,
    NotSeen,
    account,
    by_word_alone,
    compare,
    compare_beside,
    compare_devices,
    lost_from_library,
    not_compared,
    not_recorded,
    read_device_answer,
    recorded_devices,
    unit_differences,
    unknown_data,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_changes import earliest, with_changes
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_firmware import PastReadings
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_record import record_hosts
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_sets import read_sets
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.late import late_differences
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.person import this_user
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.write_off import end_write_offs


class ActionModule(TidegateAction):
    """Gather what hosts answered, the CMDB's and the DSL's side, judge the signatures, compare, fail on a difference."""

    module = "audit"
    homes = ("dsl", "cmdb")

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        inventory = set(task_vars["groups"]["all"])
        # As it is, for no other variable of the host may be in the way, not even one that can't be templated.
        results = {host: task_vars["hostvars"].raw_get(host).get("audit_facts") for host in inventory.intersection(options["hosts"])}
        library = open_library(required_setting(options, "dsl")).at_one_moment()
        policy = load_policy(optional_setting(options, "policy"))
        meant = meant_by(required_setting(options, "cmdb"), None)
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            with cmdb.read() as connection:
                cis, recorded = cmdb.cis(connection=connection), cmdb.installations(connection=connection)
                by_hand, model = cmdb.done_by_hand(connection), cmdb.model(connection)
            audited = account(results, inventory, cis, {str(row["ci"]) for row in recorded}, policy.host_classes, model)
            if not options["hosts"] or not audited.found:
                raise TidegateError("there is no host to audit, so nothing was compared; check tidegate_hosts and the inventory")
            live = (entry["name"] for found in audited.found.values() if not isinstance(found, NotSeen) for entry in found)
            # Another tool may have brought a release, so that the library's own list does not have it.
            also = {*meant.releases(), *(str(row["release"]) for row in recorded), *live}
            archived = {descriptor.digest for descriptor in library.releases(also).values()}
            if not archived:
                raise TidegateError(
                    f"there is no release in the DSL {required_setting(options, 'dsl')}, so nothing was compared with it; "
                    "correct tidegate_dsl, or copy it back from a second home with dsl_sync"
                )
            judged = judge_library(library, policy, utc_now(), also)
            # One that the DSL does not hold is named for that.
            products = installed_products(library, [row for row in recorded if row["digest"] in archived])
            unlicensed = without_seat(cmdb, recorded, products, utc_now())
            of_hosts = manifests_of(library, ((str(row["release"]), str(row["digest"])) for row in recorded if row["digest"] in archived))
            treeless = {digest for digest, manifest in of_hosts.items() if not manifest.has_tree}
            images = {digest: manifest.firmware for digest, manifest in of_hosts.items() if manifest.firmware}
            outside = {digest for digest, manifest in of_hosts.items() if manifest.reads is not None}
            compared = sorted(host for host, found in audited.found.items() if not isinstance(found, NotSeen))
            returned = end_write_offs(cmdb, compared, "it answered an audit", this_user(task_vars), utc_now(), not self._task.check_mode)
            gone = cmdb.write_offs(audited.found.keys() - compared)
            unknown = unknown_data(DataJournal(cmdb).unknown_data(utc_now()))
            # Nobody asks what runs on a host that will not come back; but one that says anything is not gone, even if it can't be read.
            found = {host: answer for host, answer in audited.found.items() if host not in gone or getattr(answer, "contact", False)}
            late = late_differences(cmdb, found, utc_now())
            answers = {host: answer for host, result in results.items() if (answer := read_device_answer(result)) is not None}
            # Of a host that nobody has seen that is said once.
            seen = [ci for ci in cis if ci["name"] in found and (ci["name"] in answers or not isinstance(found[ci["name"]], NotSeen))]
            of_units = self._compare_units(cmdb, policy, answers, seen, recorded, images)
            beside, new, unrecorded = self._compare_beside(cmdb, options, results, found, this_user(task_vars))
        differences = [
            *audited.differences,
            *lost_from_library(recover(library, None, meant, write=False).lost),
            *unknown,
            *compare(found, recorded, archived, judged.untrusted, unlicensed, treeless | images.keys(), by_hand, outside),
            *of_units,
            *beside,
        ]
        differences.sort(key=lambda difference: difference["host"] or "")
        named = self._with_changes(required_setting(options, "cmdb"), [*differences, *late, *by_word_alone(by_hand), *not_compared(gone)])
        result: dict[str, Any] = {
            **self._conclude(options, compared, audited.found, named, unrecorded),
            "unrecorded": unrecorded,
            "changed": bool(returned or new),
            "recorded": new,
            "returned": returned,
            "by_revoked": judged.by_revoked,
            "unmet": judged.unmet,
            "warnings": [
                *judged.by_revoked,
                *([unmet_sentence(judged.unmet)] if judged.unmet else []),
                *(f"{host} was written off and is there again" for host in returned),
            ],
        }
        if not self._task.check_mode:
            with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
                with cmdb.begin() as connection:
                    for host, answer in answers.items():
                        record_versions(connection, host, answer.serial, answer.plain_versions, utc_now())
                # Not all may find a place, and of what was not seen nothing can be put on record.
                kept = sorted(named, key=lambda one: one["kind"] in NOT_SEEN)
                save_audit(cmdb, len(compared), len(audited.found), kept, this_user(task_vars), utc_now(), result["severity"])
        leave_verdict(result["severity"])
        return result

    def _compare_beside(
        self, cmdb: Cmdb, options: Mapping[str, Any], results: Mapping[str, object], found: Mapping[str, Found], actor: str
    ) -> tuple[list[dict[str, Any]], dict[str, list[str]], list[str]]:
        """What hosts have besides their releases that is not on record, what of it was put there instead, by host, and the hosts of which
        there is no record."""
        seen = [host for host, answer in found.items() if not isinstance(answer, NotSeen)]
        if options["baseline"]:
            sets = {host: read_sets(results.get(host)) for host in seen}
            new = record_hosts(cmdb, sets, actor, str(options["reason"]), utc_now(), write=not self._task.check_mode)
            return compare_beside(results, found, {}), new, []
        with cmdb.read() as connection:
            recorded = recorded_sets(connection, seen)
        return compare_beside(results, found, recorded), {}, sorted(set(seen) - recorded.keys())

    def _with_changes(self, url: str, differences: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The differences with the changes that cover each, as far as it is known since when it is there."""
        dated = {one["host"]: moment for one in differences if one["host"] and (moment := earliest(one)) is not None}
        if not dated:
            return with_changes(differences, ())
        with Cmdb.open(url) as cmdb, cmdb.read() as connection:
            return with_changes(differences, spans(connection, dated, min(dated.values())))

    def _conclude(
        self,
        options: Mapping[str, Any],
        compared: Sequence[str],
        hosts: Collection[str],
        named: Sequence[Mapping[str, Any]],
        unrecorded: Sequence[str],
    ) -> dict[str, Any]:
        """What the result says of the ``named`` differences, which the file for JUnit gets too; ``hosts``: all that there are;
        ``unrecorded``: those of which nobody has said what they are to have besides releases."""
        verdict = severity(named)
        path = optional_setting(options, "junit")
        if path is not None and not self._task.check_mode:
            write_atomically(Path(path), junit(hosts, named).encode())
        were = "was" if len(hosts) == 1 else "were"
        seen = f"{share(len(compared), len(hosts))} {were} compared with the CMDB and the DSL"
        clean = verdict is Severity.CLEAN
        said = "each runs what the CMDB says and the DSL holds" if clean else counted(len(named), "difference")
        lines = [*difference_lines(named, seen=True), *not_recorded(unrecorded)]
        numbers = {"compared": len(compared), "hosts": len(hosts), "differences": len(named)}
        return {
            **({} if clean else {"failed": True}),
            "severity": str(verdict),
            "differences": named,
            "compared": compared,
            "msg": "\n".join((f"{seen}: {said}", *(f"  {line}" for line in lines))),
            **passed_on("audited", {"severity": str(verdict), **numbers}),
        }

    def _compare_units(
        self,
        cmdb: Cmdb,
        policy: Policy,
        answers: Mapping[str, DeviceReading],
        cis: Sequence[Mapping[str, Any]],
        recorded: Sequence[Mapping[str, Any]],
        images: Mapping[str, Sequence[FirmwareImage]],
    ) -> list[dict[str, Any]]:
        """What of the devices of ``cis``, and of the hardware storage, is not as it is recorded."""
        with cmdb.read() as connection:
            units, levels = list_units(connection), list_levels(connection)
            readings = readings_of(connection, [unit.tag for unit in units])
            past = PastReadings(utc_now(), readings, named_before(connection, OTHER_FIRMWARE))
        by_serial = units_by_serial(units)
        read = {unit.tag for answer in answers.values() if answer.plain_versions for unit in by_serial.get(folded(answer.serial), ())}
        models = {level.model for level in levels}
        unread = check_readings(units, readings, models, read, policy.spares.read_days, utc_now())
        return [*compare_devices(recorded_devices(cis, units, recorded, images), answers, units, past), *unit_differences(unread)]
