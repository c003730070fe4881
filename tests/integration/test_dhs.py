# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardware storage in a database: what its constraints hold, one line of history a move, one notice a shortage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import (
    history_of,
    list_rules,
    list_units,
    move_units,
    note_stock,
    record_versions,
    release_spares,
    remove_rules,
    reserve_spares,
    save_rules,
    set_levels,
    stock,
    take_untold,
    would_reserve_spares,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.spare_rules import SpareRules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.spares import Exposed, SpareAllotment
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import Moved, MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import verify_cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.stock import spares_for
from documents import example_policy, write_document
from office import run_playbook
from receiver import Receiver, receive

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ME = Holder("ann", "machine", 4711, 99, "feedbeef")
RULE = StockRule("PSU", "ams", 1, 4, 2)


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": name} for name in ("web1", "web2")], actor="test")
        yield opened
        assert verify_cmdb(opened, []).findings == [], "the history comes to what is there"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receive() as taking:
        yield taking


def new(number: int, **more: Any) -> MoveOrder:
    return MoveOrder("receive", f"A{number}", "Contoso", f"S{number}", **{"model": "PSU", "stockroom": "ams", **more})


def move(cmdb: Cmdb, *orders: MoveOrder, write: bool = True, now: datetime = NOW, reason: str = "") -> list[Moved]:
    with cmdb.begin() as connection:
        changes = move_units(connection, orders, "ann", now, write, reason)
        note_stock(connection, 90, "ann", now)
        return changes


def places(cmdb: Cmdb, **asked: Any) -> dict[str, str]:
    with cmdb.read() as connection:
        return {unit.tag: str(unit) for unit in list_units(connection, **asked)}


def test_units_move_in_bulk_and_each_move_is_a_line_of_the_history(cmdb: Cmdb) -> None:
    assert len(move(cmdb, *(new(number) for number in range(1200)))) == 1200
    assert move(cmdb, *(new(number) for number in range(1200))) == []
    assert len(move(cmdb, MoveOrder("install", "A1", ci="web1", slot="1"), write=False)) == 1
    move(cmdb, MoveOrder("install", "A1", ci="web1", slot="1"), MoveOrder("install", "A2", ci="web1", slot="2"), reason="CHG1")
    assert places(cmdb, cis=["web1"]) == {"A1": "in use by web1 (1)", "A2": "in use by web1 (2)"}
    # Two units change places, in one transaction, and a third comes in where one was.
    move(
        cmdb,
        *(MoveOrder("remove", tag, stockroom="ams", substate="available") for tag in ("A1", "A2")),
        MoveOrder("install", "A1", ci="web1", slot="2"),
        MoveOrder("install", "A2", ci="web2", slot="1"),
        MoveOrder("install", "A3", ci="web1", slot="1"),
    )
    assert places(cmdb, cis=["web1", "web2"], states=["in_use"]) == {
        "A1": "in use by web1 (2)",
        "A2": "in use by web2 (1)",
        "A3": "in use by web1 (1)",
    }
    assert len(places(cmdb, stockrooms=["ams"], models=["PSU"])) == 1197
    with cmdb.read() as connection:
        past = history_of(connection, ["A1"])
        web1 = connection.scalars(sa.select(schema().history.c.event).where(schema().history.c.ci == "web1")).all()
    assert [line["event"] for line in past] == ["asset receive", "asset install", "asset remove", "asset install"]
    assert past[1]["data"]["reason"] == "CHG1"
    assert past[1]["data"]["before"]["stockroom"] == "ams"
    assert web1.count("asset install") == 4
    with pytest.raises(ConflictError, match="web1 has the unit A1"):
        cmdb.remove_cis(["web1"], "ann")


@pytest.mark.parametrize(
    "values",
    [
        {"state": "in_use", "stockroom": ""},
        {"ci_id": 1},
        {"stockroom": ""},
        {"substate": "reserved"},
        {"state": "in_use", "ci_id": 1},
        {"tag": "A2"},
        {"state": "on_order", "stockroom": ""},
        {"state": "foo"},
        {"identity": "contoso\ns2"},
    ],
)
def test_the_database_itself_refuses_a_unit_that_is_in_two_places_or_there_twice(cmdb: Cmdb, values: dict[str, Any]) -> None:
    move(cmdb, new(1), new(2))
    with pytest.raises(sa.exc.IntegrityError), cmdb.begin() as connection:
        connection.execute(sa.update(schema().asset).where(schema().asset.c.tag == "A1").values(**values))


