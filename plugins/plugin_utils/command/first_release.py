# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that ``tidegate init`` writes: which there are for a kind of release, and what is in each, out of ``templates``.

A template is called as its file is, with ``.j2`` at its end; ``NAME`` and ``ROLE`` stand for the release's. Files without a shebang are not
executable. What is Jinja's in them is written ``@{ … }@`` and ``%% …``, for roles and units have the usual signs themselves.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from ...module_utils.lab.hosts import CONNECTING
from ..errors import TidegateError

with contextlib.suppress(ImportError):
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"
_SCHEMAS = Path(__file__).parents[1] / "schemas"
_LONGEST = 30  # letters of the release's name
_NAME = re.compile(rf"(?=.{{2,{_LONGEST}}}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*")  # of a release, a user, a unit and a package of Debian alike
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_ADDRESS = re.compile(r"[A-Za-z0-9:]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?")
_OPEN = timedelta(days=7)  # how long the window of the first change is


class Kind(NamedTuple):
    """A kind of release: what it is, the folders of templates it has besides ``project``, and what it can't do without."""

    summary: str
    folders: tuple[str, ...]
    payload: bool
    port: bool
    needs: str
    lab: str  # whose hosts of tidegate lab have that: anybody's, root's, or nobody's


KINDS: Mapping[str, Kind] = {
    "process": Kind("Answers over HTTP", ("service", "process"), True, True, "Python 3.9 on each host", "anybody"),
    "systemd": Kind("Answers over HTTP", ("service", "systemd"), True, True, "systemd on each host", "nobody"),
    "role": Kind("Writes a configuration file", ("role",), False, False, "Python 3.9 on each host", "root"),
    "deb": Kind("Says which version it is", ("deb",), True, False, "dpkg on each host", "root"),
    "container": Kind("Runs an image", ("container",), False, False, "Podman on each host, and an image in a registry", "nobody"),
}
"""By what ``--kind`` takes; the first is what it is where nobody says."""


@dataclass(frozen=True)
class FirstRelease:
    """What the files are about; raises :class:`TidegateError` for what can't be."""

    kind: str
    name: str
    hosts: Mapping[str, str]  # by name, the address, empty where the name is enough
    person: str
    now: datetime

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise TidegateError(
                f"{self.name!r:.60} can't be the release's name; say another with --name: 2 to 30 lower case letters and digits, "
                "in words joined by -, beginning with a letter"
            )
        wrong = [host for host, address in self.hosts.items() if not (_HOST.fullmatch(host) and _ADDRESS.fullmatch(address or "x"))]
        if wrong or not self.hosts:
            listed = ", ".join(f"{'='.join(filter(None, (host, self.hosts[host])))!r:.60}" for host in wrong) or "none"
            raise TidegateError(f"the hosts can't be {listed}; write --hosts web1,web2, or web1=192.0.2.11 for one with an address")

    def files(self, public: str) -> Iterator[tuple[str, str]]:
        """Each file, as its path in the project and its text; ``public`` is the public key of the person, in PEM."""
        about = KINDS[self.kind]
        role = self.name.replace("-", "_")
        start = self.now.replace(second=0, microsecond=0)
        said = {
            **{key: getattr(self, key) for key in ("kind", "name", "hosts", "person")},
            **{"about": about, "port": about.port, "public": public, "role": role, "schemas": _SCHEMAS},
            "connection_variables": CONNECTING,
            "start": start.isoformat(),
            "end": (start + _OPEN).isoformat(),
        }
        environment = _environment()
        for folder in ("project", *about.folders):
            for path in sorted((_TEMPLATES / folder).rglob("*.j2")):
                place = path.relative_to(_TEMPLATES / folder).as_posix().removesuffix(".j2")
                target = "." + place if place == "gitignore" else place.replace("NAME", self.name).replace("ROLE", role)
                yield target, environment.get_template(path.relative_to(_TEMPLATES).as_posix()).render(said)


def nearest_name(text: str) -> str:
    """A name that a release can have, as near to ``text`` as can be, such as ``my-shop`` for ``My_Shop``."""
    words = re.findall("[a-z0-9]+", text.lower())
    name = "-".join(words).lstrip("-0123456789")[:_LONGEST].rstrip("-")
    return name if _NAME.fullmatch(name) else "service"


def parse_hosts(text: str) -> dict[str, str]:
    """The hosts of ``web1,web2=192.0.2.12``, each with its address, empty where none is said."""
    pairs = [one.strip().partition("=") for one in text.split(",") if one.strip()]
    return {host: address for host, _sign, address in pairs}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(  # noqa: S701 - what is made is no page
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        variable_start_string="@{",
        variable_end_string="}@",
        block_start_string="@%",
        block_end_string="%@",
        comment_start_string="@#",
        comment_end_string="#@",
        line_statement_prefix="%%",
    )
    environment.filters["yaml"] = lambda text: json.dumps(text, ensure_ascii=False)  # a text of JSON is one of YAML
    return environment
