# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growth laws of what people and hosts read: the report, a deployment with nothing to do, and a host's log."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import html5lib
import sqlalchemy as sa
import yaml
from age import Aged, Effort, cpu_of, effort_of, law
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Course
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import RECORDED

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from aged_cmdb import NOW, Age, build_aged
from bed import Host, package

ROOT = Path(__file__).parents[2]
_CIS = 10_000
_LOG = 1_200_000  # bytes, ten times as many of which are a log of 12 MB


def _make(path: Path, times: int) -> str:
    """A fleet of 10,000; on one host in fifty a release failed, and a later one did not."""
    return _made(path, 200 * times)


def _made(path: Path, deployments: int) -> str:
    url, h = f"{path}.sqlite", schema().deployment_host.c
    build_aged(url, Age(deployments=deployments, cis=_CIS))
    with Cmdb.open(url) as cmdb, cmdb.begin() as connection:
        failed = schema().deployment_host.update().where(h.position % 50 == 7, h.deployment_id <= deployments - 60)
        connection.execute(failed.values(state="failed", detail="health check answers failed with 503\nthe last lines of a log"))
        last = connection.scalar(sa.select(sa.func.max(schema().journal.c.seq)))
        recorded = {"deployment_id": deployments, "at": NOW, "event": RECORDED, "data": {"upto": last, "course": Course().to_dict()}}
        connection.execute(schema().journal.insert(), recorded)
    return url


def _report(aged: Aged) -> Effort:
    """A report that is written for the first time; what comes of it is the bytes and elements of each of its pages, the overview first."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import write_report
    from ansible_collections.tidegate.release.plugins.plugin_utils.report.model import build_report
    from ansible_collections.tidegate.release.plugins.plugin_utils.report.site import with_library, with_site

    policy = load_policy(None)
    url, folder = str(aged.part("fleet", _make)), aged.folder / "report"

    def work() -> list[int]:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        with Cmdb.open(url) as cmdb, cmdb.at_one_moment() as moment:
            made = with_site(build_report(moment, NOW, past=True), moment, policy, NOW)
        write_report(with_library(made, None, policy, NOW), folder, write=True)
        return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]

    def measure(_path: Path, _times: int) -> Effort:
        return effort_of(work)

    effort: Effort = aged.part("report_effort", measure)
    return effort


def _pages(aged: Aged) -> list[Path]:
    _report(aged)
    return sorted((aged.folder / "report").rglob("*.html"))


@law("finished deployments, 10,000 CIs", at_most=1.5)
def report(aged: Aged) -> float:
    return _report(aged).cpu_seconds


@law("finished deployments, 10,000 CIs", at_most=1.5, unit="MB")
def report_memory(aged: Aged) -> float:
    return max(_report(aged).peak_bytes / 1e6, 1)


@law("finished deployments, 10,000 CIs", at_most=1.5, unit="MB")
def report_bytes(aged: Aged) -> float:
    return float(sum(_report(aged).result)) / 1e6


@law("finished deployments, 10,000 CIs; the largest page", limit=500, unit="kB")
def report_page_bytes(aged: Aged) -> float:
    return max(path.stat().st_size for path in _pages(aged)) / 1e3


@law("finished deployments, 10,000 CIs; the largest page", limit=20_000, unit="elements")
def report_page_elements(aged: Aged) -> float:
    largest = sorted(_pages(aged), key=lambda path: path.stat().st_size)[-5:]
    return float(max(sum(1 for _element in html5lib.parse(path.read_bytes()).iter()) for path in largest))


def _deploy_again(aged: Aged) -> tuple[float, int]:
    """CPU seconds and bytes of memory of a deployment with nothing to do, of 5 deployments or of 2,000, with its report."""

    def measure(path: Path, times: int) -> tuple[float, int]:
        url = _made(path, 5 if times == 1 else 2000)
        d = schema().deployment.c
        with Cmdb.open(url) as cmdb, cmdb.read() as connection:
            newest = connection.execute(sa.select(d.rfc, d.release, d.version, d.digest).order_by(d.id.desc()).limit(1)).one()
        rfc: dict[str, Any] = yaml.safe_load((ROOT / "examples/rfc.yml").read_text())
        release = {"name": newest.release, "version": newest.version, "digest": newest.digest}
        (aged.folder / "rfc.yml").write_text(yaml.safe_dump({**rfc, "number": newest.rfc, "release": release, "objectives": []}))
        (aged.folder / "cmdb.yml").write_text(yaml.safe_dump({"plugin": "tidegate.release.cmdb", "cmdb": url}))
        given = {"TIDEGATE_RFC": aged.folder / "rfc.yml", "TIDEGATE_CMDB": url, "TIDEGATE_DSL": aged.folder / "none", "HOME": aged.folder}
        environment = {**os.environ, **{name: str(value) for name, value in given.items()}}
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "tidegate.release.deploy", "-i", str(aged.folder / "cmdb.yml")]
        command += ["-e", f"tidegate_report={aged.folder / 'report_of_deploy'}"]

        def run() -> int:
            subprocess.run(command, env=environment, check=True, capture_output=True)
            return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10

        effort = effort_of(run, tries=2)
        return effort.cpu_seconds, effort.result

    found: tuple[float, int] = aged.part("deploy_again", measure)
    return found


@law("finished deployments, 2,000 after 5; nothing to do", at_most=1.5)
def deploy_again(aged: Aged) -> float:
    return _deploy_again(aged)[0]


@law("finished deployments, 2,000 after 5; nothing to do", limit=200, unit="MB")
def deploy_again_memory(aged: Aged) -> float:
    return _deploy_again(aged)[1] / 1e6


@law("bytes of a host's log, 12 MB in the end; releases are staged and activated", at_most=1.2)
def host_step(aged: Aged) -> float:
    host = Host(aged.folder / "host")
    live = package("0.1")
    host.deploy(live)
    log = host.home.path / "log.jsonl"
    lines = log.read_bytes()
    log.write_bytes(lines * (_LOG * aged.times // len(lines)))
    host.stage(package("0.2"))  # the first step after it became long

    def steps() -> None:
        nonlocal live
        for number in range(10):
            after = package(f"{number + 1}.0", files={"data": os.urandom(20_000)})
            host.stage(after)
            host.activate(after, live)
            live = after

    return cpu_of(steps)
