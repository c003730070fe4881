# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""However Ansible is set and called: a verb does all of its work and says so, or changes nothing and says why.

Two hosts in directories of this machine will do, for what a host does is not what is tested here.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import yaml
from sites import Site

NOT_INJECTED = {"ANSIBLE_INJECT_FACT_VARS": "false"}
CACHED = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_GATHERING": "smart"}
SETTINGS = {
    "plain": {},
    "not injected": NOT_INJECTED,
    "cached": CACHED,
    "both": NOT_INJECTED | CACHED,
    # What else a team may have set that changes how plays run.
    "hostile": {
        "ANSIBLE_STRATEGY": "free",
        "ANSIBLE_ANY_ERRORS_FATAL": "true",
        "ANSIBLE_TASK_TIMEOUT": "1",
        "ANSIBLE_FORCE_HANDLERS": "true",
        "ANSIBLE_FORKS": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "true",
        "ANSIBLE_DUPLICATE_YAML_DICT_KEY": "error",
    },
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("site"), count=2)
    site.up()
    return site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.settings = {}


def words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def done(site: Site, verb: str, *options: str, **variables: Any) -> str:
    """Run a verb that has to succeed, without a warning of Ansible's."""
    ran = site.run(verb, *options, **variables)
    assert ran.returncode == 0, ran.stdout
    assert not re.search(r"WARNING|DEPRECAT", ran.stdout), ran.stdout
    return words(ran)


