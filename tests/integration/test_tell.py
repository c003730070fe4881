# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""People are told how a change goes, by real messages to a receiver; one that does not arrive is a warning and nothing more."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import forked
import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.messages import Message
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.communication import (
    Channel,
    Communication,
    without_mentions,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import channels as channels_step
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import tell as tell_step
from documents import policy_of, write_document
from fleet import Fleet
from receiver import SECRET, Receiver, receive

BROKEN = {"hooks": {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["/bin/nothing"], "timeout": 10}}}


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(receive()) for _number in range(3)]


def test_a_hanging_and_a_refusing_channel_neither_stop_the_others_nor_are_waited_for(
    receivers: list[Receiver], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good, hanging, refusing = receivers
    hanging.behaviour, refusing.behaviour = "hang", "refuse"
    monkeypatch.setattr(channels_step, "LIMIT", 3.0)
    addresses = {
        "hanging": [hanging.url],
        "good": [good.url],
        "refusing": [refusing.url],
        "nowhere": ["json://127.0.0.1:1/"],
        "odd": ["nothing://x", good.url],
        "worse": ["://"],
    }
    why = channels_step.send(addresses, "CHG0001: held", "why <b>not</b>").why
    assert set(why) == {"hanging", "refusing", "nowhere", "odd", "worse"}
    assert "did not answer within 3 s" in why["hanging"]
    assert [(message["title"], message["message"]) for message in good.messages] == [("CHG0001: held", "why <b>not</b>")] * 2
    said = capfd.readouterr()
    assert SECRET not in str(why)
    assert said.out + said.err == ""


def test_addresses_come_from_the_environment_or_a_file_and_are_never_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "urls").write_text(f"json://{SECRET}@one.example\njson://{SECRET}@two.example\n # json://{SECRET}@gone.example\n")
    (tmp_path / "none").write_text(f"{SECRET}\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe://")
    monkeypatch.setenv("CHAT_URL", f"json://{SECRET}@one.example")
    channels = {
        "chat": Channel(environment="CHAT_URL"),
        "file": Channel(file=str(tmp_path / "urls")),
        "unset": Channel(environment="NOT_SET"),
        "none": Channel(file=str(tmp_path / "none")),
        "gone": Channel(file=str(tmp_path / "gone")),
        "folder": Channel(file=str(tmp_path)),
        "stranger": Channel(file="~nobody-of-this-name/urls"),
        "bytes": Channel(file=str(tmp_path / "bytes")),
    }
    found = channels_step.unusable(Communication(channels=channels))
    assert [name for name, why in found.items() if not why] == ["chat", "file"]
    assert "the environment variable NOT_SET has no address" in found["unset"]
    assert SECRET not in str(found)
    assert len(channels_step._addresses(channels["file"])) == 2


def test_whatever_breaks_while_people_are_told_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: object) -> list[str]:
        raise ValueError(SECRET)

    monkeypatch.setattr(tell_step, "_tell", broken)
    tell = tell_step.make_notifier(load_policy)
    assert tell(cast("Any", None), Run(1, 1), "hold", "why", datetime.now(UTC)) == ["nobody was told of hold, or not everybody: ValueError"]


