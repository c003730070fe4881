# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages in docs/guides do what they say: every file in them is written, and every command is run, as it stands there.

A block of code after a paragraph that begins with a path in backquotes is that file. A block ``console`` is run; it has to end well, or
with an error when it is marked ``fails``. Each line of a block ``text`` has to be in what the commands above it have printed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from documents import example_rfc, write_document
from fleet import Fleet
from systemd_host import boot, sweep

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
_BLOCK = re.compile(r"^(?P<before>[^\n]*)\n\n?```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w./-]+)`")
OLD_BOARD = """
mkdir -p /srv/board && echo 'board of old' >/srv/board/index.html
cat >/etc/systemd/system/board.service <<END
[Service]
ExecStart=/usr/bin/python3 -B -m http.server --directory /srv/board --bind {address} 8094
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload && systemctl enable --quiet --now board.service
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts on which systemd runs; ``web1`` and ``web2``."""
    fleet = Fleet(tmp_path_factory.mktemp("guides"), count=2)
    groups = []
    try:
        fleet.up()
        groups = [boot(fleet, host) for host in fleet.hosts]
        yield fleet
    finally:
        fleet.down()
        for group in groups:
            sweep(group)


class Reader:
    """Somebody who follows a page in a directory of theirs, after the first steps of the README."""

    def __init__(self, fleet: Fleet, folder: Path, number: str) -> None:
        self.folder = folder
        self.number = number
        self.raised = 0
        self.printed = ""
        self.environment = {**fleet.environment, "ANSIBLE_LOCALHOST_WARNING": "false", "TIDEGATE_POLICY": str(fleet.path / "policy.yml")}
        (folder / "cmdb.yml").write_text((fleet.path / "cmdb.yml").read_text())

    def follow(self, page: str) -> None:
        for block in _BLOCK.finditer(page):
            language, mark = (*block["info"].split(" "), "")[:2]
            named = _FILE.match(block["before"])
            if language == "console":
                self.run(block["code"], fails=mark == "fails")
            elif language == "text":
                missing = [line for line in block["code"].splitlines() if line not in self.printed]
                assert not missing, f"{missing} is not in:\n{self.printed}"
            else:
                assert named, f"the page does not say what the file of this block is:\n{block[0]}"
                (self.folder / named[1]).write_text(block["code"])

    def run(self, commands: str, *, fails: bool) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = done.stdout
        assert (done.returncode != 0) == fails, f"{commands}\nended with {done.returncode}:\n{done.stdout}"
        if "tidegate.release.archive" in commands:
            self.raise_rfc()

    def raise_rfc(self) -> None:
        """What every page asks its reader to do by hand: the RFC of the README, for what was just archived."""
        self.raised += 1
        found = re.search(r"(\w+) ([\d.]+)[^\n]*?(sha256:[0-9a-f]{64})", self.printed)
        assert found, self.printed
        name, version, digest = found.groups()
        said = {"number": f"{self.number}{self.raised}", "release": {"name": name, "version": version, "digest": digest}}
        write_document(self.folder / "rfc.yml", example_rfc(digest, scope="[?class=='server']", objectives=[], **said))


def nothing(fleet: Fleet) -> None:
    pass


def install_board(fleet: Fleet) -> None:
    """The service that somebody installed by hand, as the page has it."""
    for host, variables in fleet.hostvars().items():
        fleet.run_on(host, OLD_BOARD.format(address=variables["ansible_host"]))


def token_is_nowhere(fleet: Fleet, folder: Path) -> None:
    found = [
        path
        for place in (fleet.path, folder)
        for path in place.rglob("*")
        if path.is_file() and not path.is_symlink() and b"open sesame" in path.read_bytes()
    ]
    assert not found


def haproxy_is_tried_by_molecule(fleet: Fleet, folder: Path) -> None:
    """What the page says of HAProxy is what the scenario ``drain`` runs under load."""
    tried, shown = GUIDES.parents[1] / "molecule" / "drain" / "role", folder / "app" / "ansible" / "haproxy"
    for name in ("defaults/main.yml", "tasks/drain.yml", "tasks/restore.yml"):
        assert yaml.safe_load((tried / name).read_text()) == yaml.safe_load((shown / name).read_text())


BEFORE: dict[str, Callable[[Fleet], None]] = {"running-service": install_board}
AFTER: dict[str, Callable[[Fleet, Path], None]] = {"secrets": token_is_nowhere, "load-balancer": haproxy_is_tried_by_molecule}


def test_there_are_pages() -> None:
    assert {path.stem for path in GUIDES.glob("*.md")} >= {
        "systemd",
        "secrets",
        "configuration",
        "running-service",
        "own-role",
        "packages",
        *BEFORE,
        *AFTER,
    }


@pytest.mark.parametrize("page", sorted(path.stem for path in GUIDES.glob("*.md")))
def test_a_page_does_what_it_says(page: str, fleet: Fleet, tmp_path: Path) -> None:
    BEFORE.get(page, nothing)(fleet)
    reader = Reader(fleet, tmp_path, f"CHG{sum(page.encode()):06d}")
    reader.follow((GUIDES / f"{page}.md").read_text())
    assert reader.raised, "every page archives something"
    if page in AFTER:
        AFTER[page](fleet, tmp_path)
