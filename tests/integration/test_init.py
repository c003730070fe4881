# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From nothing to own software live: ``tidegate init``, and the page docs/guides/first-release.md as it stands.

A block ``console`` of the page is run, and has to fail when it is marked so; a block ``diff`` is done to the file that is named before it,
with ``DIGEST`` for what the last ``archive`` printed; each line of a block ``text`` has to be in what was printed before it.
"""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import Lab
from fleet import FIRST, Fleet
from systemd_host import systemd_fleet

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "first-release.md").read_text()
_BLOCK = re.compile(r"^(?P<before>[^\n]*)\n\n?```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
_ANSIBLE = re.compile(r"PLAY|TASK|RECAP|ok=|\[WARNING|\[DEPRECATION|Traceback")
# Podman does not run on lab hosts. This one has the images that a file lists, and what it starts is no container.
PODMAN = """
cat >/usr/local/bin/podman <<'END'
#!/bin/sh
set -eu
for last; do :; done
case $1 in
pull) grep -qxF "$last" /var/lib/images ;;
run)
  echo "$last" >/var/lib/running
  port=$(echo "$*" | sed 's/.*--publish \\([0-9]*\\):80 .*/\\1/')
  setsid python3 -m http.server --directory /var/empty --bind ADDRESS "$port" </dev/null >/dev/null 2>&1 & ;;
inspect) cat /var/lib/running ;;
esac
END
chmod +x /usr/local/bin/podman
mkdir -p /var/empty
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")


class Newcomer:
    """Somebody with an empty home and an empty directory."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.printed = self.digest = ""
        self.commands: list[str] = []
        self.edits: list[str] = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "TIDEGATE_", "PYTHON"))}
        self.environment = {**kept, "HOME": str(home), "ANSIBLE_NOCOLOR": "1"}

    def run(self, commands: str, *, fails: bool = False) -> str:
        self.commands += [line for line in commands.splitlines() if line.startswith("tidegate")]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        self.printed = done.stdout
        assert (done.returncode != 0) == fails, f"{commands}\nended with {done.returncode}:\n{done.stdout}"
        assert not _ANSIBLE.search(done.stdout), done.stdout
        if found := re.findall(r" is (sha256:[0-9a-f]{64})$", done.stdout, re.MULTILINE):
            self.digest = found[-1]
        return self.printed

    def edit(self, path: str, old: str, new: str) -> None:
        """Change one line; where the old one has ``DIGEST`` it is whichever digest is there."""
        text = (self.folder / path).read_text()
        wanted = re.escape(old).replace("DIGEST", r"sha256:[0-9a-f]{64}")
        changed, count = re.subn(rf"(?m)^{wanted}(?=$| +#)", lambda _match: new.replace("DIGEST", self.digest), text)
        assert count == 1, f"{old!r} is {count} times in {path}:\n{text}"
        (self.folder / path).write_text(changed)
        self.edits.append(new)

    def hurry(self) -> None:
        """Nothing is waited for after activation: that is other tests' business."""
        path = self.folder / "policy.yml"
        path.write_text(path.read_text().replace("stable: 10 ", "stable: 0 "))


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    folder = tmp_path / "empty"
    folder.mkdir()
    with TemporaryDirectory(prefix="tg-") as home:  # of a short name, for ssh makes sockets in it
        yield Newcomer(folder, Path(home))


def said_by(address: str, port: int = 8080) -> str:
    with urllib.request.urlopen(f"http://{address}:{port}/", timeout=5) as answer:
        return str(answer.read().decode()).strip()


def test_the_page_leads_from_nothing_to_own_software_that_is_live_and_on(newcomer: Newcomer) -> None:
    first = FIRST + 5
    addresses = [f"127.0.1.{first + number}" for number in range(4)]
    live = []
    try:
        for block in _BLOCK.finditer(PAGE):
            language, mark = (*block["info"].split(" "), "")[:2]
            if language == "console":
                # So that other labs can be up on this machine.
                newcomer.run(block["code"].replace("--lab-path", f"--lab-first {first} --lab-path"), fails=mark == "fails")
                if "tidegate init" in block["code"]:
                    newcomer.hurry()
                if "deploy" in block["code"]:
                    live.append({said_by(address) for address in addresses})
                    if len(live) == 1:
                        assert len(newcomer.commands) <= 6
                        assert len(newcomer.edits) <= 3
            elif language == "text":
                missing = [line for line in block["code"].splitlines() if line not in newcomer.printed]
                assert not missing, f"{missing} is not in:\n{newcomer.printed}"
            else:
                assert language == "diff", block[0]
                lines = block["code"].splitlines()
                for old, new in zip(lines[::2], lines[1::2], strict=True):
                    assert (old[0], new[0]) == ("-", "+")
                    newcomer.edit(block["before"].strip("`:"), old[1:], new[1:])
    finally:
        Lab(str(newcomer.folder / "lab")).down()
    assert live == [{"shop 0.1.0"}, {"shop 0.2.0"}, {"shop 0.2.0"}]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with systemd_fleet(tmp_path_factory.mktemp("init")) as fleet:
        yield fleet