def test_a_name_that_no_database_takes_is_a_fault_like_others(cmdb: Cmdb) -> None:
    for tag in ("A\ud800", "A\0"):
        with pytest.raises(TidegateError, match="signs that can be seen"):
            move(cmdb, MoveOrder("arrive", tag))
        assert places(cmdb, tags=[tag, "A1"], models=[tag]) == {}
        with cmdb.read() as connection:
            assert list_rules(connection, [tag]) == []
    move(cmdb, new(1))
    for ci in ("web\ud800", "web\0"):
        with pytest.raises(TidegateError, match="has no CI"):
            move(cmdb, MoveOrder("install", "A1", ci=ci))


def test_one_fault_and_nothing_is_moved(cmdb: Cmdb) -> None:
    with pytest.raises(TidegateError, match="A9: it is not in the storage"):
        move(cmdb, new(1), MoveOrder("arrive", "A9"))
    assert places(cmdb) == {}
    move(cmdb, new(1))
    with pytest.raises(TidegateError, match="Contoso S1 has the tag A1; one unit is there once"):
        move(cmdb, replace(new(2), serial="s1", manufacturer="CONTOSO"))


def test_of_eight_who_take_the_last_one_one_gets_it(cmdb: Cmdb, cmdb_url: str) -> None:
    move(cmdb, new(1))
    cmdb.put_cis([{"name": f"db{number}"} for number in range(8)], actor="test")

    def take(number: int) -> bool:
        with Cmdb.open(cmdb_url) as mine:
            try:
                return bool(move(mine, MoveOrder("install", "A1", ci=f"db{number}")))
            except TidegateError:
                return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1
    assert len(places(cmdb, states=["in_use"])) == 1


def events(cmdb: Cmdb) -> list[str]:
    history = schema().history
    with cmdb.read() as connection:
        return list(connection.scalars(sa.select(history.c.event).where(history.c.event.like("stock %")).order_by(history.c.seq)))


def test_a_shortage_is_one_event_and_one_notice_until_there_is_enough_again(cmdb: Cmdb) -> None:
    def untold() -> list[str]:
        with cmdb.begin() as connection:
            return [one.rule.model for one in take_untold(connection, 90, NOW)]

    move(cmdb, *(new(number) for number in range(3)))
    with cmdb.begin() as connection:
        assert save_rules(connection, [RULE], "ann", NOW, True) == [(None, RULE)]
        assert save_rules(connection, [RULE], "ann", NOW, True) == []
    assert (events(cmdb), untold()) == (["stock rule"], [])
    move(cmdb, MoveOrder("install", "A0", ci="web1", slot="1"))
    assert untold() == []
    move(cmdb, MoveOrder("install", "A1", ci="web1", slot="2"), now=NOW + timedelta(hours=1))
    assert (untold(), untold()) == (["PSU"], [])
    move(cmdb, MoveOrder("inspect", "A2", substate="defective"))
    assert (events(cmdb), untold()) == (["stock rule", "stock low"], [])
    with cmdb.read() as connection:
        assert [(one.usable, one.to_order) for one in stock(connection, list_rules(connection), 90, NOW)] == [(0, 4)]
    move(cmdb, new(7), new(8))
    move(cmdb, MoveOrder("transfer", "A7", stockroom="fra"))
    assert (events(cmdb)[1:], untold()) == (["stock low", "stock enough", "stock low"], ["PSU"])
    with cmdb.begin() as connection:
        assert save_rules(connection, [replace(RULE, threshold=0)], "ann", NOW, True) == [(RULE, replace(RULE, threshold=0))]
        note_stock(connection, 90, "ann", NOW)
    assert events(cmdb)[-1] == "stock enough"
    with pytest.raises(TidegateError, match="the rule for PSU in ams is given twice"), cmdb.begin() as connection:
        save_rules(connection, [RULE, RULE], "ann", NOW, True)
    with cmdb.begin() as connection:
        assert remove_rules(connection, {("PSU", "ams"), ("DISK", "ams")}, "ann", NOW, True) == [replace(RULE, threshold=0)]
        assert list_rules(connection) == []


