# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of the definitive hardware storage and its stock rules, in the CMDB's database.

Writers of a CMDB take turns, so what a transaction has read is still true when it writes. Every move is a line of the history.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from ..cmdb.chain import append_history
from ..cmdb.schema import schema
from ..errors import ConflictError, TidegateError
from .level import FirmwareLevel, FirmwareReading, LevelCount, LevelState, Way, compare_to_levels
from .spare_rules import SPARE, SpareRules
from .spares import Exposed, SpareAllotment, allot_spares
from .stock import RuleStock, StockRule, count_stock
from .units import (
    AVAILABLE,
    AWAY,
    INSTALL_STATUS,
    QUARANTINE,
    RESERVED,
    WITH_STOCKROOM,
    Moved,
    MoveOrder,
    Unit,
    UnitState,
    check_orders,
    folded,
    plan_moves,
)
from .work_order import WorkOrder

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

_CHUNK = 500  # names in one IN list
NOT_AT_LEVEL = "not at level"
"""As what units in stock count that are available, and were not read lately to have the firmware of their model's level."""
LOW, ENOUGH = "stock low", "stock enough"
"""What the history calls it when a rule's usable units come down to its threshold, and when they are above it again."""


# -- units -----------------------------------------------------------------


def list_units(
    connection: sa.Connection,
    *,
    tags: Collection[str] | None = None,
    models: Collection[str] | None = None,
    stockrooms: Collection[str] | None = None,
    cis: Collection[str] | None = None,
    states: Collection[str] | None = None,
) -> list[Unit]:
    """The units that are among all of what is given, by tag."""
    t = schema()
    asked = (
        (t.asset.c.tag, tags),
        (t.asset.c.model, models),
        (t.asset.c.stockroom, stockrooms),
        (t.ci.c.name, cis),
        (t.asset.c.state, states),
    )
    conditions = [column.in_(_names(wanted)) for column, wanted in asked if wanted is not None]
    return sorted(_units(connection, *conditions), key=lambda unit: unit.tag)


def machines(connection: sa.Connection, cis: Collection[str]) -> dict[str, Unit]:
    """By CI, the unit that it is itself: the one that is in no slot of it."""
    t = schema()
    chosen = (unit for chunk in _chunks(set(cis)) for unit in _units(connection, t.ci.c.name.in_(chunk), t.asset.c.slot == ""))
    return {unit.ci: unit for unit in chosen}


def models_of(connection: sa.Connection) -> dict[str, str]:
    """By CI, the model of the unit that it is itself: what of many :func:`machines` is known at once."""
    t = schema()
    select = sa.select(t.ci.c.name, t.asset.c.model).join_from(t.asset, t.ci).where(t.asset.c.slot == "")
    return {str(name): str(model) for name, model in connection.execute(select)}


def move_units(
    connection: sa.Connection, orders: Sequence[MoveOrder], actor: str, now: datetime, write: bool, reason: str = ""
) -> list[Moved]:
    """Do with units what ``orders`` say, one after the other, all or none; without ``write`` only say what would change.

    Raises :class:`FindingsError` with every fault.
    """
    check_orders(orders)
    t = schema()
    named = sa.select(t.ci.c.name, t.ci.c.id)
    cis = {row.name: int(row.id) for row in _among(connection, named, t.ci.c.name, _names({one.ci for one in orders}))}
    asked: tuple[tuple[Any, set[Any]], ...] = (
        (t.asset.c.tag, {one.tag for one in orders} - {""}),
        (t.asset.c.identity, {one.identity for one in orders} - {""}),
        (t.asset.c.ci_id, set(cis.values())),
    )
    found = (unit for column, wanted in asked for chunk in _chunks(wanted) for unit in _units(connection, column.in_(chunk)))
    known = {unit.tag: unit for unit in found}
    changes = plan_moves(known.values(), orders, cis)
    if write and changes:
        _write(connection, known, changes, cis, now)
        _forget_readings(connection, [one.after.tag for one in changes if one.before is not None and one.before.state in AWAY])
        about = {"actor": actor, "at": now}
        append_history(connection, [_line(one, reason) | about for one in changes])
    return changes


