# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told what is checked before anybody is, and nobody's words are taken for a template."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.quiet import QuietHours
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.communication import Channel, Communication, plain, without_mentions
from hypothesis import example, given
from hypothesis import strategies as st

Write = Callable[..., Path]
NIGHT = {"from": "20:00", "to": "07:00", "time_zone": "Europe/Berlin"}
CHANNELS = {"chat": {"environment": "CHAT_URL"}, "desk": {"file": "/etc/desk.url"}}


def test_the_shipped_policy_tells_nobody() -> None:
    assert load_policy().communication == Communication()


def test_a_policy_names_channels_and_what_they_are_told(write: Write) -> None:
    channels = {**CHANNELS, "mine": {"file": "mine.url"}, "own": {"file": "~/own.url"}}
    section = {"required": True, "channels": channels, "tell": {"hold": ["chat", "desk"]}, "templates": {"hold": "$$ $rfc ${sentence}"}}
    path = write("policy", communication=section)
    found = load_policy(path).communication
    assert found.required
    beside = {"mine": Channel(file=str(path.parent / "mine.url")), "own": Channel(file="~/own.url")}
    assert found.channels == {"chat": Channel(environment="CHAT_URL"), "desk": Channel(file="/etc/desk.url"), **beside}
    assert found.listeners("hold", ["desk", "nobody"]) == ("chat", "desk")
    assert found.listeners("done", ["desk", "nobody"]) == ("desk",)
    assert found.message("hold", {"rfc": "CHG1", "sentence": "$release"}) == "$ CHG1 $release"


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ({"tell": {"hold": ["chat"]}}, "'chat' is not one of the channels"),
        ({"channels": CHANNELS, "tell": {"hold": ["chart"]}}, "'chart' is not one of the channels"),
        ({"channels": CHANNELS, "tell": {"lunch": ["chat"]}}, "lunch is not a key of communication.tell"),
        ({"channels": {"chat": {}}}, "communication.channels.chat has not exactly one of environment, file"),
        ({"channels": {"chat": {"environment": "A", "file": "b"}}}, "communication.channels.chat has not exactly one of environment, file"),
        ({"channels": {"chat": {"url": "json://secret"}}}, "url is not a key of communication.channels.chat"),
        ({"channels": {"chat": {"environment": "A B"}}}, "communication.channels.chat.environment is 'A B'"),
        ({"templates": {"done": "$colour"}}, "the template of done has $colour"),
        ({"templates": {"done": "costs 5 $"}}, "the template of done has a $ that stands for nothing"),
        ({"templates": {"done": "${rfc"}}, "the template of done has a $ that stands for nothing"),
        ({"templates": []}, "communication.templates is a list"),
        ({"channels": []}, "communication.channels is a list"),
        ({"tell": {"hold": "chat"}}, "communication.tell.hold is 'chat'"),
        ("chat", "communication is 'chat'"),
        ({"pages": "ftp://reports.example"}, "communication.pages is 'ftp://reports.example'"),
        ({"pages": "https://ann:secret@reports.example"}, "communication.pages is not a plain address"),
        ({"pages": "https://reports.example/?token=secret"}, "communication.pages is not a plain address"),
        (
            {"channels": {"chat": {**CHANNELS["chat"], "quiet": {**NIGHT, "time_zone": "Mars/Olympus"}}}},
            "there is no time zone 'Mars/Olympus'",
        ),
        ({"channels": {"chat": {**CHANNELS["chat"], "quiet": {**NIGHT, "to": "20:00"}}}}, "the quiet hours of chat are no hours, or all"),
        ({"channels": {"chat": {**CHANNELS["chat"], "quiet": {**NIGHT, "to": "7"}}}}, "communication.channels.chat.quiet.to is '7'"),
        ({"channels": {"chat": {**CHANNELS["chat"], "quiet": {"from": "20:00"}}}}, "to is missing from communication.channels.chat.quiet"),
        ({"channels": {"chat": {"quiet": NIGHT}}}, "communication.channels.chat has not exactly one of environment, file"),
    ],
)
def test_what_could_never_be_told_is_refused(write: Write, section: Any, what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_policy(write("policy", communication=section))
    assert any(problem.what.startswith(what) for problem in caught.value.problems), caught.value
    assert "secret" not in str(caught.value)


@given(st.text(), st.text())
def test_whatever_people_wrote_is_put_in_as_it_is_on_one_line(title: str, sentence: str) -> None:
    message = Communication().message("hold", {"title": title, "sentence": sentence})
    assert message.isprintable()
    assert "\n" not in message


def test_values_are_no_templates_and_have_an_end() -> None:
    hostile = "$sentence {{ lookup('pipe', 'id') }} ${rfc}\x1b[2J\r\nBcc: all"
    assert Communication().message("hold", {"title": hostile}) == "$sentence {{ lookup('pipe', 'id') }} ${rfc} [2J Bcc: all: "
    assert len(Communication().message("hold", {"sentence": "x" * 100_000})) == 4000


GAP = "\u200b"
RINGING = [
    "@everyone",
    "@here",
    "@channel",
    "@all",
    "@room",
    "<!here",
    "<!channel",
    "<!everyone",
    "<!subteam",
    "<@",
    "<users/all",
    "@**all**",
    "@&",  # a role of Discord's, which Apprise rings by itself when it formats
    "@123456789012345678",
]
WORDS = ("@", "<", "!", "&", "123456789012345678", "every", "one", "HERE>", "@Channel", "a", " ", "$title", "x@y.org", GAP)
words = st.lists(
    st.sampled_from(
        [*RINGING, "@", "<", "!", "&", "123456789012345678", "every", "one", "HERE>", "@Channel", "a", " ", "$title", "x@y.org", GAP]
    ),
    max_size=6,
)
texts = words.map("".join)


@given(texts, texts)
@example("it is @every", "one here")
@example("<", "!channel>")
@example("@", "here")
def test_the_words_of_others_ring_nobody_and_read_the_same(title: str, sentence: str) -> None:
    for template in ("$title$sentence", "$title: $sentence"):
        said = Communication(templates={"hold": template}).message("hold", {"title": title, "sentence": sentence})
        assert not [mention for mention in RINGING if mention in said.lower()]
        whole = template.replace("$sentence", "\0").replace("$title", plain(title)).replace("\0", plain(sentence))
        assert said.replace(GAP, "") == whole
    assert not [mention for mention in RINGING if mention in without_mentions(title).lower()]


def test_a_policy_may_ring_everybody_and_an_address_stays_as_it_is() -> None:
    loud = Communication(templates={"hold": "<!here> @channel: $sentence"})
    assert loud.message("hold", {"sentence": "ask ann@example.org"}) == "<!here> @channel: ask ann@example.org"
    assert without_mentions("ann@example.org, 1 < 2") == "ann@example.org, 1 < 2"


PAGE = "https://reports.example/changes/CHG0001.html"


def test_a_message_has_the_address_of_a_page_on_a_line_of_its_own_or_where_its_template_places_it() -> None:
    assert Communication().message("hold", {"title": "new", "sentence": "why", "page": PAGE}) == f"new: why\n{PAGE}"
    assert (
        Communication(templates={"hold": "$page says $sentence"}).message("hold", {"sentence": "why", "page": PAGE}) == f"{PAGE} says why"
    )
    assert Communication().message("hold", {"sentence": "x" * 9000, "page": PAGE}).endswith(f"…\n{PAGE}")


def test_quiet_hours_belong_to_a_channel(write: Write) -> None:
    found = load_policy(write("policy", communication={"channels": {"chat": {**CHANNELS["chat"], "quiet": NIGHT}}})).communication
    assert found.channels == {"chat": Channel(environment="CHAT_URL", quiet=QuietHours(time(20), time(7), "Europe/Berlin"))}


def test_stakeholders_are_not_told_of_every_wave_and_duty() -> None:
    both = Communication(channels={"chat": Channel("A"), "desk": Channel("B")}, tell={"wave": ("chat",)})
    assert both.listeners("wave", ["desk"]) == ("chat",)
    assert both.listeners("duty_due", ["desk"]) == ()
    assert both.listeners("held_since", ["desk"]) == ("desk",)
