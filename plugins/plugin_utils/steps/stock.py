# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there are spares enough, for the stock rules and for a deployment, and who is told when there are not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..clearance.facts import Facts
from ..cmdb import messages
from ..cmdb.messages import Message
from ..cmdb.store import Cmdb
from ..dhs.assets import list_rules, list_units, note_stock, reserved_spares, stock, take_untold, would_reserve_spares
from ..dhs.level import Way
from ..dhs.spare_rules import SpareRules
from ..dhs.spares import Exposed, SpareAllotment, exposed_at_once
from ..dhs.stock import RuleStock
from ..dhs.units import folded
from ..dsl.firmware import FirmwareImage, is_without_way_back
from ..dsl.hardware import PartChange
from ..dsl.package import load_package_manifest
from ..dsl.repository import Library
from ..errors import ConflictError, NotFoundError, TidegateError
from ..policy.communication import STOCK_LOW, without_mentions
from ..policy.model import Policy
from ..report.pages import STOCK
from ..rfc.debts import debts, settle
from ..rfc.model import Rfc
from ..rollout.deployments import Deployments
from ..rollout.states import OPEN, SPARES, WaveState
from .baseline import Machines
from .tell import Delivered, deliver

with contextlib.suppress(ImportError):
    import sqlalchemy as sa


def count_spares(cmdb: Cmdb, policy: Policy, now: datetime, stockrooms: Collection[str] | None = None) -> list[RuleStock]:
    """How it stands for each stock rule, of all stockrooms or of some, by stockroom and model."""
    with cmdb.read() as connection:
        return stock(connection, list_rules(connection, stockrooms), policy.spares.read_days, now)


def settle_levels(cmdb: Cmdb, actor: str, now: datetime) -> list[str]:
    """Settle what changes owe whose level each spare was read to have meanwhile, and say so, a sentence for each."""
    settled = []
    for debt in (debt for debt in debts(cmdb, settled=False) if debt.duty == SPARES):
        with contextlib.suppress(ConflictError, NotFoundError):  # one is behind, or somebody else was first
            settle(cmdb, debt, "no spare was read to be behind a level that it has set", actor, now)
            settled.append(f"{debt.rfc} ({debt.release} {debt.version}) owes no {SPARES} any more: none is behind a level that it set")
    return settled


def tell_low(cmdb: Cmdb, policy: Policy, actor: str, now: datetime) -> tuple[str, Delivered]:
    """Note where stock has come down to its threshold, and tell the policy's channels of what they were not told.

    Returns the title of that, empty when there was nothing to tell, and what became of it. That it is told is noted before, so it is told
    at most once, until there is enough again; where nobody took it the verb remind tries again.
    """
    communication = policy.communication
    listeners = communication.listeners(STOCK_LOW, ())
    with cmdb.begin() as connection:
        note_stock(connection, policy.spares.read_days, actor, now)
        low = take_untold(connection, policy.spares.read_days, now) if listeners else []
    if not low:
        return "", Delivered()
    title = f"stock is low: {', '.join(dict.fromkeys(one.rule.model for one in low))}"
    page = [f"{communication.pages.rstrip('/')}/{STOCK}"] if communication.pages else []
    body = "\n".join([*(without_mentions(one.sentence()) for one in low), *page])
    message = Message(STOCK_LOW, without_mentions(title), body, f"{STOCK_LOW} {now.isoformat()}")
    found = deliver(cmdb, communication, listeners, message, now)
    if found.untold:
        with cmdb.begin() as connection:
            messages.keep(connection, message, dict.fromkeys(found.untold, now), now)
    return message.title, found


def spares_for(
    library: Library,
    cmdb: Cmdb,
    rfc: Rfc,
    facts: Facts,
    cis: Sequence[Mapping[str, Any]],
    waves: Sequence[Sequence[str]],
    machines: Callable[[], Machines],
) -> tuple[tuple[Exposed, ...], SpareAllotment]:
    """The CIs that need a unit each, and how the units stand that the deployment would reserve for them, or has reserved.

    With firmware they are those that can fail before a gate looks, and that can't be brought back to what they are recorded to have; with
    hardware all that don't have the new part yet.
    """
    rules = facts.policy.spares if facts.policy else SpareRules()
    begun = Deployments(cmdb).latest(rfc.number)
    with cmdb.read() as connection:
        mine = begun.id if begun is not None and begun.state in OPEN else None
        if mine is not None and any(state is not WaveState.CLOSED for _number, state, _decision in Deployments(cmdb).waves(mine)):
            return (), reserved_spares(connection, mine)  # a unit that has failed since may be why there is one less in stock
        manifest = facts.package.manifest if facts.package else {}
        if "hardware" in manifest:
            needing, misplaced = _parts_for(connection, [PartChange.of(one) for one in manifest["hardware"]], cis)
            return needing, replace(would_reserve_spares(connection, mine, needing, rules, rfc.type, facts.now), misplaced=misplaced)
        images = [FirmwareImage.of(one) for one in manifest.get("firmware", ())]
        at_once = tuple(exposed_at_once(waves, _exposed(machines(), images), rules.cover))
        ways = ways_of(library, rfc.release) if at_once else []
        return at_once, would_reserve_spares(connection, mine, at_once, rules, rfc.type, facts.now, ways)


def _exposed(machines: Machines, images: Sequence[FirmwareImage]) -> Iterator[Exposed]:
    """The CIs that no image of a release of firmware could bring back."""
    for (model, *versions), cis in machines.items():
        if any(model in image.models and is_without_way_back(image, version) for image, version in zip(images, versions, strict=True)):
            yield from (Exposed(str(ci["name"]), model, str(ci["site"] or "")) for ci in cis)


def _parts_for(
    connection: sa.Connection, parts: Sequence[PartChange], cis: Sequence[Mapping[str, Any]]
) -> tuple[tuple[Exposed, ...], tuple[str, ...]]:
    """The slots that get a part, and where another unit is than a release of hardware exchanges, a sentence for each."""
    units = {(unit.ci, folded(unit.slot)): unit for unit in list_units(connection, cis=[str(ci["name"]) for ci in cis])}
    needing, misplaced = [], []
    for ci in cis:
        for part in parts:
            name = str(ci["name"])
            unit = units.get((name, folded(part.slot)))
            place = f"the slot {part.slot} of {name}" if part.slot else name
            if unit is not None and unit.model == part.model:
                continue
            if (unit is None and part.models) or (unit is not None and unit.model not in part.models):
                has = f"{unit.tag}, a {unit.model}" if unit else "nothing"
                misplaced.append(f"{place} has {has} by the hardware storage, and not {' or '.join(part.models) or 'nothing'}")
                continue
            old = unit.tag if unit else ""
            needing.append(Exposed(name, part.model, str(ci["site"] or ""), part.slot, old, part.instructions))
    return tuple(needing), tuple(misplaced)


def ways_of(library: Library, name: str) -> list[Way]:
    """From which versions of firmware to which the archived versions of a release lead."""
    home, found = library.repository(name), []
    for version in sorted(home.versions(name)):
        digest = home.resolve(name, version)
        with contextlib.suppress(TidegateError):  # what can't be read leads nowhere
            for image in load_package_manifest(home, str(digest)).firmware:
                found += [Way(f"{name} {version}", model, image.component, image.from_versions, image.version) for model in image.models]
    return found