def test_what_others_wrote_of_stock_rings_nobody(receivers: list[Receiver], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_URL", receivers[0].url)
    chat = Communication(channels={"chat": Channel(environment="CHAT_URL")})
    title, body = map(without_mentions, ("stock is low: @everyone", "PSU in <!here>: order @here"))
    message = Message("stock_low", title, body, "stock_low now")
    assert tell_step.deliver(cast("Any", None), chat, ["chat"], message, datetime.now(UTC)).problems == ()
    (message,) = receivers[0].messages
    assert message["title"] == "stock is low: @\u200beveryone"
    assert message["message"] == "PSU in <\u200b!here>: order @\u200bhere"


def communication(receivers: list[Receiver]) -> dict[str, Any]:
    names = ("chat", "desk", "ops")
    return {
        "channels": {name: {"environment": f"{name.upper()}_URL"} for name in names},
        "pages": "https://reports.example/tidegate",
        "tell": {event: ["chat"] for event in ("cleared", "start", "wave", "hold", "back_out", "done")},
        "templates": {"done": "$rfc is $state: $sentence"},
    }


@pytest.fixture
def told(fleet: Fleet, receivers: list[Receiver], monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for name, receiver in zip(("CHAT", "DESK", "OPS"), receivers, strict=True):
        monkeypatch.setenv(f"{name}_URL", receiver.url)
    fleet.write_policy(**fleet.policy, communication=communication(receivers))
    return fleet


def test_channels_and_stakeholders_are_told_of_each_event_once(told: Fleet, receivers: list[Receiver]) -> None:
    chat, desk, ops = receivers
    ops.behaviour = "hang"
    rfc = told.rfc("CHG0001", "1.0", told.archive("1.0"), stakeholders=["desk", "ops", "nobody"], short_description="{{ 7 * 7 }} $rfc")
    done = told.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
    assert done.returncode == 0, done.stdout
    assert set(told.served().values()) == {"1.0"}
    waves = chat.titles[2:-1]
    assert set(waves) == {"CHG0001 hello 1.0: wave"}
    assert chat.titles == [f"CHG0001 hello 1.0: {what}" for what in ("cleared", "started", *(["wave"] * len(waves)), "done")]
    assert desk.titles == [f"CHG0001 hello 1.0: {what}" for what in ("cleared", "started", "done")]
    assert chat.messages[0]["message"].startswith("{{ 7 * 7 }} $rfc: CHG0001")
    page = "https://reports.example/tidegate/changes/CHG0001.html"
    assert chat.messages[-1]["message"] == f"CHG0001 is completed: CHG0001: hello 1.0 is live on 3 of 3 hosts.\n{page}"
    assert f"wave 1 of {len(waves)}: " in chat.messages[2]["message"]
    said = " ".join(done.stdout.split())
    assert "the channel ops was not told of start: an address" in said
    assert "the stakeholder nobody has no channel" in said
    assert SECRET not in done.stdout
    assert not told.rows(f"select * from journal where cast(data as text) like '%{SECRET}%'")  # noqa: S608 - a test's own words

    again = told.play("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
    assert again.returncode == 0, again.stdout
    assert len(chat.messages) == 3 + len(waves)


@pytest.mark.thorough
def test_a_back_out_and_a_hold_are_told(told: Fleet, receivers: list[Receiver]) -> None:
    chat = receivers[0]
    failed = told.deploy("CHG0001", "1.0", **BROKEN)
    assert failed.returncode != 0
    assert [title.split(": ")[1] for title in chat.titles] == ["cleared", "started", "backing out", "done"]
    assert chat.messages[-1]["message"].startswith("CHG0001 is backed_out: ")
    chat.messages.clear()
    told.write_policy(
        **{**told.policy, "rollout": {**told.policy["rollout"], "on_failure": "hold"}}, communication=communication(receivers)
    )
    held = told.deploy("CHG0002", "1.1", **BROKEN)
    assert held.returncode != 0
    assert [title.split(": ")[1] for title in chat.titles] == ["cleared", "started", "held"]
    rfc = told.path / "CHG0002.yml"
    rfc.write_text(rfc.read_text() + "colour: red\n")  # a damaged RFC is in the way of everything but of going back
    undone = told.play("tidegate.release.backout", {"tidegate_rfc": str(rfc)})
    assert undone.returncode == 0, undone.stdout
    assert [title.split(": ")[1] for title in chat.titles][3:] == ["backing out", "done"]


@pytest.mark.thorough
def test_a_communication_plan_can_be_asked_for(told: Fleet, receivers: list[Receiver], monkeypatch: pytest.MonkeyPatch) -> None:
    told.write_policy(**told.policy, communication={**communication(receivers), "required": True})
    digest = told.archive("1.0")
    plain = told.rfc("CHG0001", "1.0", digest)
    refused = told.play("tidegate.release.clear", {"tidegate_rfc": str(plain)})
    assert refused.returncode != 0
    assert "there is no communication plan" in refused.stdout
    planned = told.rfc("CHG0001", "1.0", digest, communication_plan="Mail on the day before.")
    assert told.play("tidegate.release.clear", {"tidegate_rfc": str(planned)}).returncode == 0
    monkeypatch.delenv("CHAT_URL")
    refused = told.play("tidegate.release.clear", {"tidegate_rfc": str(planned)})
    assert refused.returncode != 0
    assert "the channel chat can't be used: the environment variable CHAT_URL has no address" in " ".join(refused.stdout.split())
    assert receivers[0].messages == []  # clearing tells nobody


def test_each_channel_can_be_tried_before_it_is_needed(receivers: list[Receiver], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chat, desk, ops = receivers
    for name, receiver in zip(("CHAT", "DESK"), receivers[:2], strict=True):
        monkeypatch.setenv(f"{name}_URL", receiver.url)
    monkeypatch.delenv("OPS_URL", raising=False)
    section = communication(receivers)
    section["channels"]["ops"]["quiet"] = {"from": "20:00", "to": "07:00", "time_zone": "UTC"}
    monkeypatch.setenv("TIDEGATE_POLICY", str(write_document(tmp_path / "policy.yml", policy_of(communication=section))))

    def play(*options: str) -> subprocess.CompletedProcess[str]:
        environment = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}
        command = ["ansible-playbook", "tidegate.release.tell", "-i", "localhost,", *options]
        return forked.run(command, {**os.environ, **environment}, timeout=120)

    looked = play()
    assert (looked.returncode != 0, chat.messages) == (True, [])
    said = " ".join(looked.stdout.split())
    assert "chat (told of cleared, start, wave, hold, back_out, done): its addresses are there" in said
    assert "RFCs name it for; quiet 20:00 to 07:00 UTC): the environment variable OPS_URL has no address" in said
    monkeypatch.setenv("OPS_URL", ops.url)
    checked = play("--check", "-e", "{tidegate_test: true}")
    assert (checked.returncode, chat.messages) == (0, []), checked.stdout
    desk.behaviour = "refuse"
    tried = play("-e", "{tidegate_test: true}")
    assert tried.returncode != 0
    said = " ".join(tried.stdout.split())
    assert "chat (told of cleared, start, wave, hold, back_out, done): it took the test message" in said
    assert "desk (told of nothing but what RFCs name it for): an address refused the message" in said
    assert chat.titles == ops.titles == ["Tidegate: a test"]
    assert SECRET not in looked.stdout + checked.stdout + tried.stdout