def enter_units(connection: sa.Connection, units: Sequence[Unit], actor: str, now: datetime) -> None:
    """Enter units that another CMDB had as they are, none of which is here. A constraint refuses one that can't be."""
    t = schema()
    cis = {str(name): int(number) for name, number in connection.execute(sa.select(t.ci.c.name, t.ci.c.id))} if units else {}
    if missing := sorted({unit.ci for unit in units} - cis.keys() - {""}):
        raise TidegateError(f"units are in use by {', '.join(missing):.300}, which the CMDB does not have; enter these CIs, too")
    if units:
        connection.execute(sa.insert(t.asset), [_row(unit, cis) | {"updated": now} for unit in units])
        lines = [{"ci": unit.ci or None, "event": "asset imported", "asset": unit.tag, "data": {"after": shown(unit)}} for unit in units]
        append_history(connection, [line | {"actor": actor, "at": now} for line in lines])


def _write(connection: sa.Connection, known: dict[str, Unit], changes: Sequence[Moved], cis: dict[str, int], now: datetime) -> None:
    table = schema().asset
    rows = [_row(unit, cis) | {"updated": now, "of_tag": unit.tag} for unit in {one.after.tag: one.after for one in changes}.values()]
    this = table.c.tag == sa.bindparam("of_tag")
    old = [row for row in rows if row["tag"] in known]
    # Out of the slots where they were before any comes into one: as a slot of nobody's, for names have no line break.
    if leaving := [{"of_tag": row["tag"], "away": f"\n{row['tag']}"} for row in old if known[row["tag"]].ci]:
        connection.execute(sa.update(table).where(this).values(slot=sa.bindparam("away")), leaving)
    if old:
        connection.execute(sa.update(table).where(this), old)
    if new := [{key: value for key, value in row.items() if key != "of_tag"} for row in rows if row["tag"] not in known]:
        connection.execute(sa.insert(table), new)


def _forget_readings(connection: sa.Connection, tags: Collection[str]) -> None:
    """What units said of their firmware counts for nothing once they were out of sight."""
    t = schema()
    for chunk in _chunks(set(tags)):
        these = sa.select(t.asset.c.id).where(t.asset.c.tag.in_(chunk))
        connection.execute(sa.delete(t.asset_firmware).where(t.asset_firmware.c.asset_id.in_(these)))


def _line(change: Moved, reason: str) -> dict[str, Any]:
    """What the history has of a move: with the CI that it is about, if any."""
    before, after = change.before, change.after
    data = {"before": shown(before) if before else None, "after": shown(after)} | ({"reason": reason} if reason else {})
    return {"ci": after.ci or (before.ci if before else "") or None, "event": f"asset {change.move}", "asset": after.tag, "data": data}


def history_of(connection: sa.Connection, tags: Collection[str]) -> list[dict[str, Any]]:
    """What the history says of units, oldest first: ``asset``, ``at``, ``actor``, ``event``, ``data``."""
    line = schema().history.c
    select = sa.select(line.seq, line.asset, line.at, line.actor, line.event, line.data)
    rows = sorted(_among(connection, select.where(line.asset.is_not(None)), line.asset, set(tags)), key=lambda row: int(row.seq))
    return [{"asset": row.asset, "at": row.at.isoformat(), "actor": row.actor, "event": row.event, "data": row.data} for row in rows]


def shown(unit: Unit) -> dict[str, Any]:
    """A unit as results and the history have it."""
    return {**asdict(unit), "state": str(unit.state), "install_status": INSTALL_STATUS[unit.state]}


def _units(connection: sa.Connection, *conditions: Any) -> Iterator[Unit]:
    t = schema()
    of = t.asset.c
    columns = (of.tag, of.manufacturer, of.serial, of.model, of.state, of.substate, of.stockroom, t.ci.c.name, of.slot, of.deployment_id)
    select = sa.select(*columns).select_from(t.asset.outerjoin(t.ci, t.ci.c.id == of.ci_id)).where(*conditions)
    for tag, manufacturer, serial, model, state, substate, stockroom, ci, slot, deployment in connection.execute(select):
        yield Unit(tag, manufacturer, serial, model, UnitState(state), substate, stockroom, ci or "", slot, deployment)


def _row(unit: Unit, cis: dict[str, int]) -> dict[str, Any]:
    row = asdict(unit) | {"state": str(unit.state), "identity": unit.identity, "deployment_id": unit.deployment}
    row["ci_id"] = cis[unit.ci] if unit.ci else None
    return {key: value for key, value in row.items() if key not in ("ci", "deployment")}


# -- spares, in the transactions of a deployment ---------------------------


