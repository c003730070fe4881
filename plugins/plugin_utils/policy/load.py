# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a policy: read it, hold it against its schema and itself, and say every problem at once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..calendar.model import CalendarFiles
from ..dhs.spare_rules import SpareRules
from ..documents import Document, load_document, parse_time
from ..libs import lacking
from ..metrics.model import Bake
from ..rollout.options import Constraints, Rings, Rollout, Share, StayUp, Together
from .checks import check_controls, check_responsibilities, check_roles, check_steps
from .communication import channel_of, check_communication, communication_of
from .metric_checks import check_metrics
from .model import (
    Identity,
    MetricsSource,
    OwnControl,
    Person,
    Policy,
    PublicKey,
    Quorum,
    Responsibility,
    Rule,
    Trust,
    Verification,
    Waivable,
    normalised_name,
)

DEFAULT = Path(__file__).parent / "default.yml"
_NEEDS = {"calendars": "calendars", "prometheus": "metrics"}  # by keys of a policy, the files of requirements/


def read_policy(path: str | Path | None, controls: Mapping[str, Waivable]) -> Policy:
    """Load a policy.yml, the shipped one when ``path`` is ``None``; what it leaves out has the shipped value.

    ``controls`` says which controls there are, and for which changes each may be waived; :func:`..clearance.policy.load_policy` knows that.
    Raises :class:`DocumentError` with every problem.
    """
    shipped = _shipped(tuple(controls.items()))
    base, _nobody, _sha256 = shipped
    own, people, sha256 = shipped if path is None else _load(path, controls)
    folder = Path(path or DEFAULT).absolute().parent
    rollout: dict[str, Any] = {**base["rollout"], **own.get("rollout", {})}
    budget: dict[str, Any] = {**base["rollout"]["budget"], **rollout["budget"]}
    support: dict[str, Any] = {**base["rollout"]["support"], **rollout["support"]}
    return Policy(
        approvals={**base["approvals"], **own.get("approvals", {})},
        rollout=Rollout(
            canary=_share(rollout["canary"]),
            steps=tuple(rollout["steps"]),
            order_by=rollout["order_by"],
            constraints=_constraints(rollout),
            wave_budget=_share(budget["wave"]),
            total_budget=_share(budget["total"]),
            on_failure=rollout["on_failure"],
            keep=rollout["keep"],
            stable=rollout["stable"],
            together=_together(rollout.get("together")),
            confirm_minutes=rollout["confirm_minutes"],
            wave_minutes=rollout["wave_minutes"],
            clock_skew_seconds=rollout["clock_skew_seconds"],
            support_hours=support["hours"],
            late_days=support["late_days"],
            support_exit=_bake(support.get("exit")),
            share_files=rollout["share_files"],
            bake=_bake(rollout.get("bake")),
            canary_bake=_bake(rollout.get("canary_bake")),
        ),
        people=people,
        trust=_trust(own.get("trust", {})),
        separate=frozenset(own.get("separate", base["separate"])),
        waivers=_trust(own.get("waivers", {})),
        emergency_only=frozenset(name for name, waivable in controls.items() if waivable is Waivable.IN_EMERGENCIES),
        opinions=_opinions(own.get("opinions", {})),
        verification=Verification(**own["verification"]) if "verification" in own else None,
        documentation={kind: tuple(wanted) for kind, wanted in own.get("documentation", base["documentation"]).items()},
        versions=own.get("versions", base["versions"]),
        responsibilities={step: _responsibility(parts) for step, parts in own.get("responsibilities", {}).items()},
        rules=tuple(_rule(described) for described in own.get("rules", ())),
        calendars=_calendars(own.get("calendars", {}), folder),
        emergency=own.get("emergency", base["emergency"]),
        communication=communication_of(own.get("communication", {}), folder),
        controls=tuple(_own_control(described) for described in own.get("controls", ())),
        host_classes=tuple(own.get("host_classes", base["host_classes"])),
        no_return=own.get("no_return", base["no_return"]),
        spares=_spares({**base["spares"], **own.get("spares", {})}),
        audit_copies=tuple({**base["audit"], **own.get("audit", {})}["copies"]),
        journal_days={**base["journal"], **own.get("journal", {})}["days"],
        objective_commands={**base["objectives"], **own.get("objectives", {})}["commands"],
        prometheus=_metrics_source(own.get("prometheus", {}), folder),
        identity=Identity(**own.get("identity", {})),
        sha256=sha256,
    )


def load_host_classes(path: str | Path) -> tuple[str, ...]:
    """The ``host_classes`` of a policy.yml, without a look at its people and their keys.

    Raises :class:`DocumentError` with every problem that its schema finds.
    """
    document = load_document(path, "policy")
    document.finish()
    return tuple(document.data.get("host_classes", ()))


def needs_of_policy(path: str | None) -> tuple[str, ...]:
    """What the calendars and metrics of a policy.yml need of libraries; nothing of one that can't be read, which is said by who reads it.

    Nothing is read where those libraries are installed.
    """
    found: object = None
    missing = {key: need for key, need in _NEEDS.items() if lacking(need)}
    if path is not None and missing and Path(path).is_file():
        with contextlib.suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
            found = yaml.safe_load(Path(path).read_text())
    return tuple(need for key, need in missing.items() if isinstance(found, dict) and found.get(key))


@functools.cache
def _shipped(controls: tuple[tuple[str, Waivable], ...]) -> tuple[dict[str, Any], dict[str, Person], str]:
    return _load(DEFAULT, dict(controls))