def test_the_storage_as_its_users_see_it(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_URL", receiver.url)
    told = {"channels": {"chat": {"environment": "CHAT_URL"}}, "tell": {"stock_low": ["chat"]}}
    policy = write_document(tmp_path / "policy.yml", example_policy(communication=told))
    units = [{"tag": f"A{number}", "manufacturer": "Contoso", "serial": f"S{number}", "model": "PSU"} for number in range(2)]
    receive = {"tidegate.release.dhs_asset": {"move": "receive", "stockroom": "ams", "units": units}}
    rules = {"tidegate.release.dhs_rule": {"rules": [{"model": "PSU", "stockroom": "ams", "threshold": 1, "target": 4}]}}
    install = {
        "tidegate.release.dhs_asset": {"move": "install", "units": [{"tag": "A0", "ci": "web1", "slot": "1"}], "policy": str(policy)}
    }
    info = {"tidegate.release.dhs_asset_info": {"cis": ["web1"], "history": True}, "register": "found"}
    that = ["found.units | map(attribute='tag') | list == ['A0']", "found.units[0].install_status == 1", "found.history | length == 2"]

    def run(*tasks: dict[str, Any], options: tuple[str, ...] = ()) -> str:
        play = tmp_path / "play.yml"
        play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}]))
        return run_playbook(tmp_path, str(play), *options)

    assert "changed=1" in run({"tidegate.release.cmdb_ci": {"name": "web1"}})
    assert "changed=2" in run(receive, rules, options=("--check",))
    assert run({"tidegate.release.dhs_asset_info": {}, "register": "found"}, {"assert": {"that": "found.units == []"}}).startswith("0 ")
    assert "changed=2" in run(receive, rules, options=("--diff",))
    assert "changed=0" in run(receive, rules)
    assert run_playbook(tmp_path, "tidegate.release.stock", "-e", f"tidegate_policy={policy}").startswith("0 ")
    said = run(install, info, {"assert": {"that": that}})
    assert said.startswith("0 ")
    assert "changed=1" in said
    assert [message["title"] for message in receiver.messages] == ["stock is low: PSU"]
    short = run_playbook(tmp_path, "tidegate.release.stock", "-e", f"tidegate_policy={policy}")
    assert short.startswith("2 ")
    assert "stock is short for 1 of 1 rule" in short
    assert "PSU in ams: 1 usable, 0 reserved, 0 on the way; short, for 1 is the threshold: order 3" in short
    assert len(receiver.messages) == 1
    refused = run(install | {"tidegate.release.dhs_asset": {"move": "retire", "units": [{"tag": "A0"}, {"tag": "A7"}]}})
    assert refused.startswith("2 ")
    assert "A0: it is in use by web1 (1), and retire is not possible from there" in refused
    assert "A7: it is not in the storage" in refused
    assert "Traceback" not in refused


@pytest.mark.parametrize(("each", "free"), [(4, 15), pytest.param(100, 50, marks=pytest.mark.thorough)])
def test_eight_controllers_take_exactly_what_there_is_and_nothing_below_the_threshold(
    cmdb: Cmdb, cmdb_url: str, each: int, free: int
) -> None:
    move(cmdb, *(new(number) for number in range(free + 10)))
    cmdb.put_cis([{"name": f"h{number}"} for number in range(8 * each)], "test")
    with cmdb.begin() as connection:
        save_rules(connection, [replace(RULE, threshold=10, target=19)], "ann", NOW, True)
    journal, package = Journal(cmdb), {"name": "fw", "version": "1", "digest": "sha256:1"}
    runs = [journal.begin(f"CHG{number}", package, [[f"h{number}"]], Rollout(), ME, NOW).deployment for number in range(8 * each)]
    need = [Exposed("h0", "PSU")]

    def take(number: int) -> int:
        taken = 0
        with Cmdb.open(cmdb_url) as mine:
            for run in runs[number::8]:
                with suppress(ConflictError), mine.begin() as connection:
                    taken += len(reserve_spares(connection, run, need, SpareRules(), "normal", "ann", NOW))
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == free
    with cmdb.begin() as connection:
        assert [(one.usable, one.reserved) for one in stock(connection, list_rules(connection), 90, NOW)] == [(10, free)]
        for run in runs:
            release_spares(connection, run, "ann", NOW)
        assert [(one.usable, one.reserved) for one in stock(connection, list_rules(connection), 90, NOW)] == [(free + 10, 0)]
    with pytest.raises(ConflictError, match=f"spares: {free + 1} of PSU are needed and {free} are usable"), cmdb.begin() as connection:
        reserve_spares(connection, runs[0], need * (free + 1), SpareRules(), "normal", "ann", NOW)


