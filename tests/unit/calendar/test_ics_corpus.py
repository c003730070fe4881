# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calendars of every kind are read as two other readers do, or otherwise for a reason, or refused in a way that says what to do.

Beside each file of the corpus is a record: what it is about, from when on and for how many days it is read, the zone of days and of times
without one, and what the readers found, which ``tools/calendar_readers`` asks. ``freezes`` and ``windows`` are there where ours differs
from one of them, and ``differs`` says why.
"""

from __future__ import annotations

import json
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.ics import read_events
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError

CORPUS = Path(__file__).parent / "corpus"
NAMES = sorted(path.stem for path in CORPUS.glob("*.ics"))


def record_of(name: str) -> Any:
    return json.loads((CORPUS / f"{name}.json").read_text())


def written(name: str, case: Any, path: Path) -> Path:
    """The file as its program wrote it; in the repository it is plain, but for what its record says under ``written``."""
    how, target = case.get("written"), path / f"{name}.ics"
    content = (CORPUS / target.name).read_bytes()
    if how:
        text = content.decode().replace("\n", how.get("newline", "\n"))
        content = (b"\xef\xbb\xbf" if how.get("mark") else b"") + text.encode(how.get("encoding", "utf-8"))
        for letter in filter(None, (how.get("cut", "").encode(),)):  # a line that ends inside of it
            content = content.replace(letter, letter[:1] + b"\n " + letter[1:])
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("kind", ["freezes", "windows"])
@pytest.mark.parametrize("name", NAMES)
def test_a_calendar_is_read_as_others_read_it_or_as_its_record_says(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    case = record_of(name)
    start = datetime.fromisoformat(f"{case['from']}T00:00:00+00:00")
    others = list(case["readers"].values())
    wanted = case.get(kind, others[0])
    path = written(name, case, tmp_path)
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if isinstance(wanted, dict):
            with pytest.raises(TidegateError) as caught:
                read_events(path, start, start + timedelta(days=case["days"]), longer=kind == "freezes", notes=notes)
            message = str(caught.value)
            assert len(message.splitlines()) == 1
            for part in (str(path), wanted["refused"], "Outlook", "Google Calendar", "Exchange"):
                assert part in message
            found = []
        else:
            found = read_events(path, start, start + timedelta(days=case["days"]), longer=kind == "freezes", notes=notes)
            spans = sorted({f"{event.start:%Y-%m-%dT%H:%M:%SZ}/{event.end:%Y-%m-%dT%H:%M:%SZ}" for event in found})
            assert spans == wanted
    assert notes == [f"{name}.ics: {note}" for note in case.get(f"{kind}_notes", [])]
    assert capfd.readouterr() == ("", "")
    assert "differs" in case or all(other == wanted for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_a_freeze_lasts_at_least_as_long_as_the_window_of_the_same_file(tmp_path: Path, name: str) -> None:
    case = record_of(name)
    start = datetime.fromisoformat(f"{case['from']}T00:00:00+00:00")
    path = written(name, case, tmp_path)
    try:
        windows, freezes = (read_events(path, start, start + timedelta(days=case["days"]), longer) for longer in (False, True))
    except TidegateError:
        return
    for window in windows:
        assert any(freeze.start <= window.start and window.end <= freeze.end for freeze in freezes), window


def test_the_corpus_is_large_and_each_file_has_its_record() -> None:
    assert len(NAMES) >= 60
    assert sorted(path.stem for path in CORPUS.glob("*.json")) == NAMES
    for name in NAMES:
        case = record_of(name)
        assert case["about"]
        assert len(case["readers"]) >= 2
        differs = {kind for kind in ("freezes", "windows") if kind in case}
        assert bool(differs) == ("differs" in case), name


@pytest.mark.parametrize(
    ("name", "releases", "sites"),
    [
        ("holiday_google", set(), set()),
        ("holiday_outlook_categories", {"Holidays"}, {"Germany"}),
        ("holiday_many_categories", {"Feiertage", "gesetzlich", "Rote Kategorie, dringend"}, set()),
        ("bytes_latin1", {"\u00dcbernahme"}, set()),
    ],
)
def test_categories_and_places_are_read_however_they_are_written(tmp_path: Path, name: str, releases: set[str], sites: set[str]) -> None:
    case = record_of(name)
    start = datetime.fromisoformat(f"{case['from']}T00:00:00+00:00")
    (event,) = read_events(written(name, case, tmp_path), start, start + timedelta(days=case["days"]), longer=True)
    assert (event.releases, event.sites) == (releases, sites)


@pytest.mark.parametrize(("name", "summary"), [("folded_in_letter", "Z\u00fcrich"), ("bytes_latin1", "Jahresabschlu\u00df Z\u00fcrich")])
def test_letters_are_read_however_a_file_is_encoded_and_folded(tmp_path: Path, name: str, summary: str) -> None:
    case = record_of(name)
    start = datetime.fromisoformat(f"{case['from']}T00:00:00+00:00")
    (event,) = read_events(written(name, case, tmp_path), start, start + timedelta(days=case["days"]), longer=True)
    assert event.summary == summary
