# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is due is told once, by however many schedules, and what is not urgent not in anybody's quiet hours."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import forked
import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.quiet import QuietHours
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import upgrade
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.messages import Message, waiting
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import save_rules
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.stock import StockRule
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.communication import Channel, Communication, Event
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import Policy
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import register_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import channels as channels_step
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import tell as tell_step
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.channels import SendingResult
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.remind import Reminded, remind
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import deliver, make_notifier, save_stakeholders
from documents import loaded_rfc, policy_of, write_document
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from receiver import SECRET, Receiver, receive

START = datetime(2027, 3, 1, 22, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
RFC = loaded_rfc(
    number="CHG0001",
    start_date=START,
    end_date=START + 4 * HOUR,
    backout_plan="",
    test_plan="",
    digest="sha256:" + "a" * 64,
    fingerprint="f",
    state=-2,
)
EVENTS = ("window_opens", "held_since", "duty_due", "stock_low", "hold", "done")
NIGHT = QuietHours(time(20), time(7), "Europe/Berlin")


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receive() as receiver:
        monkeypatch.setenv("CHAT_URL", receiver.url)
        monkeypatch.setattr(channels_step, "LIMIT", 60.0)  # whatever else this machine has to do
        yield receiver


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": "web1", "class": "server"}], actor="test")
        yield opened


def policy(quiet: QuietHours | None = None, **more: Any) -> Policy:
    told = Communication(channels={"chat": Channel("CHAT_URL", quiet=quiet)}, tell=dict.fromkeys(EVENTS, ("chat",)), **more)
    return replace(load_policy(), communication=told)


def enter(cmdb: Cmdb, **changes: Any) -> None:
    with cmdb.begin() as connection:
        register_change(connection, replace(RFC, **changes), ["web1"], START - DAY)


def begin(cmdb: Cmdb, at: datetime) -> Run:
    package = {"name": "hello", "version": "1.0", "digest": RFC.digest}
    return Journal(cmdb).begin("CHG0001", package, (("web1",),), Rollout(), Holder.this_run(), at)


def owe(cmdb: Cmdb, due: datetime) -> None:
    about = {"release": "hello", "version": "1.0", "digest": RFC.digest, "incurred": due - DAY, "due": due}
    with cmdb.begin() as connection:
        connection.execute(schema().debt.insert(), [{"rfc": "CHG0001", "duty": "review", **about}])


def run(cmdb: Cmdb, now: datetime, *, write: bool = True, by: Policy | None = None) -> Reminded:
    return remind(cmdb, by or policy(), "test", now, write=write)


def test_a_window_is_told_of_an_hour_before_it_opens_and_once(cmdb: Cmdb, chat: Receiver) -> None:
    enter(cmdb)
    assert run(cmdb, START - HOUR - MINUTE).told == ()
    foreseen = run(cmdb, START - HOUR, write=False)
    assert [one.channels for one in foreseen.told] == [("chat",)]
    assert chat.messages == []
    pages = policy(pages="https://reports.example/tidegate/")
    assert run(cmdb, START - HOUR, by=pages).problems == ()
    assert run(cmdb, START - HOUR, write=False).told == ()
    for later in (MINUTE, HOUR, 2 * HOUR):
        run(cmdb, START - HOUR + later)
    (message,) = chat.messages
    assert message["title"] == f"CHG0001 {RFC.release} {RFC.version}: its window opens soon"
    assert message["message"].startswith(f"{RFC.short_description}: CHG0001: its window ")
    assert "opens at 2027-03-01 22:00 UTC and closes at 2027-03-02 02:00 UTC" in message["message"]
    assert message["message"].endswith("\nhttps://reports.example/tidegate/changes/CHG0001.html")


def test_a_window_that_moves_is_told_of_anew_and_one_that_is_not_sure_or_begun_is_not(cmdb: Cmdb, chat: Receiver) -> None:
    enter(cmdb)
    enter(cmdb, number="CHG0002", state=-4)
    run(cmdb, START)
    enter(cmdb, start_date=START + 2 * HOUR, end_date=START + 6 * HOUR)
    run(cmdb, START + HOUR)
    assert [one["title"].rpartition(": ")[2] for one in chat.messages] == ["its window is open", "its window opens soon"]
    enter(cmdb, start_date=START + 3 * HOUR, end_date=START + 6 * HOUR)
    journal, begun = Journal(cmdb), begin(cmdb, START)
    journal.staged(begun, "web1", None, START)
    journal.decide_staging(begun, GateDecision("proceed", "staged"), START, START + 6 * HOUR, ends_round=False)
    run(cmdb, START + 2 * HOUR + MINUTE)
    assert len(chat.messages) == 2


def test_a_deployment_that_is_held_is_told_of_after_an_hour_and_each_day(cmdb: Cmdb, chat: Receiver) -> None:
    journal, begun = Journal(cmdb), begin(cmdb, START)
    journal.hold(begun, "the disk @everyone is full", START)
    for passed in (59 * MINUTE, HOUR, 2 * HOUR, 23 * HOUR, DAY, DAY + HOUR, 3 * DAY):
        run(cmdb, START + passed, by=policy(NIGHT))  # held is urgent
    assert len(chat.messages) == 3
    assert "CHG0001 is held since 2027-03-01 22:00 UTC: the disk @\u200beveryone is full" in chat.messages[0]["message"]
    assert chat.titles[0] == "CHG0001 hello 1.0: still held"


def test_a_duty_is_told_of_a_day_before_it_is_due_and_when_it_is_overdue(cmdb: Cmdb, chat: Receiver) -> None:
    begin(cmdb, START)
    owe(cmdb, START + 3 * DAY)
    for passed in (DAY, 2 * DAY, 2 * DAY + HOUR, 3 * DAY, 9 * DAY):
        run(cmdb, START + passed)
    assert [title.rpartition(": ")[2] for title in chat.titles] == ["review is due soon", "review is overdue"]


def test_two_schedules_at_the_same_time_tell_once(cmdb: Cmdb, chat: Receiver) -> None:
    enter(cmdb)
    owe(cmdb, START + HOUR)
    begin(cmdb, START - DAY)
    ready = threading.Barrier(4)

    def schedule() -> None:
        ready.wait()
        run(cmdb, START)

    threads = [threading.Thread(target=schedule) for _number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(Counter(chat.titles).values()) == [1, 1]


def test_what_nobody_took_is_tried_again_and_what_one_took_is_not(cmdb: Cmdb, chat: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(cmdb)
    chat.behaviour = "refuse"
    first = run(cmdb, START - HOUR)
    assert "the channel chat was not told of window_opens: an address refused" in first.problems[0]
    assert first.waiting == 1
    assert SECRET not in str(first)
    chat.behaviour = "take"
    assert run(cmdb, START - 50 * MINUTE).problems == ()
    assert len(chat.messages) == 1
    enter(cmdb, start_date=START + 2 * HOUR, end_date=START + 6 * HOUR)
    monkeypatch.setenv("CHAT_URL", f"{chat.url} json://127.0.0.1:1/")
    assert len(run(cmdb, START + HOUR).problems) == 1
    assert run(cmdb, START + HOUR).problems == ()
    assert len(chat.messages) == 2


def test_a_channel_that_hangs_costs_its_limit_once_and_is_not_told_twice(
    cmdb: Cmdb, chat: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels_step, "LIMIT", 2.0)
    for number in range(1, 9):
        enter(cmdb, number=f"CHG000{number}")
    chat.behaviour = "hang"
    assert len(run(cmdb, START - HOUR).problems) == 1
    chat.behaviour = "take"
    chat.over.set()
    monkeypatch.setattr(channels_step, "LIMIT", 60.0)
    assert run(cmdb, START - 50 * MINUTE).problems == ()
    assert len(chat.messages) == 7  # whether the first one came nobody knows


def test_what_is_not_urgent_waits_for_the_end_of_quiet_hours_and_says_when_it_was(cmdb: Cmdb, chat: Receiver) -> None:
    enter(cmdb)
    by = policy(NIGHT)
    run(cmdb, START - HOUR, by=by)
    told = Message("done", "CHG0001 hello 1.0: done", "it is live", "done 1")
    assert deliver(cmdb, by.communication, ["chat"], told, START + HOUR).later == ("chat",)
    assert run(cmdb, START + 2 * HOUR, by=by).waiting == 2
    assert chat.messages == []
    assert deliver(cmdb, by.communication, ["chat"], replace(told, urgent=True), START + HOUR).told == ("chat",)
    end = datetime(2027, 3, 2, 6, tzinfo=UTC)
    late = run(cmdb, end, by=by)
    assert (late.waiting, late.problems) == (0, ())
    run(cmdb, end + HOUR, by=by)
    assert len(chat.messages) == 2, "nobody is told at the end of quiet hours that a window opens which is over"
    assert chat.messages[1]["message"] == "it is live\nThis waited for the end of quiet hours; it is of 2027-03-02 00:00 (Europe/Berlin)."


def test_low_stock_that_nobody_took_is_told_in_the_next_run_and_what_was_told_is_said(cmdb: Cmdb, chat: Receiver) -> None:
    with cmdb.begin() as connection:
        save_rules(connection, [StockRule("PSU", "ams-1", 1, 2)], "test", START, True)
    chat.behaviour = "refuse"
    refused = run(cmdb, START)
    assert (refused.told, refused.waiting, len(refused.problems)) == ((), 1, 1)
    chat.behaviour = "take"
    (told,) = run(cmdb, START + HOUR).told
    assert (told.channels, chat.titles) == (("chat",), ["stock is low: PSU"])
    with cmdb.begin() as connection:
        save_rules(connection, [StockRule("FAN", "ams-1", 1, 2)], "test", START, True)
    (told,) = run(cmdb, START + 2 * HOUR).told
    assert (told.title, told.channels) == ("stock is low: FAN", ("chat",))
    assert run(cmdb, START + 3 * HOUR).told == ()


def test_the_tables_can_be_taken_away_again(cmdb: Cmdb) -> None:
    migration = import_module(f"{upgrade.__package__}.migrations.versions.0022_message")
    with cmdb.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        migration.downgrade()
        assert not {"message", "message_thread"} & set(sa.inspect(connection).get_table_names())
        migration.upgrade()
        assert {"message", "message_thread"} <= set(sa.inspect(connection).get_table_names())


@contextlib.contextmanager
def recorded(sent: list[tuple[str, str]]) -> Iterator[None]:
    """Nothing is sent; who would have been told what goes to ``sent``."""

    def send(addresses: dict[str, list[str]], title: str, _body: str, _thread: object = None) -> SendingResult:
        sent.extend((name, title) for name in addresses)
        return SendingResult()

    before = tell_step.send
    tell_step.send = send  # type: ignore[assignment]
    try:
        yield
    finally:
        tell_step.send = before


@pytest.mark.parametrize(
    ("event", "kind", "urgent"),
    [
        ("cleared", "normal", False),
        ("start", "normal", False),
        ("wave", "normal", False),
        ("done", "normal", False),
        ("hold", "normal", True),
        ("back_out", "normal", True),
        ("start", "emergency", True),
        ("done", "backed_out", True),
    ],
)
def test_what_is_held_failed_or_an_emergency_goes_through_quiet_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: Event, kind: str, urgent: bool
) -> None:
    monkeypatch.setenv("CHAT_URL", "json://127.0.0.1:1/")
    by = policy(NIGHT)
    by = replace(
        by, communication=replace(by.communication, tell=dict.fromkeys(("cleared", "start", "wave", *EVENTS, "back_out"), ("chat",)))
    )
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server"}], actor="test")
        journal, begun = Journal(cmdb), begin(cmdb, START)
        save_stakeholders(journal, begun, replace(RFC, type="emergency" if kind == "emergency" else "normal"), START)
        if kind == "backed_out":
            with cmdb.begin() as connection:
                connection.execute(schema().deployment.update().values(state=DeploymentState.BACKED_OUT))
        elif event == "done":
            with cmdb.begin() as connection:
                connection.execute(schema().deployment.update().values(state=DeploymentState.COMPLETED))
        sent: list[tuple[str, str]] = []
        with recorded(sent):
            assert make_notifier(lambda: by)(journal, begun, event, "why", START) == []
        assert bool(sent) is urgent
        with cmdb.read() as connection:
            assert len(waiting(connection)) == int(not urgent)


happenings = st.lists(st.tuples(st.integers(0, 3 * 24 * 60), st.booleans()), max_size=6)
schedules = st.lists(st.integers(0, 4 * 24 * 60), max_size=12)
hours = st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda pair: pair[0] != pair[1])


@given(happenings, schedules, hours, st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu"]))
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_happens_each_is_told_once_and_only_what_is_urgent_in_quiet_hours(
    tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[int, bool]], runs: list[int], at: tuple[int, int], zone: str
) -> None:
    quiet = QuietHours(*(time(one // 60, one % 60) for one in at), zone)
    with pytest.MonkeyPatch.context() as patch, Cmdb.open(str(tmp_path_factory.mktemp("c") / "cmdb.sqlite"), create=True) as cmdb:
        patch.setenv("CHAT_URL", "json://127.0.0.1:1/")
        by, begins = policy(quiet), datetime(2027, 3, 26, 12, tzinfo=UTC)  # clocks change two days later
        steps: list[tuple[int, str, bool]] = [(minute, f"{number}", urgent) for number, (minute, urgent) in enumerate(happened)]
        steps += [(minute, "", False) for minute in runs]
        told: dict[str, list[datetime]] = {}
        last = 8 * 24 * 60  # a run in every hour of a day, long after
        for minute, what, urgent in [*sorted(steps), *((last + 60 * number, "", False) for number in range(24)), (last + 1e6, "", False)]:
            now = begins + minute * MINUTE
            sent: list[tuple[str, str]] = []
            with recorded(sent):
                if what:
                    deliver(cmdb, by.communication, ["chat"], Message("done", what, "it is", what, urgent=urgent), now)
                else:
                    remind(cmdb, by, "test", now, write=True)
            for _channel, title in sent:
                told.setdefault(title, []).append(now)
        for number, (minute, urgent) in enumerate(happened):
            moments = told.get(f"{number}", [])
            assert len(moments) <= 1
            if urgent or not quiet.holds(begins + minute * MINUTE):
                assert moments == [begins + minute * MINUTE]
            elif moments:
                assert moments[0] > begins + minute * MINUTE
                assert not quiet.holds(moments[0])
            else:  # then there was no run at which it was not quiet
                assert all(quiet.holds(begins + (last + 60 * one) * MINUTE) for one in range(24))


def test_reminders_are_told_from_an_empty_directory(tmp_path: Path, chat: Receiver) -> None:
    now = datetime.now(UTC)
    channel = {"environment": "CHAT_URL"}
    section = {"channels": {"chat": channel}, "tell": {"window_opens": ["chat"]}}
    settings_ = {
        "TIDEGATE_CMDB": str(tmp_path / "cmdb.sqlite"),
        "TIDEGATE_POLICY": str(write_document(tmp_path / "policy.yml", policy_of(communication=section))),
        "ANSIBLE_NOCOLOR": "1",
    }
    with Cmdb.open(settings_["TIDEGATE_CMDB"], create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server"}], actor="test")
        enter(cmdb, start_date=now + 30 * MINUTE, end_date=now + 2 * HOUR)
    command = ["ansible-playbook", "tidegate.release.remind", "-i", "localhost,"]
    checked = forked.run([*command, "--check"], {**os.environ, **settings_}, timeout=120)
    assert checked.returncode == 0, checked.stdout
    assert "its window opens soon: would be told to chat" in " ".join(checked.stdout.split())
    assert chat.messages == []
    for _time in range(2):
        done = forked.run(command, {**os.environ, **settings_}, timeout=120)
        assert done.returncode == 0, done.stdout
    assert "there is nothing to tell anybody now" in " ".join(done.stdout.split())
    assert len(chat.messages) == 1
    assert SECRET not in checked.stdout + done.stdout