def would_reserve_spares(
    connection: sa.Connection,
    deployment_id: int | None,
    exposed: Sequence[Exposed],
    rules: SpareRules,
    change: str,
    now: datetime,
    ways: Iterable[Way] = (),
) -> SpareAllotment:
    """What :func:`reserve_spares` would do; a deployment that is not begun has no number yet.

    ``change``: the type of the RFC; ``ways``: for what is said of a unit that does not count.
    """
    models = {one.model for one in exposed}
    gone = (UnitState.RETIRED, UnitState.IN_USE)
    units = list_units(connection, models=models, states=[str(state) for state in UnitState if state not in gone])
    counting = [rule for rule in list_rules(connection) if not models.isdisjoint((rule.model, *rule.substitutes))]
    kept = stock(connection, counting, rules.read_days, now)
    behind = below_level(connection, units, rules.read_days, now, ways)
    return allot_spares(exposed, units, behind, kept, rules, change, deployment_id)


def reserved_spares(connection: sa.Connection, deployment_id: int) -> SpareAllotment:
    """What a deployment that has begun has reserved: it needs no more."""
    mine = sorted(_units(connection, schema().asset.c.deployment_id == deployment_id), key=lambda unit: unit.tag)
    count = Counter(unit.model for unit in mine)
    return SpareAllotment(count, tuple(unit.tag for unit in mine), count)


def reserve_spares(
    connection: sa.Connection, deployment_id: int, exposed: Sequence[Exposed], rules: SpareRules, change: str, actor: str, now: datetime
) -> tuple[str, ...]:
    """Reserve spares for a deployment, all or none; what it has reserved already counts. Return the tags of those that are new.

    Raises :class:`ConflictError` when there are too few.
    """
    allotment = would_reserve_spares(connection, deployment_id, exposed, rules, change, now)
    if not allotment.suffices:
        raise ConflictError(f"spares: {allotment.sentence()}; get more into stock, or choose fewer CIs")
    new = [unit for unit in list_units(connection, tags=allotment.taken) if unit.deployment is None]
    _set_reserved(connection, new, deployment_id, "asset reserve", actor, now)
    return tuple(unit.tag for unit in new)


def release_spares(connection: sa.Connection, deployment_id: int, actor: str, now: datetime) -> None:
    """The deployment has ended: what it reserved and did not use is available again."""
    mine = list(_units(connection, schema().asset.c.deployment_id == deployment_id))
    _set_reserved(connection, mine, None, "asset give back", actor, now)


def exchange(
    connection: sa.Connection, old: Unit | None, new: Unit | None, order: WorkOrder, actor: str, now: datetime, reason: str
) -> None:
    """A new unit is in use in place of an old one, as a work order has it; the old one is in quarantine where the new one came from.

    ``None`` where the slot was, or becomes, empty. Raises :class:`ConflictError` when one of them is somewhere else.
    """
    known = {unit.tag: unit for unit in (old, new) if unit is not None}
    there = (UnitState.IN_USE, order.ci, folded(order.slot))
    if set(known) != {tag for tag in (order.old, order.new) if tag} or (old and (old.state, old.ci, folded(old.slot)) != there):
        raise ConflictError(f"{order.old or 'nothing'} is not in {order.place} by the hardware storage; find out which unit is there")
    if new and (new.state is not UnitState.IN_STOCK or new.deployment not in (None, order.deployment)):
        raise ConflictError(f"{new.tag} is {new}, so it can't have come into {order.place}; find out which unit is there")
    moved = []
    if old:
        stockroom = new.stockroom if new else _stockroom_of(connection, old.tag)
        away = replace(old, state=UnitState.IN_STOCK, substate=QUARANTINE, stockroom=stockroom, ci="", slot="")
        moved.append(Moved("remove", old, away))
    if new:
        use = replace(new, state=UnitState.IN_USE, substate="", stockroom="", ci=order.ci, slot=order.slot, deployment=None)
        moved.append(Moved("install", new, use))
    ci = schema().ci
    cis = {order.ci: int(connection.execute(sa.select(ci.c.id).where(ci.c.name == order.ci)).scalar_one())}
    _write(connection, known, moved, cis, now)
    about = {"actor": actor, "at": now}
    append_history(connection, [_line(one, reason) | about for one in moved])


def _stockroom_of(connection: sa.Connection, tag: str) -> str:
    """The stockroom in which a unit was last before it came into use."""
    lines = reversed(history_of(connection, [tag]))
    return str(next(room for line in lines if (room := (line["data"].get("before") or {}).get("stockroom"))))


