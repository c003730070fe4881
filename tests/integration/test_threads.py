# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages about one deployment are one thread, in chats that can and in mails, and arrive all the same where the thread is gone."""

from __future__ import annotations

import email
import json
import socket
from collections.abc import Iterator
from email.message import Message as Mail
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.messages import Message
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import channels as channels_step
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.channels import send
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import send_in_thread
from chats import CHANNEL, TOKEN, Chats, chats

REAL = ("slack", "mattermost", "matrix")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels_step, "LIMIT", 60.0)  # whatever else this machine has to do


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chats]:
    with chats() as found:
        monkeypatch.setenv("PYTHONPATH", str(found.redirected(tmp_path / "elsewhere")))
        yield found


@pytest.fixture
def cmdb(tmp_path: Path) -> Iterator[Cmdb]:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as opened:
        yield opened


def said(what: str, thread: str = "a" * 32) -> Message:
    return Message("wave", f"CHG0001 hello 1.0: {what}", f"it is {what}", what, thread)


def test_what_is_said_of_a_deployment_is_one_thread_in_each_chat(there: Chats, cmdb: Cmdb) -> None:
    addresses = {name: [address] for name, address in there.addresses.items()}
    for what in ("started", "wave", "done"):
        assert dict(send_in_thread(cmdb, addresses, said(what)).why) == {}
    for place in REAL:
        first, *others = there.of(place)
        assert (first.root, [post.root for post in others]) == ("", [first.name] * 2), place
        assert "it is wave" in others[0].text
    send_in_thread(cmdb, addresses, said("started", "b" * 32))
    assert [there.of(place)[3].root for place in REAL] == [""] * 3
    roots = [post.root for post in there.of("gchat")]
    assert len(set(roots[:3])) == 1
    assert roots[3] != roots[0] != "null"
    assert {post.root for post in there.of("zulip")} == {"CHG0001 hello 1.0"}
    assert there.of("zulip")[1].text == "CHG0001 hello 1.0: wave\nit is wave"
    assert there.refused == []


def test_a_thread_that_is_gone_begins_anew_and_each_message_arrives_once(there: Chats, cmdb: Cmdb) -> None:
    addresses = {name: [there.addresses[name]] for name in REAL}
    send_in_thread(cmdb, addresses, said("started"))
    there.forget()
    for what in ("wave", "done"):
        assert dict(send_in_thread(cmdb, addresses, said(what)).why) == {}
    for place in REAL:
        first, second = there.of(place)
        assert (first.root, second.root) == ("", first.name)
    assert len(there.refused) == len(REAL)


def test_a_chat_that_answers_too_late_is_not_told_twice_and_keeps_its_thread(there: Chats, cmdb: Cmdb) -> None:
    addresses = {name: [there.addresses[name]] for name in REAL}
    send_in_thread(cmdb, addresses, said("started"))
    there.late = True
    assert send_in_thread(cmdb, addresses, said("wave")).why.keys() == set(REAL)
    there.late = False
    send_in_thread(cmdb, addresses, said("done"))
    for place in REAL:
        first, *others = there.of(place)
        assert [post.root for post in others] == [first.name] * 2, place


def test_a_message_that_is_in_no_thread_answers_nothing(there: Chats) -> None:
    addresses = {name: [there.addresses[name]] for name in REAL}
    assert dict(send(addresses, "stock is low", "order").why) == {}
    assert dict(send(addresses, "stock is low", "order").why) == {}
    assert {post.root for post in there.posts} == {""}


def test_an_address_that_names_a_thread_stays_in_that(there: Chats, cmdb: Cmdb) -> None:
    send({"slack": [there.addresses["slack"]]}, "a thread of ours", "first")
    own = there.posts[0].name
    addresses = {"slack": [f"{there.addresses['slack']}:{own}"]}
    for what in ("started", "wave"):
        assert dict(send_in_thread(cmdb, addresses, said(what)).why) == {}
    assert [post.root for post in there.posts] == ["", own, own]


def test_no_secret_is_kept_of_a_thread(there: Chats, cmdb: Cmdb) -> None:
    send_in_thread(cmdb, {name: [there.addresses[name]] for name in REAL}, said("started"))
    with cmdb.read() as connection:
        kept = connection.exec_driver_sql("select roots from message_thread").scalars().all()
    assert len(kept) == len(REAL)
    assert not any(secret in json.dumps(kept) for secret in (TOKEN, "secret"))
    assert CHANNEL  # the name of a channel is none


class Office:
    """A mail server, which takes every mail for ``ops`` and refuses those for anybody else."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if not address.startswith(("ops", "desk")):
            return "550 nobody of this name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def office() -> Iterator[tuple[Office, str]]:
    handler = Office()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield handler, f"mailto://127.0.0.1:{port}?from=tidegate@example.org&smtp=127.0.0.1"
    finally:
        controller.stop()


def test_mails_about_a_deployment_are_answers_to_the_first(office: tuple[Office, str], cmdb: Cmdb) -> None:
    handler, address = office
    addresses = {"ops": [f"{address}&to=ops@example.org,desk@example.org"]}
    for what in ("started", "wave", "held \u2013 \u20ac"):
        assert dict(send_in_thread(cmdb, addresses, said(what)).why) == {}
    key = f"<{'a' * 32}@tidegate.invalid>"
    first, others = handler.mails[:2], handler.mails[2:]
    assert [mail.get_all("Message-ID") for mail in first] == [[key]] * 2
    assert [mail["In-Reply-To"] for mail in first] == [None] * 2
    assert len(others) == 4
    for mail in others:
        assert (mail.get_all("In-Reply-To"), mail.get_all("References")) == ([key], [key])
        assert len(mail.get_all("Message-ID") or []) == 1
        assert mail["Message-ID"] != key
    assert "it is wave" in (others[0].get_payload(decode=True) or b"").decode()  # type: ignore[union-attr]


def test_a_mail_that_was_refused_is_not_the_first_of_its_thread(office: tuple[Office, str], cmdb: Cmdb) -> None:
    handler, address = office
    outcome = send_in_thread(cmdb, {"ops": [f"{address}&to=nobody@example.org"]}, said("started"))
    assert "refused" in outcome.why["ops"]
    assert outcome.untold == {"ops"}
    assert dict(send_in_thread(cmdb, {"ops": [f"{address}&to=ops@example.org"]}, said("wave")).why) == {}
    assert [mail["In-Reply-To"] for mail in handler.mails] == [None]
