# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask two other calendar readers what occurs in each file of the corpus, and record it beside the file.

    npm install --prefix DIRECTORY ical.js
    apt-get install gir1.2-ical-3.0 python3-gi
    .venv/bin/python tools/calendar_readers/renew.py DIRECTORY

The tests read the records and need none of this.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

HERE = Path(__file__).parent
CORPUS = HERE.parents[1] / "tests" / "unit" / "calendar" / "corpus"
EUROPE = {"on": "BYMONTH=3;BYDAY=-1SU", "off": "BYMONTH=10;BYDAY=-1SU", "at": "0329T02", "until": "1025T03"}
AMERICA = {"on": "BYMONTH=3;BYDAY=2SU", "off": "BYMONTH=11;BYDAY=1SU", "at": "0308T02", "until": "1101T02"}
RULES = {
    "Europe/Berlin": {**EUROPE, "winter": "+0100", "summer": "+0200"},
    "America/New_York": {**AMERICA, "winter": "-0500", "summer": "-0400"},
    "Asia/Kolkata": {**EUROPE, "winter": "+0530", "summer": "+0530"},
}
ZONE = """BEGIN:VTIMEZONE
TZID:{name}
BEGIN:STANDARD
DTSTART:1970{until}0000
RRULE:FREQ=YEARLY;{off}
TZOFFSETFROM:{summer}
TZOFFSETTO:{winter}
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:1970{at}0000
RRULE:FREQ=YEARLY;{on}
TZOFFSETFROM:{winter}
TZOFFSETTO:{summer}
END:DAYLIGHT
END:VTIMEZONE
"""
SECONDS = 5  # a reader that takes longer is said to have no end


def ask(command: list[str], given: dict[str, object]) -> list[list[str]] | dict[str, str]:
    """What a reader prints."""
    try:
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"no end within {SECONDS} s"}
    if done.returncode or not done.stdout.strip():
        return {"error": f"ended with {done.returncode}"}
    found: list[list[str]] | dict[str, str] = json.loads(done.stdout)
    return found


def utc(told: str, zone: ZoneInfo) -> datetime:
    """A reader's time; days and times without a zone are the calendar's."""
    moment = datetime.fromisoformat(told)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def record(answer: list[list[str]] | dict[str, str], start: datetime, end: datetime, zone: ZoneInfo) -> list[str] | str:
    """The occurrences between two moments in UTC, in order; the reader's error when it has none."""
    if isinstance(answer, dict):
        return answer["error"]
    spans = sorted({(utc(first, zone), utc(last, zone)) for first, last in answer})
    return [f"{first:%Y-%m-%dT%H:%M:%SZ}/{last:%Y-%m-%dT%H:%M:%SZ}" for first, last in spans if first < end and start < last]


def main(npm: str) -> None:
    """Renew every record."""
    version = json.loads((Path(npm) / "node_modules/ical.js/package.json").read_text())["version"]
    libical = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "libical3"], capture_output=True, text=True, check=True).stdout
    readers = {
        f"ical.js {version}": ["node", str(HERE / "icaljs.mjs"), npm],
        f"libical {libical.partition('-')[0]}": ["/usr/bin/python3", str(HERE / "libical.py")],
    }
    for path in sorted(CORPUS.glob("*.json")):
        case = json.loads(path.read_text())
        start = datetime.fromisoformat(f"{case['from']}T00:00:00+00:00")
        end = start + timedelta(days=case["days"])
        text = path.with_suffix(".ics").read_bytes().decode("utf-8", "replace")
        zone = ZoneInfo(case["zone"])
        # ical.js has no zones of its own; its users give it some.
        zones = [ZONE.format(name=name, **rule) for name, rule in RULES.items() if f"TZID={name}:" in text and f"TZID:{name}" not in text]
        between = {"start": start - timedelta(days=1), "end": end + timedelta(days=1)}
        given = {"text": text, "zones": zones, **{name: f"{moment:%Y-%m-%dT%H:%M:%SZ}" for name, moment in between.items()}}
        case["readers"] = {name: record(ask(command, given), start, end, zone) for name, command in readers.items()}
        path.write_text(json.dumps(case, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