def _set_reserved(
    connection: sa.Connection, units: Sequence[Unit], deployment_id: int | None, event: str, actor: str, now: datetime
) -> None:
    if not units:
        return
    t = schema()
    substate = AVAILABLE if deployment_id is None else RESERVED
    for chunk in _chunks({unit.tag for unit in units}):
        values = {"substate": substate, "deployment_id": deployment_id, "updated": now}
        connection.execute(sa.update(t.asset).where(t.asset.c.tag.in_(chunk)).values(values))
    changed = [(unit, replace(unit, substate=substate, deployment=deployment_id)) for unit in units]
    about = {"at": now, "actor": actor, "event": event, "ci": None}
    lines = [{**about, "asset": old.tag, "data": {"before": shown(old), "after": shown(new)}} for old, new in changed]
    append_history(connection, lines)


# -- firmware ---------------------------------------------------------------


def record_versions(connection: sa.Connection, ci: str, serial: str, versions: Mapping[str, str], now: datetime) -> None:
    """Keep what the unit with that serial number, in use by a CI, said of its firmware; nothing where the storage has none such."""
    t = schema()
    there = connection.execute(sa.select(t.asset.c.id, t.asset.c.serial).join_from(t.asset, t.ci).where(t.ci.c.name == ci))
    asset_id = next((row.id for row in there if folded(row.serial) == folded(serial)), None)
    if asset_id is None or not versions:
        return
    read = t.asset_firmware
    connection.execute(sa.delete(read).where(read.c.asset_id == asset_id, read.c.component.in_(sorted(versions))))
    rows = [{"asset_id": asset_id, "component": component, "version": version, "at": now} for component, version in versions.items()]
    connection.execute(sa.insert(read), rows)


def readings_of(connection: sa.Connection, tags: Collection[str]) -> dict[str, list[FirmwareReading]]:
    """What units said of their firmware, by tag."""
    t = schema()
    read = t.asset_firmware.c
    select = sa.select(t.asset.c.tag, read.component, read.version, read.at).join_from(t.asset_firmware, t.asset)
    found: dict[str, list[FirmwareReading]] = {}
    for tag, component, version, at in _among(connection, select, t.asset.c.tag, set(tags)):
        found.setdefault(tag, []).append(FirmwareReading(component, version, at))
    return found


def list_levels(connection: sa.Connection) -> list[FirmwareLevel]:
    """The firmware that units have to have, by model and component."""
    level = schema().firmware_level.c
    rows = connection.execute(sa.select(level.model, level.component, level.version))
    return sorted((FirmwareLevel(*row) for row in rows), key=lambda one: (one.model, one.component))


def count_levels(connection: sa.Connection, read_days: int, now: datetime) -> list[LevelCount]:
    """By model and component, the level, and how many units are at it: those that were read to have it within ``read_days``."""
    t = schema()
    of, level, read = t.asset.c, t.firmware_level.c, t.asset_firmware.c
    lately = (read.component == level.component, read.version == level.version, read.at >= now - timedelta(read_days))
    met = sa.exists().where(read.asset_id == of.id, *lately).correlate(t.asset, t.firmware_level)
    counted = (of.model == level.model) & of.state.in_([str(UnitState.IN_USE), str(UnitState.IN_STOCK)])
    columns = (level.model, level.component, level.version, level.release, level.at)
    state, is_met = of.state.label("unit_state"), sa.case((met, 1), else_=0).label("is_met")
    rows = sa.select(*columns, state, is_met, sa.func.count(of.id).label("units")).select_from(t.firmware_level.outerjoin(t.asset, counted))
    found: dict[tuple[str, str], LevelCount] = {}
    for row in connection.execute(rows.group_by(*columns, state, is_met)):
        one = found.setdefault(
            (row.model, row.component), LevelCount(FirmwareLevel(row.model, row.component, row.version), row.release, row.at)
        )
        if row.unit_state is not None:
            one.add(UnitState(row.unit_state), bool(row.is_met), int(row.units))
    return [found[of_] for of_ in sorted(found)]


