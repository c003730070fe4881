# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A newcomer follows the README and the page that goes on from there: every command is run here, as it stands there, from an empty home."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "step-by-step.md").read_text()
EXAMPLE_ADDRESS = "192.0.2.11"
# By hand: the RFC of the example, with the digest that archive has printed and a window that is open.
RAISE = r"""
digest=$(grep -o 'sha256:[0-9a-f]\{64\}' archived.log | tail -1)
sed -e "s/sha256:0\{64\}/$digest/" -e "s/^start_date: .*/start_date: $START/" -e "s/^end_date: .*/end_date: $END/" \
  -e "s/decided_at: .*/decided_at: $START/" examples/rfc.yml > rfc.yml
"""


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_only_other_commands_are_run_by_the_demo_and_by_whoever_runs_this() -> None:
    assert blocks("console", README) == ["make demo\n", "make test\n", blocks("console", GUIDE)[0]]
    assert len(README.splitlines()) <= 120


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home; not below tmp_path, because ssh puts a socket there, whose path has to be short."""
    with tempfile.TemporaryDirectory(prefix="tg-") as path:
        yield Path(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")
def test_a_newcomer_gets_a_first_release_live(fleet: Fleet, tmp_path: Path, home: Path) -> None:
    host = fleet.hostvars()["web1"]
    address = str(host["ansible_host"])
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".venv", "build", ".git", ".tox", ".*_cache"))
    (checkout / "cmdb.yml").write_text(next(block for block in blocks("yaml", GUIDE) if block.startswith("# cmdb.yml")))
    install, enter, archive, deploy, look = (block.replace(EXAMPLE_ADDRESS, address) for block in blocks("console", GUIDE))
    script = f"set -euo pipefail\n{install}\n{enter}\n{archive.strip()} | tee archived.log\n{RAISE}\n{deploy}\n{look}"
    now = datetime.now(UTC).replace(microsecond=0)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "TIDEGATE_", "VIRTUAL_ENV", "PYTHON"))},
        "HOME": str(home),
        "PATH": os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != str(Path(sys.executable).parent)),
        # What a user has in ssh's configuration or in ansible.cfg.
        "ANSIBLE_REMOTE_PORT": str(host["ansible_port"]),
        "ANSIBLE_REMOTE_USER": str(host["ansible_user"]),
        "ANSIBLE_PRIVATE_KEY_FILE": str(host["ansible_ssh_private_key_file"]),
        "ANSIBLE_SSH_COMMON_ARGS": str(host["ansible_ssh_common_args"]),
        "START": (now - timedelta(minutes=5)).isoformat(),
        "END": (now + timedelta(hours=1)).isoformat(),
    }
    settings = Path("~/.config/pip/pip.conf").expanduser()
    if settings.is_file():
        environment.setdefault("PIP_CONFIG_FILE", str(settings))
    done = subprocess.run(
        ["bash", "-c", script], cwd=checkout, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "hello 1.0 is live on 1 host" in done.stdout
    connection = http.client.HTTPConnection(address, 8080, timeout=5)
    connection.request("GET", "/health")
    assert connection.getresponse().read() == b"hello 1.0\n"
