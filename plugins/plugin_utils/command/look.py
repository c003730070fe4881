# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command only looks at: documents, the library, and the CMDB with its journal. No Ansible is needed, and nothing is changed,
but that ``hold`` writes its request."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import libs
from ..clearance.policy import load_policy
from ..clock import utc_now
from ..cmdb.store import Cmdb
from ..documents import parse_time
from ..dsl.package import load_package, read_release
from ..dsl.repository import open_library
from ..errors import NotFoundError, TidegateError
from ..report.model import build_report
from ..report.progress import counted
from ..rfc.source import load_rfc, rfc_number
from ..rollout.history import PastOf, history_lines, journal_lines
from ..rollout.journal import Journal
from ..settings import library_needs, required_setting
from ..steps.person import this_user
from . import compare, words

_EVERY = 2  # seconds between two looks of --watch
_HOMES = {
    "cmdb": "the CMDB, the path of an SQLite file or a database URL",
    "dsl": "the definitive software library",
    "rfc": "the request for change",
    "policy": "the release policy",
}


def _add_home(parser: argparse.ArgumentParser, name: str) -> None:
    variable = f"TIDEGATE_{name.upper()}"
    parser.add_argument(f"--{name}", default=os.environ.get(variable), metavar="VALUE", help=f"{_HOMES[name]}; else that of {variable}")


def _home(given: argparse.Namespace, name: str) -> str:
    """A home that was given; raises :class:`TidegateError` when none was, or a library that it needs is missing."""
    address = getattr(given, name)
    if not address:
        raise TidegateError(f"no {name.upper()} is given; set --{name} or the environment variable TIDEGATE_{name.upper()}")
    libs.require("base", *library_needs({name: address}))
    return required_setting({name: address}, name)


def add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="a release's directory, an rfc.yml or a policy.yml; else those that are here"
    )
    _add_home(parser, "cmdb")


def check(given: argparse.Namespace) -> int:
    """Look at documents, and at the CMDB when one is given; 0 when nothing is wrong with any."""
    libs.require("base")
    paths = [Path(path) for path in given.paths] or _here()
    if not paths and not given.cmdb:
        raise TidegateError("there is no release.yml, rfc.yml or policy.yml here; name a file or a release's directory")
    faults = 0
    for path in paths:
        try:
            print(f"{path}: {_checked(path)}")
        except TidegateError as error:
            faults += 1
            print(words.indented(str(path), str(error)), file=sys.stderr)
    if given.cmdb:
        with Cmdb.open(_home(given, "cmdb")) as cmdb:
            print(f"CMDB: {counted(len(cmdb.cis()), 'CI')}")
    return 1 if faults else 0


def _here() -> list[Path]:
    found = [Path(name) for name in ("rfc.yml", "policy.yml") if Path(name).is_file()]
    releases = sorted(path.parent for path in (*Path().glob("release.yml"), *Path().glob("*/release.yml")))
    return [*releases, *found]


def _checked(path: Path) -> str:
    """What a document is, in a few words; raises :class:`TidegateError` with all that is wrong with it."""
    if path.is_dir() or path.name == "release.yml":
        source = read_release(path if path.is_dir() else path.parent)
        return f"release {source.manifest.name} {source.manifest.version}, {counted(len(source.entries), 'file')}"
    kind = words.kind_of(path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "")
    if kind == "policy":
        policy = load_policy(path)
        return f"policy, {counted(len(policy.people), 'person')}"
    rfc = load_rfc(path)
    return f"RFC {rfc.number}, {rfc.release} {rfc.version}"


def add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("one", metavar="NAME:VERSION", help="a release in the library")
    parser.add_argument("other", metavar="VERSION", help="another version of it, or NAME:VERSION")
    _add_home(parser, "dsl")


def diff(given: argparse.Namespace) -> int:
    """Print how two packages differ; 0 when they do not, 1 when they do."""
    library = open_library(_home(given, "dsl"))
    name, separator, version = given.one.rpartition(":")
    if not separator:
        raise TidegateError(f"{given.one!r:.60} names no version; write NAME:VERSION, such as hello:1.0")
    named = given.other if ":" in given.other else f"{name}:{given.other}"
    packages = []
    for label in (f"{name}:{version}", named):
        release, _colon, number = label.rpartition(":")
        home = library.repository(release)
        digest = home.resolve(release, number)
        if digest is None:
            known = ", ".join(home.versions(release)) or "no version of it"
            raise NotFoundError(f"{release} {number} is not in the library, which has {known}")
        packages.append(load_package(home, digest))
    lines = list(compare.differences(*packages))
    print("\n".join(lines) if lines else f"{given.one} and {named} are the same")
    return 1 if lines else 0