def refused(site: Site, *reasons: str, verb: str, options: tuple[str, ...] = (), **variables: Any) -> None:
    """Run a verb that has to say why it does nothing."""
    before = site.everything()
    ran = site.run(verb, *options, **variables)
    assert ran.returncode != 0, ran.stdout
    for reason in reasons:
        assert reason in words(ran), ran.stdout
    assert site.everything() == before


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_verb_ends_with_0_only_when_the_journal_has_it_and_check_mode_changes_nothing(
    site: Site, setting: str, tmp_path: Path
) -> None:
    site.settings = {**SETTINGS[setting], "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(tmp_path)}
    number, rfc = site.change()
    reason = "it's #5, a=b: [1, 2] yes"
    version = f"{number.removeprefix('CHG')}.0"
    for verb, state in (("stage", "staging"), ("deploy", "completed"), ("backout", "backed_out")):
        before = site.everything()
        done(site, verb, "--check", tidegate_rfc=rfc, tidegate_reason=reason)
        assert site.everything() == before
        done(site, verb, tidegate_rfc=rfc, tidegate_reason=reason)
        assert site.state(number) == state
        assert (site.live() == {version}) == (verb == "deploy")
    assert site.rows(f"select reason from deployment where rfc = '{number}'") == [(reason,)]  # noqa: S608 - a test's own RFC number
    refused(site, "was backed out", verb="deploy", options=("--check",), tidegate_rfc=rfc)


def test_what_a_verb_has_to_visit_is_in_the_inventory_and_inside_the_limit_or_nothing_is_written(site: Site) -> None:
    number, rfc = site.change()
    some = site.inventory("web1")
    refused(site, "1 CI in the scope of", "is not in the inventory (web2)", verb="deploy", inventory=some, tidegate_rfc=rfc)
    refused(site, "(web1, web2); give the inventory", "have auto in enable_plugins", verb="deploy", inventory=None, tidegate_rfc=rfc)
    refused(site, "left out by --limit (web2)", verb="deploy", options=("--limit", "web1,localhost"), tidegate_rfc=rfc)
    done(site, "stage", "--limit", "all", tidegate_rfc=rfc)
    refused(site, "1 host that", "has still to visit is not in the inventory (web2)", verb="deploy", inventory=some, tidegate_rfc=rfc)
    refused(site, "--tags x could leave out a part of this", verb="deploy", options=("--tags", "x"), tidegate_rfc=rfc)
    misled = ("-e", "tidegate_backout=true tidegate_wanted=staged")
    refused(site, "tidegate_backout is no variable of tidegate.release", verb="deploy", options=misled, tidegate_rfc=rfc)
    odd = site.inventory(*site.hosts, tidegate_backout=True, tidegate_wanted="staged")
    done(site, "deploy", "--limit", "web*", inventory=odd, tidegate_rfc=rfc)
    assert site.state(number) == "completed"
    refused(site, "2 hosts that", "has to be backed out of are not in the inventory", verb="backout", inventory=None, tidegate_rfc=rfc)
    refused(site, "left out by --limit (web1)", verb="backout", options=("--limit", "web2,localhost"), tidegate_rfc=rfc)
    wrong = ("-e", "tidegate_reason=Change log comes on Monday")
    refused(site, """-e '{"tidegate_reason": "Change log comes on Monday"}'""", verb="backout", options=wrong, tidegate_rfc=rfc)
    done(site, "backout", inventory=site.inventory(*site.hosts, tidegate_backout=False, tidegate_wanted="completed"), tidegate_rfc=rfc)
    assert site.state(number) == "backed_out"


def test_a_host_whose_step_could_not_even_begin_is_not_done_and_says_why(site: Site) -> None:
    """Nothing of it is in the journal, and Ansible rescues the task."""
    number, rfc = site.change()
    broken = site.inventory(*site.hosts, tidegate_settings="{{ nothing_of_that_name }}")
    held = site.run("deploy", inventory=broken, tidegate_rfc=rfc)
    assert held.returncode != 0
    assert f"{number}: hello" in words(held)
    assert "is held" in words(held)
    assert "'nothing_of_that_name' is undefined" in words(held).split("is held")[1]
    done(site, "deploy", tidegate_rfc=rfc)
    owed = site.run("backout", inventory=broken, tidegate_rfc=rfc)
    assert owed.returncode != 0
    assert "'nothing_of_that_name' is undefined" in words(owed).split("still owe it")[1]
    done(site, "backout", tidegate_rfc=rfc)


def test_what_the_inventory_says_of_all_hosts_does_not_lead_the_controller_astray(site: Site) -> None:
    _number, rfc = site.change()
    strange = {"ansible_host": "192.0.2.1", "ansible_become": True, "ansible_become_user": "nobody", "ansible_check_mode": True}
    inventory = site.inventory(*site.hosts)
    document = yaml.safe_load(Path(inventory).read_text())
    document["all"]["hosts"]["localhost"] = {"ansible_connection": "ssh", **strange}
    Path(inventory).write_text(yaml.safe_dump(document))
    done(site, "deploy", inventory=inventory, tidegate_rfc=rfc)
    done(site, "backout", inventory=inventory, tidegate_rfc=rfc)


ROOT = Path(__file__).parents[2]
VERBS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
SHARED = {"deploy", "stage", "backout"}
LEAVING_OUT = {
    "tags": (("--tags", "x"), "--tags x could leave out a part of this"),
    "skip-tags": (("--skip-tags", "untagged"), "--skip-tags untagged could leave out a part of this"),
    "start-at-task": (("--start-at-task", "Conclude"), "--start-at-task 'Conclude' could leave out a part of this"),
    "step": (("--step",), "--step could leave out a part of this"),
    "limit": (("--limit", "web1"), "--limit web1 leaves out localhost, where everything is decided"),
    "slice": (("-e", "tidegate_slice=true"), "tidegate_slice is for deploy, stage and backout"),
}


# Every verb asks in one place, so that `make test` tries one option with each.
TRIED = [
    pytest.param(verb, option, marks=() if (number - place) % len(LEAVING_OUT) == 0 else pytest.mark.thorough, id=f"{verb}-{option}")
    for number, verb in enumerate(VERBS)
    for place, option in enumerate(LEAVING_OUT)
]


@pytest.mark.parametrize(("verb", "option"), TRIED)
def test_what_would_leave_out_a_part_of_a_verb_is_refused_by_name(site: Site, verb: str, option: str) -> None:
    """Whatever else it is given: with nothing of it being the first that a verb looks at, nothing has changed."""
    given, sentence = LEAVING_OUT[option]
    before = site.everything()
    command = ["ansible-playbook", f"tidegate.release.{verb}", "-i", str(site.path / "all.yml"), *given]
    ran = forked.run(command, site.environment, site.path / "home", timeout=60)
    assert ran.returncode != 0, ran.stdout
    assert (sentence in words(ran)) != (option == "slice" and verb in SHARED), ran.stdout
    assert "TASK" not in ran.stdout or (option == "slice" and verb in SHARED)
    assert site.everything() == before


def test_a_limit_that_leaves_out_what_a_verb_is_about_is_refused_and_no_other(site: Site) -> None:
    limit = ("--limit", "web1,localhost")
    refused(site, "leaves out web2, so nothing was done: an import enters the whole inventory", verb="import", options=limit)
    plain: dict[str, Any] = {"settings": {}, "hooks": {}, "health": [{"name": "there", "command": ["/bin/true"], "timeout": 5}]}
    digests = [site.archive(version, **plain) for version in ("0.1", "0.2")]
    site.record("0.1", digests[0])
    about = "leaves out web2, so nothing was done: the lab is made after these hosts"
    refused(site, about, verb="verify", options=limit, tidegate_name="hello", tidegate_digest=digests[1], verify_hosts=2)
    folder = site.release("1.0", **plain)
    adopted = {"tidegate_release": str(folder), "tidegate_path": str(site.path / "nowhere")}
    refused(site, "leaves out web2, so nothing was done: tidegate_hosts chooses", verb="adopt", options=limit, **adopted)
    done(site, "archive", *limit, tidegate_release=str(folder))
