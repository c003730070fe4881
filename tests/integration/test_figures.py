# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook figures, on both databases, and what a real Prometheus makes of its file."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import forked
import past
import pytest
import sqlalchemy as sa
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.audits import save_audit
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from answering import Answering, serve_http
from monitoring import PROGRAM
from waiting import wait_until

HOSTILE = 'a"b\\c\nd{team="x"} 7\n# EOF'


@pytest.fixture
def cmdb_with_past(cmdb_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Six deployments of the last days, one of them backed out; nobody looks after half of the hosts but somebody of an odd name."""
    monkeypatch.setattr(past, "START", datetime.now(UTC) - timedelta(hours=60))
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        cmdb.put_cis([{"name": name} for name in past.HOSTS], "test")
        save_audit(cmdb, 6, 6, [{"host": "web1", "release": "shop", "kind": "missing"}], "ann", datetime.now(UTC))
        with cmdb.begin() as connection:
            connection.execute(schema().ci.update().where(schema().ci.c.name < "web3").values(support_group=HOSTILE))
            for number in range(1, 7):
                past.history(connection, number, "backed_out" if number == 3 else "completed")
            installed = {"version": "1.0", "digest": "d", "release": "own"}
            cmdb.record_installations(connection, [{"ci": "web5", **installed}], "ann", datetime.now(UTC))
            connection.execute(sa.update(schema().change).where(schema().change.c.number == "CHG0000002").values(type="emergency"))
    return cmdb_url


def play(cmdb: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "TIDEGATE_CMDB": cmdb}
    command = ["ansible-playbook", "tidegate.release.figures", "-i", "localhost,", *options]
    return forked.run(command, {**os.environ, **environment}, timeout=120)


def test_the_terminal_and_the_data_say_the_same(cmdb_with_past: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    done = play(cmdb_with_past, "-e", f"tidegate_figures_file={path}", "-e", "tidegate_figures_months=3")
    assert done.returncode == 0, done.stdout
    assert "Backed out                        17 %            of 6" in done.stdout
    assert "Drift found                       1" in done.stdout
    data = json.loads(path.read_text())
    assert data["all"]["backed_out"]["value"] == pytest.approx(1 / 6)
    assert data["all"]["deployment_rework_rate"]["value"] == pytest.approx(1 / 6)
    # The lines of the past that this test enters have no deployment, and none a release.
    assert data["releases"]["own"]["without_rfc"]["value"] == 1
    assert data["teams"][HOSTILE]["deployment_frequency"]["events"] == 6
    assert len(data["months"]) == 3
    again = play(cmdb_with_past, "-e", f"tidegate_figures_file={path}", "-e", "tidegate_figures_months=3")
    assert "changed=0" in again.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tidegate_figures_months": 0}, "months is 0; give a number from 1 to 120"),
        ({"tidegate_figures_file": "/nowhere/figures.csv"}, "let it end with .html, .json, .prom"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(cmdb_with_past: str, options: dict[str, Any], says: str) -> None:
    done = play(cmdb_with_past, "-e", json.dumps(options))
    assert done.returncode != 0
    assert says in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout


@pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus (apt install prometheus)")
@pytest.mark.parametrize("kind", ["application/openmetrics-text; version=1.0.0; charset=utf-8", "text/plain; version=0.0.4"])
def test_prometheus_has_each_number_under_the_name_it_is_of(cmdb_with_past: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.prom"
    done = play(cmdb_with_past, "-e", f"tidegate_figures_file={path}")
    assert done.returncode == 0, done.stdout
    if promtool := shutil.which("promtool"):
        checked = subprocess.run([promtool, "check", "metrics"], input=path.read_bytes(), capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr

    class Exporter(Answering):
        def do_GET(self) -> None:
            self.say(200, path.read_bytes(), **{"Content-Type": kind})

    with serve_http(Exporter) as port, running(tmp_path, port) as address:
        wait_until(lambda: ask(address, "up == 1"))
        found = {json.dumps(one["metric"], sort_keys=True): one["value"][1] for one in ask(address, '{__name__=~"tidegate_.*"}')}
        samples = sum(not line.startswith("#") for line in path.read_text().splitlines())
        assert len(found) == samples
        (team,) = ask(address, 'tidegate_backed_out_ratio{team!=""}')
        assert (team["metric"]["team"], float(team["value"][1])) == (HOSTILE, pytest.approx(1 / 6))
        (whole,) = ask(address, 'tidegate_figure_events{figure="successful",team="",release="",month=""}')
        assert whole["value"][1] == "6"


@contextlib.contextmanager
def running(tmp_path: Path, port: int) -> Iterator[str]:
    """A Prometheus that reads from a port; yields where it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = free.getsockname()[1]
    job: dict[str, Any] = {"job_name": "figures", "scrape_interval": "1s", "scrape_timeout": "1s"}
    job |= {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    command = [str(PROGRAM), *options, f"--web.listen-address=127.0.0.1:{own}", "--log.level=error"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield f"127.0.0.1:{own}"
        finally:
            process.kill()


def ask(address: str, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers; nothing while it does not."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", f"/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        return list(json.loads(connection.getresponse().read())["data"]["result"])
    except (OSError, http.client.HTTPException, ValueError):
        return []
    finally:
        connection.close()