def set_levels(connection: sa.Connection, deployment_id: int, release: str, levels: Iterable[tuple[str, str, str]], now: datetime) -> None:
    """A release has completed on live units: what it brought them is what units of their models have to have. ``levels``: model,
    component and version."""
    table = schema().firmware_level
    for model, component, version in levels:
        row = {"version": version, "release": release, "deployment_id": deployment_id, "at": now}
        connection.execute(sa.delete(table).where(table.c.model == model, table.c.component == component))
        connection.execute(sa.insert(table), row | {"model": model, "component": component})


def below_level(
    connection: sa.Connection, units: Collection[Unit], read_days: int, now: datetime, ways: Iterable[Way] = ()
) -> dict[str, str]:
    """By tag, why units in stock can't be used: they were not read lately to be at the level of their model."""
    levels, listed_ways = list_levels(connection), list(ways)
    models = {level.model for level in levels}
    asked = [unit for unit in units if unit.model in models and unit.state is UnitState.IN_STOCK]
    readings = readings_of(connection, [unit.tag for unit in asked])
    found = {unit.tag: compare_to_levels(unit.model, readings.get(unit.tag, ()), levels, listed_ways, now, read_days) for unit in asked}
    bad = {tag: [one for one in compared if one.state is not LevelState.AT_LEVEL] for tag, compared in found.items()}
    return {tag: "; ".join(one.sentence() for one in listed) for tag, listed in bad.items() if listed}


def units_behind(connection: sa.Connection, deployments: Collection[int]) -> list[str]:
    """What spares lack of the levels that these deployments have set, a sentence for each: those in stock that can be used, or are
    reserved, and those on a bench."""
    t = schema()
    of, level, read = t.asset.c, t.firmware_level.c, t.asset_firmware.c
    in_stock = sa.and_(of.state == str(UnitState.IN_STOCK), of.substate.in_((AVAILABLE, RESERVED)))
    on_bench = sa.and_(of.state == str(UnitState.IN_USE), t.ci.c.class_ == SPARE)
    tables = (
        t.asset.join(t.firmware_level, level.model == of.model)
        .outerjoin(t.ci, t.ci.c.id == of.ci_id)
        .outerjoin(t.asset_firmware, sa.and_(read.asset_id == of.id, read.component == level.component))
    )
    select = sa.select(of.tag, level.component, level.version, read.version.label("has")).select_from(tables)
    behind = select.where(sa.or_(in_stock, on_bench), sa.or_(read.version.is_(None), read.version != level.version))
    rows = _among(connection, behind, level.deployment_id, set(deployments))
    lacking = sorted((row.tag, f"{row.component} {row.has or 'nobody read'}, not {row.version}") for row in rows)
    return [f"{tag} has {what}" for tag, what in lacking]


# -- stock rules -----------------------------------------------------------


def list_rules(connection: sa.Connection, stockrooms: Collection[str] | None = None) -> list[StockRule]:
    """The rules, all or those of some stockrooms, by stockroom and model."""
    table = schema().stock_rule
    select = sa.select(table) if stockrooms is None else sa.select(table).where(table.c.stockroom.in_(_names(stockrooms)))
    rules = (
        StockRule(row.model, row.stockroom, row.threshold, row.target, row.order_size, row.source, tuple(row.substitutes))
        for row in connection.execute(select)
    )
    return sorted(rules, key=lambda rule: (rule.stockroom, rule.model))


def save_rules(
    connection: sa.Connection, wanted: Sequence[StockRule], actor: str, now: datetime, write: bool
) -> list[tuple[StockRule | None, StockRule]]:
    """Enter rules or change them; return those that are new or other than they were, each with what it was.

    Raises :class:`TidegateError` for one whose figures make no sense.
    """
    for rule in wanted:
        rule.check()
    names = Counter((rule.model, rule.stockroom) for rule in wanted)
    if twice := [f"{model} in {stockroom}" for (model, stockroom), count in names.items() if count > 1]:
        raise TidegateError(f"the rule for {twice[0]} is given twice; give each once")
    table = schema().stock_rule
    known = {(rule.model, rule.stockroom): rule for rule in list_rules(connection)}
    changes = [(known.get((rule.model, rule.stockroom)), rule) for rule in wanted if known.get((rule.model, rule.stockroom)) != rule]
    if write and changes:
        for before, rule in changes:
            values = asdict(rule) | {"substitutes": list(rule.substitutes)}
            where = (table.c.model == rule.model, table.c.stockroom == rule.stockroom)
            connection.execute(sa.insert(table).values(values) if before is None else sa.update(table).where(*where).values(values))
        lines = [{"before": asdict(old) if old else None, "after": asdict(new)} for old, new in changes]
        _remember(connection, "stock rule", lines, actor, now)
    return changes