def add_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("about", nargs="+", metavar="NAME", help="hosts and other CIs, or the number of an RFC")
    parser.add_argument("--since", help="not before this time, such as 2027-03-01T20:00:00Z")
    parser.add_argument("--archived", action="store_true", help="also what is in archive files")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    _add_home(parser, "cmdb")


def history(given: argparse.Namespace) -> int:
    """Print the lines of the CMDB's history and of the journal about CIs or RFCs, in the order of time."""
    since = None
    if given.since:
        try:
            since = parse_time(given.since)
        except ValueError as error:
            raise TidegateError(f"--since is {given.since!r:.60}, {error}; write it as 2027-03-01T20:00:00Z") from error
    lines: list[dict[str, Any]] = []
    with Cmdb.open(_home(given, "cmdb")) as cmdb, cmdb.read() as connection:
        for name in dict.fromkeys(given.about):
            of_rfc = journal_lines(connection, PastOf(rfc=name, since=since), given.archived)
            asked = PastOf([name], since=since)
            found = of_rfc or [*history_lines(connection, asked), *journal_lines(connection, asked, given.archived)]
            if not found:
                raise NotFoundError(f"nothing is known of {name!r:.60}; it is neither a CI with a history nor an RFC with a deployment")
            lines += found
    for line in sorted(lines, key=lambda line: str(line["at"])):
        print(json.dumps(line, ensure_ascii=False) if given.json else words.past(line))
    return 0


def add_hold(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rfc", nargs="?", default=os.environ.get("TIDEGATE_RFC"), metavar="RFC", help=f"{_HOMES['rfc']}, or its number")
    parser.add_argument("--reason", required=True, help="why, as a sentence goes on with it")
    _add_home(parser, "cmdb")


def hold(given: argparse.Namespace) -> int:
    """Ask that a deployment that is under way holds at its next gate."""
    number = _number(given.rfc)
    with Cmdb.open(_home(given, "cmdb")) as cmdb:
        label = Journal(cmdb).ask_hold(number, given.reason, this_user(), utc_now())
    print(f"{label} holds at its next gate; tidegate resume goes on with it")
    return 0


def _number(rfc: str | None) -> str:
    if not rfc:
        raise TidegateError("no RFC is given; name its file or its number")
    return rfc_number(rfc) if Path(rfc).is_file() or "://" in rfc else rfc


def add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rfc", nargs="?", metavar="RFC", help="the deployment of this RFC, a file or a number, with its waves; else all")
    parser.add_argument("--watch", action="store_true", help="until it is over, say what changes")
    parser.add_argument("--json", action="store_true", help="all of it as JSON, as report.json has it")
    _add_home(parser, "cmdb")


def status(given: argparse.Namespace) -> int:
    """Print where deployments are; 0 unless the one that was asked for failed, or waits for a person."""
    asked = [_number(given.rfc)] if given.rfc else []
    address = _home(given, "cmdb")
    shown = ""
    for report in _reports(address, asked, given.watch):
        if given.json:
            print(json.dumps({"overview": report.overview, "deployments": report.deployments}, ensure_ascii=False))
            return 0
        text = "\n".join(words.standing(report, asked[0] if asked else None))
        if text != shown:
            print(words.redrawn(text, shown) if sys.stdout.isatty() else text, flush=True)
            shown = text
        if not given.watch or not words.goes_on(report, asked[0] if asked else None):
            return words.outcome(report, asked[0]) if asked else 0
    return 0


def _reports(address: str, asked: list[str], watch: bool) -> Iterator[Any]:
    while True:
        with Cmdb.open(address) as cmdb:
            yield build_report(cmdb, utc_now(), asked)
        if not watch:
            return
        time.sleep(_EVERY)


LOOKS: Mapping[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]] = {
    "check": (add_check, check),
    "diff": (add_diff, diff),
    "history": (add_history, history),
    "hold": (add_hold, hold),
    "status": (add_status, status),
}
"""By name, what adds its options to a parser, and what does it and returns the exit status."""