def _load(path: str | Path, controls: Mapping[str, Waivable]) -> tuple[dict[str, Any], dict[str, Person], str]:
    """What a policy.yml says, its people, and the sha256 of what was read."""
    document = load_document(path, "policy")
    check_steps(document)
    check_communication(document)
    check_controls(document, controls)
    check_metrics(document)
    sound = document.is_good(("people",)) or "people" not in document.data
    people = _people(document)
    if sound:
        check_roles(document, people)
        check_responsibilities(document, people)
    document.finish()
    return document.data, people, document.sha256


def _people(document: Document) -> dict[str, Person]:
    """The people of the policy; notes a key that can't be read or that two of them have, and a person who is there twice."""
    described = document.data.get("people")
    if not isinstance(described, dict) or not described:
        return {}
    from ..keys import load_public  # noqa: PLC0415 - slow to import, and each fork that stages a package loads this module

    found: dict[str, Person] = {}
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name, description in described.items():
        other = names.setdefault(normalised_name(name), name)
        if other != name:
            document.problem(("people", name), f"{name!a} and {other!a} are one person", "give all their roles and keys to one of them")
        keys = []
        listed = description.get("keys") if isinstance(description, dict) else None
        for index, entry in enumerate(listed if isinstance(listed, list) else []):
            place = ("people", name, "keys", index)
            if not document.is_good((*place, "public")):
                continue
            try:
                key_id = load_public(entry["public"]).keyid
            except ValueError as error:
                document.problem(
                    (*place, "public"), f"people.{name}.keys.{index}.public {error}", "write what openssl pkey -in key.pem -pubout prints"
                )
                continue
            owner = owners.setdefault(key_id, f"people.{name}.keys.{index}")
            if owner != f"people.{name}.keys.{index}":
                document.problem(place, f"people.{name}.keys.{index} is the key of {owner}", "give each key to one person, once")
            if document.is_good(place):
                revoked = entry.get("revoked")
                keys.append(PublicKey(key_id, entry["public"], parse_time(revoked) if revoked else None))
        roles = description.get("roles") if isinstance(description, dict) else None
        texts = (role for role in (roles if isinstance(roles, list) else []) if isinstance(role, str))
        found[name] = Person(frozenset(texts), tuple(keys))
    return found


def _share(value: int | str) -> Share:
    return Share(int(value[:-1]), percent=True) if isinstance(value, str) else Share(value)


def _shares(described: Mapping[str, int | str]) -> dict[str, Share]:
    return {name: _share(value) for name, value in described.items()}


def _constraints(rollout: Mapping[str, Any]) -> Constraints:
    canary, rings, stay_up = rollout["canary_hosts"], rollout["rings"], rollout["stay_up"]
    redundant = stay_up.get("redundant")
    return Constraints(
        canary_hosts=canary if isinstance(canary, str) else tuple(canary),
        shuffle=rollout["shuffle"],
        rings=Rings(rings["by"], tuple(rings["order"])) if rings else None,
        classes=_shares(rollout["classes"]),
        stay_up=StayUp(
            redundant=None if redundant is None else _share(redundant),
            groups=_shares(stay_up.get("groups", {})),
            services=_shares(stay_up.get("services", {})),
        ),
        max_waves=rollout["max_waves"],
    )


def _calendars(described: Mapping[str, Any], folder: Path) -> CalendarFiles:
    """The patterns, below the folder of the policy where they are relative."""
    return CalendarFiles(**{kind: tuple(str(folder / pattern) for pattern in described.get(kind, ())) for kind in ("windows", "freezes")})


def _trust(described: Mapping[str, Any]) -> dict[str, Trust]:
    return {what: Trust(**wanted) for what, wanted in described.items()}


def _spares(described: Mapping[str, Any]) -> SpareRules:
    near = {site: tuple(stockrooms) for site, stockrooms in described["near"].items()}
    return SpareRules(described["cover"], frozenset(described["undercut"]), near, described["read_days"], described["level_days"])


def _together(described: Mapping[str, Any] | None) -> Together | None:
    if described is None:
        return None
    own: dict[str, Any] = {**described}
    if "quorum" in own:
        own["quorum"] = _share(own["quorum"])
    for name in ("releases", "types"):
        if name in own:
            own[name] = tuple(own[name])
    return Together(**own)


def _bake(described: Mapping[str, Any] | None) -> Bake | None:
    return Bake.from_dict(described) if described else None


def _metrics_source(described: Mapping[str, Any], folder: Path) -> MetricsSource | None:
    if not described:
        return None
    return MetricsSource(**{name: channel_of(folder, **where) for name, where in described.items()})


def _opinions(described: Mapping[str, Any]) -> dict[str, Quorum]:
    return {role: Quorum(**wanted) for role, wanted in described.items()}


def _responsibility(parts: Mapping[str, Any]) -> Responsibility:
    lists = {part: tuple(parts.get(part, ())) for part in ("responsible", "consulted", "informed")}
    return Responsibility(accountable=parts["accountable"], **lists)


def _rule(described: Mapping[str, Any]) -> Rule:
    when = {name: frozenset(described["when"].get(name, ())) for name in ("release", "change", "risk")}
    documentation = tuple(described.get("documentation", ()))
    return Rule(
        **when,
        approvals=described.get("approvals", {}),
        trust=_trust(described.get("trust", {})),
        documentation=documentation,
        opinions=_opinions(described.get("opinions", {})),
    )


def _own_control(described: Mapping[str, Any]) -> OwnControl:
    that = described["that"]
    conditions = (that,) if isinstance(that, str) else tuple(that)
    return OwnControl(described["name"], conditions, described["reason"], described.get("remedy", ""))