def remove_rules(connection: sa.Connection, of: Collection[tuple[str, str]], actor: str, now: datetime, write: bool) -> list[StockRule]:
    """Remove the rules of these models and stockrooms; return those that were there."""
    table = schema().stock_rule
    gone = [rule for rule in list_rules(connection) if (rule.model, rule.stockroom) in of]
    if write and gone:
        for rule in gone:
            connection.execute(sa.delete(table).where(table.c.model == rule.model, table.c.stockroom == rule.stockroom))
        _remember(connection, "stock rule", [{"before": asdict(rule), "after": None} for rule in gone], actor, now)
    return gone


def stock(connection: sa.Connection, rules: Iterable[StockRule], read_days: int, now: datetime) -> list[RuleStock]:
    """How it stands for each rule. A unit whose model has a level is usable when it was read to have that within ``read_days``."""
    t = schema()
    of, level, read, listed = t.asset.c, t.firmware_level.c, t.asset_firmware.c, list(rules)
    lately = (read.component == level.component, read.version == level.version, read.at >= now - timedelta(read_days))
    met = sa.exists().where(read.asset_id == of.id, *lately).correlate(t.asset, t.firmware_level)
    unmet = sa.exists().where(level.model == of.model, ~met).correlate(t.asset)
    unfit = sa.and_(of.state == str(UnitState.IN_STOCK), of.substate == AVAILABLE, unmet)
    substate = sa.case((unfit, NOT_AT_LEVEL), else_=of.substate).label("counts_as")
    counts = sa.select(of.stockroom, of.model, of.state, substate, sa.func.count())
    counts = counts.where(of.state.in_([str(one) for one in WITH_STOCKROOM]))
    if len(listed) <= _CHUNK:
        counts = counts.where(of.stockroom.in_({rule.stockroom for rule in listed}))
    grouped = counts.group_by(of.stockroom, of.model, of.state, substate)
    return count_stock(listed, ((row[0], row[1], row[2], row[3], int(row[4])) for row in connection.execute(grouped)))


def note_stock(connection: sa.Connection, read_days: int, actor: str, now: datetime) -> None:
    """Note where stock has come down to a threshold, or is above it again: once each time."""
    table = schema().stock_rule
    low = {(row.model, row.stockroom) for row in connection.execute(sa.select(table).where(table.c.low_since.is_not(None)))}
    found = stock(connection, list_rules(connection), read_days, now)
    for one in found:
        if one.is_short != ((one.rule.model, one.rule.stockroom) in low):
            where = (table.c.model == one.rule.model, table.c.stockroom == one.rule.stockroom)
            connection.execute(sa.update(table).where(*where).values(low_since=now if one.is_short else None, told=None))
            figures = {"model": one.rule.model, "stockroom": one.rule.stockroom, "usable": one.usable, "to_order": one.to_order}
            _remember(connection, LOW if one.is_short else ENOUGH, [figures], actor, now)


def take_untold(connection: sa.Connection, read_days: int, now: datetime) -> list[RuleStock]:
    """The rules that came down to their threshold and of which nobody was told; from now on somebody is."""
    table = schema().stock_rule
    untold = (table.c.low_since.is_not(None), table.c.told.is_(None))
    names = {(row.model, row.stockroom) for row in connection.execute(sa.select(table).where(*untold))}
    if names:
        connection.execute(sa.update(table).where(*untold).values(told=now))
    return stock(connection, [rule for rule in list_rules(connection) if (rule.model, rule.stockroom) in names], read_days, now)


def _remember(connection: sa.Connection, event: str, lines: Iterable[dict[str, Any]], actor: str, now: datetime) -> None:
    append_history(connection, [{"at": now, "actor": actor, "event": event, "data": data} for data in lines])


def _among(connection: sa.Connection, select: Any, column: Any, wanted: Collection[Any]) -> Iterator[Any]:
    return (row for chunk in _chunks(wanted) for row in connection.execute(select.where(column.in_(chunk))))


def _names(wanted: Iterable[str]) -> list[str]:
    """Those that can be names: what can't be seen is that of nothing, and a database may not even take it."""
    return [one for one in wanted if one and one.isprintable()]


def _chunks(wanted: Collection[Any]) -> Iterator[list[Any]]:
    listed = sorted(wanted)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))