def test_a_unit_counts_when_it_was_read_lately_to_be_at_its_models_level(cmdb: Cmdb) -> None:
    move(cmdb, *(new(number) for number in range(4)))
    run = Journal(cmdb).begin("CHG1", {"name": "fw", "version": "1", "digest": "sha256:1"}, [["web1"]], Rollout(), ME, NOW).deployment

    def usable(now: datetime = NOW) -> tuple[int, dict[str, int], tuple[str, ...]]:
        with cmdb.begin() as connection:
            (one,) = stock(connection, list_rules(connection), 90, now)
            spares = would_reserve_spares(connection, None, [Exposed("web1", "PSU")], SpareRules(), "normal", now)
            return one.usable, dict(one.unfit), spares.unusable

    with cmdb.begin() as connection:
        save_rules(connection, [RULE], "ann", NOW, True)
    assert usable() == (4, {}, ("A3 is one of those that ams has to keep",))
    for number, version in ((0, "2"), (1, "2"), (2, "1")):
        move(cmdb, MoveOrder("install", f"A{number}", ci="web2"))
        with cmdb.begin() as connection:
            record_versions(connection, "web2", f"S{number}", {"BIOS": "0"}, NOW)
            record_versions(connection, "web2", f"S{number}", {"BIOS": version}, NOW)
            record_versions(connection, "web2", "S3", {"BIOS": "2"}, NOW)
        move(cmdb, MoveOrder("remove", f"A{number}", stockroom="ams", substate="available"))
    move(cmdb, MoveOrder("install", "A3", ci="web2"))
    with cmdb.begin() as connection:
        record_versions(connection, "web2", "s3", {"BIOS": "2"}, NOW)
    move(cmdb, MoveOrder("remove", "A3", stockroom="ams"), MoveOrder("repair", "A3"), MoveOrder("receive", "A3", stockroom="ams"))
    move(cmdb, MoveOrder("inspect", "A3", substate="available"))  # it was read, and then out of sight
    with cmdb.begin() as connection:
        set_levels(connection, run, "fw", [("PSU", "BIOS", "2")], NOW)
    assert usable() == (
        2,
        {"not at level": 2},
        (
            "A1 is one of those that ams has to keep",
            "A2 has BIOS 1, from which no archived release leads to 2",
            "A3 was not read lately, and is to have BIOS 2",
        ),
    )
    assert usable(NOW + timedelta(days=91))[:2] == (0, {"not at level": 4})


def test_a_deployment_that_has_begun_needs_what_it_has_reserved_and_no_more(cmdb: Cmdb, tmp_path: Path) -> None:
    image = {
        "component": "BIOS",
        "models": ["R750"],
        "image": "b",
        "version": "2",
        "from": ["1"],
        "back_to": [],
        "takes_effect": "immediate",
    }
    package = {"name": "bios", "version": "2", "digest": "sha256:2"}
    cis = [{"name": f"h{number}", "class": "server", "attributes": {"model": "R750"}} for number in range(4)]
    cmdb.put_cis(cis, "test")
    move(cmdb, new(1, model="R750"), new(2, model="R750"))
    facts: Any = SimpleNamespace(package=SimpleNamespace(manifest={"firmware": [image]}), policy=load_policy(None), now=NOW)
    rfc: Any = SimpleNamespace(number="CHG1", type="normal", release="bios")
    library: Any = create_library(str(tmp_path / "dsl"))

    def asked(*waves: list[str]) -> tuple[int, SpareAllotment]:
        machines = {("R750", ""): [{**ci, "site": None} for ci in cis]}
        exposed, allotment = spares_for(library, cmdb, rfc, facts, cis, waves, lambda: machines)
        return len(exposed), allotment

    everybody = ["h1", "h2", "h3"]
    exposed, allotment = asked(["h0"], everybody)
    assert (exposed, dict(allotment.needed), allotment.suffices) == (1, {"R750": 1}, True)
    assert not asked(everybody)[1].suffices
    along = partial(reserve_spares, exposed=[Exposed("h0", "R750")], rules=SpareRules(), change="normal", actor="ann", now=NOW)
    Journal(cmdb).begin("CHG1", package, [["h0"], everybody], Rollout(), ME, NOW, along)
    # Before its first wave it is counted again, for a device may have said that it runs something else; what it has counts.
    assert asked(["h0"], everybody) == (1, SpareAllotment({"R750": 1}, ("A1",), {"R750": 2}))
    assert asked(["h0", "h1"])[1].taken == ("A1", "A2")
    with cmdb.begin() as connection:
        again = partial(reserve_spares, connection, 1, rules=SpareRules(), change="normal", actor="ann", now=NOW)
        assert again(exposed=[Exposed("h0", "R750")]) == ()
        assert again(exposed=[Exposed("h0", "R750"), Exposed("h1", "R750")]) == ("A2",)
        connection.rollback()
    with cmdb.begin() as connection:
        connection.execute(sa.update(schema().wave).where(schema().wave.c.number == 1).values(state="decided"))
    # The canary is decided, or all are and one is lost: nothing more is asked for, whatever is in stock.
    for waves in ((everybody,), ()):
        exposed, allotment = asked(*waves)
        assert (exposed, allotment.taken, dict(allotment.needed), allotment.suffices) == (0, ("A1",), {"R750": 1}, True)