def begin_container(fleet: Fleet, newcomer: Newcomer) -> None:
    """Hosts with a stand-in for Podman that has the images of the first two versions."""
    images = "\n".join(image(version) for version in ("0.1.0", "0.2.0"))
    for host, variables in fleet.hostvars().items():
        fleet.run_on(host, PODMAN.replace("ADDRESS", str(variables["ansible_host"])) + f"echo '{images}' >/var/lib/images\n")
    defaults = "release/ansible/my_container/defaults/main.yml"
    newcomer.edit(defaults, "my_container_port: 8080", "my_container_port: 8099")
    newcomer.edit(defaults, f"my_container_image: {image('none')}", f"my_container_image: {image('0.1.0')}")


def image(version: str) -> str:
    digest = version.replace(".", "") if version != "none" else ""
    return f"registry.example/my-container@sha256:{digest:0<64}"


def change_role(newcomer: Newcomer, version: str) -> None:
    if version == "0.3.0":
        newcomer.run("sed -i 's/by my-role/by nobody/' release/ansible/my_role/tasks/check.yml")


def change_deb(newcomer: Newcomer, version: str) -> None:
    newcomer.run(f"sed -i 's/^Version: .*/Version: {version}/' release/package/DEBIAN/control")
    if version == "0.3.0":
        newcomer.run("echo exit 1 >> release/package/usr/bin/my-deb")
    # As the README of the release says it.
    (command,) = re.findall(r"(?m)^ {4}(dpkg-deb .*)", (newcomer.folder / "release" / "README.md").read_text())
    newcomer.run(command)


def change_container(newcomer: Newcomer, version: str) -> None:
    before = {"0.2.0": "0.1.0", "0.3.0": "0.2.0"}[version]
    newcomer.edit(
        "release/ansible/my_container/defaults/main.yml", f"my_container_image: {image(before)}", f"my_container_image: {image(version)}"
    )


def change_systemd(newcomer: Newcomer, version: str) -> None:
    if version == "0.3.0":
        newcomer.run("""echo 'raise SystemExit("no battery")' > release/payload/serve.py""")


BEGIN: dict[str, Callable[[Fleet, Newcomer], None]] = {"container": begin_container}
CHANGE: dict[str, Callable[[Newcomer, str], None]] = {
    "systemd": change_systemd,
    "role": change_role,
    "deb": change_deb,
    "container": change_container,
}
RUNS: dict[str, str] = {  # a command that prints what is live, and {version} in it, by kind
    "systemd": "curl --silent http://ADDRESS:8080/ | grep -x 'my-systemd {version}' && systemctl is-enabled my-systemd.service",
    "role": "grep 'by my-role {version}' /etc/my-role.conf",
    "deb": "my-deb | grep -x 'my-deb {version}'",
    "container": "grep -x '{image}' /var/lib/running",
}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", CHANGE)
def test_each_kind_is_deployed_upgraded_and_backed_out(kind: str, fleet: Fleet, newcomer: Newcomer) -> None:
    newcomer.run(f"tidegate init --kind {kind} --name my-{kind} --hosts web1,web2")
    printed = newcomer.printed
    newcomer.hurry()
    newcomer.run("tidegate check")
    newcomer.run("sed -i 's/^# connection_variables/connection_variables/' cmdb.yml")
    newcomer.run(f"tidegate import -i {fleet.path}/lab/inventory.yml")
    BEGIN.get(kind, lambda _fleet, _newcomer: None)(fleet, newcomer)
    steps = [line.strip() for line in printed.splitlines() if line.startswith("  tidegate ")]
    assert steps.pop(0) == "tidegate import -i hosts.yml"
    assert [step.split()[1] for step in steps] == ["archive", "approve", "deploy"]
    before = ""
    for number, version in enumerate(("0.1.0", "0.2.0", "0.3.0"), 1):
        if before:
            CHANGE[kind](newcomer, version)
            newcomer.edit("release/release.yml", f'version: "{before}"', f'version: "{version}"')
            newcomer.edit("rfc.yml", f"number: CHG000000{number - 1}", f"number: CHG000000{number}")
            newcomer.edit("rfc.yml", f'  version: "{before}"', f'  version: "{version}"')
        newcomer.run(steps[0])
        newcomer.edit("rfc.yml", "  digest: DIGEST", "  digest: DIGEST")
        newcomer.run(steps[1])
        newcomer.run(steps[2], fails=version == "0.3.0")
        before = version
        assert ("was backed out of" if version == "0.3.0" else f"{version} is live on 2 of 2 hosts") in newcomer.printed
        lives = min(version, "0.2.0")
        for host, variables in fleet.hostvars().items():
            look = RUNS[kind].format(version=lives, image=image(lives)).replace("ADDRESS", str(variables["ansible_host"]))
            assert fleet.run_on(host, look), host
