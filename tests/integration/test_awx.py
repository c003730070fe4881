# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX is set up as a team needs it, changed only where it differs, and whatever it answers comes to one sentence."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import awx
import forked
import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.verb_options import read_verbs
from ansible_collections.tidegate.release.plugins.plugin_utils.awx import apply
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.client import AwxClient
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.team import set_up
from ansible_collections.tidegate.release.plugins.plugin_utils.awx.wanted import PERSONAL, Setup, credential_types
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from awx import HTML, TOKEN, Awx

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples" / "awx-project"
VERBS = read_verbs()
# What most tests have, as AWX answers one request after the other.
SOME = {
    verb: VERBS[verb] for verb in ("approve", "archive", "audit", "backout", "clear", "deploy", "dsl_verify", "report", "stage", "verify")
}
TEMPLATES = [f"Tidegate {verb}" for verb in SOME]
DAILY = "DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1"
SECRET = "hook-geheim-77"  # noqa: S105 - a test's own
WEBHOOK = {"name": "Chat", "type": "webhook", "configuration": {"url": "https://chat.example/x", "headers": {}, "password": SECRET}}
SETUP = Setup(
    organization="Default",
    image="registry.example/ee:1",
    scm_url="https://git.example/releases.git",
    scm_branch="main",
    scm_credential="",
    source_path="cmdb",
    machine_credential="",
    schedules={"audit": DAILY, "dsl_verify": DAILY, "report": DAILY},
    report="/srv/report",
    notification=WEBHOOK,
)


@pytest.fixture
def tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Awx]:
    """AWX with nothing of ours yet; its project will have a playbook for each verb."""
    monkeypatch.setattr(apply, "PAUSE", 0.001)
    with awx.serve(tmp_path) as tower:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tower.authority))
        tower.playbooks = [f"{verb}.yml" for verb in VERBS]
        yield tower


def run(tower: Awx, setup: Setup = SETUP, write: bool = True, verbs: Any = SOME, patience: float = 10) -> tuple[list[str], tuple[str, ...]]:
    """What was changed, and what was left out."""
    tower.requests.clear()
    client = AwxClient(f"https://{tower.host}", TOKEN, {"notification": setup.notification})
    applier, left_out = set_up(client, setup, verbs, write, patience)
    return [str(change) for change in applier.changes], left_out


def refusal(tower: Awx, setup: Setup = SETUP, patience: float = 10, token: str = TOKEN, verbs: Any = SOME) -> str:
    """The one sentence that it says."""
    with pytest.raises(TidegateError) as caught:
        set_up(AwxClient(f"https://{tower.host}", token, {"notification": setup.notification}), setup, verbs, True, patience)
    said = str(caught.value)
    assert "\n" not in said
    assert TOKEN not in said
    return said


def only_fetched(tower: Awx) -> bool:
    """Whether all that was asked for is that the project be fetched."""
    return tower.writes == [("POST", f"/api/v2/projects/{tower.named('projects', 'Tidegate')['id']}/update/")]


def step(tower: Awx, name: str) -> dict[str, Any]:
    """A step of the workflow; the team's own is made if there is none."""
    if name not in tower.names("workflow_job_template_nodes"):
        workflow = tower.named("workflow_job_templates", "Tidegate")["id"]
        tower.make("workflow_job_template_nodes", identifier=name, workflow_job_template=workflow)
    return tower.named("workflow_job_template_nodes", name)


def link(tower: Awx, name: str, **followers: list[str]) -> None:
    """Have other steps follow on one, by relation, as somebody does on AWX's page."""
    step(tower, name).update({f"{how}_nodes": [step(tower, one)["id"] for one in names] for how, names in followers.items()})


def give_credentials(tower: Awx) -> None:
    """What the team enters in AWX after the first run, and what it had before."""
    home = tower.named("organizations", "Default")["id"]
    for one in credential_types():
        tower.make("credentials", name=one.name, organization=home, credential_type=tower.named("credential_types", one.name)["id"])
    machine = tower.named("credential_types", "Machine")["id"]
    tower.make("credentials", name="Shop hosts", organization=home, credential_type=machine, inputs={"username": "deploy"})


# --- what there is afterwards ------------------------------------------------------------------------------------------------------------


def test_a_team_gets_all_that_it_needs(tower: Awx) -> None:
    changes, left_out = run(tower, verbs=VERBS)
    assert tower.names("credential_types") == sorted(["Machine", "Source Control", *(one.name for one in credential_types())])
    assert tower.names("job_templates") == sorted(f"Tidegate {verb}" for verb in VERBS.keys() - {"awx", "lab"})
    assert tower.named("execution_environments", "Tidegate Default")["image"] == "registry.example/ee:1"
    assert tower.named("projects", "Tidegate")["scm_update_on_launch"] is True
    source = tower.named("inventory_sources", "Tidegate")
    assert (source["source"], source["source_path"]) == ("scm", "cmdb")
    assert source["source_project"] == tower.named("projects", "Tidegate")["id"]
    assert tower.names("schedules") == ["Tidegate audit", "Tidegate dsl_verify", "Tidegate report"]
    assert tower.named("schedules", "Tidegate report")["extra_data"] == {"tidegate_report": "/srv/report"}
    assert tower.attached_names("job_templates", "Tidegate audit", "notification_templates_error") == ["Chat"]
    assert tower.attached_names("workflow_job_templates", "Tidegate", "notification_templates_approvals") == ["Chat"]
    assert all(change.endswith(": new") for change in changes)
    assert [re.findall("'(.+?)'", one)[0] for one in left_out] == ["Tidegate homes", "Tidegate signing key"]


def test_the_workflow_asks_people_before_it_goes_live_and_before_it_goes_back(tower: Awx) -> None:
    run(tower)
    assert tower.links() == {
        "archive": {"success_nodes": ["verify"]},
        "verify": {"success_nodes": ["go live"]},
        "go live": {"success_nodes": ["clear"]},
        "clear": {"success_nodes": ["stage"]},
        "stage": {"success_nodes": ["deploy"]},
        "deploy": {"failure_nodes": ["back out"]},
        "back out": {"success_nodes": ["backout"]},
        "backout": {},
    }
    assert tower.names("workflow_approval_templates") == ["back out", "go live"]
    assert [one["variable"] for one in tower.survey("workflow_job_templates", "Tidegate")] == ["tidegate_release", "tidegate_rfc"]


def test_no_survey_asks_for_a_home_or_a_secret(tower: Awx) -> None:
    run(tower, verbs=VERBS)
    questions = [one for name in tower.names("job_templates") for one in tower.survey("job_templates", name)]
    asked = {one["variable"] for one in questions}
    assert asked & {"tidegate_dsl", "tidegate_cmdb", "tidegate_policy", "tidegate_key", "tidegate_key_passphrase"} == set()
    assert not any("password" in name for name in asked)
    assert not any(one["type"] == "password" for one in questions)


def test_credentials_are_attached_once_the_team_has_made_them(tower: Awx) -> None:
    run(tower)
    give_credentials(tower)
    changes, left_out = run(tower, replace(SETUP, machine_credential="Shop hosts"))
    assert left_out == ()
    ours = sorted(one.name for one in credential_types())
    assert tower.attached_names("job_templates", "Tidegate deploy", "credentials") == sorted([*ours, "Shop hosts"])
    assert tower.named("inventory_sources", "Tidegate")["credential"] == tower.named("credentials", "Tidegate homes")["id"]
    assert "inventory source Tidegate: credential" in changes
    assert run(tower, replace(SETUP, machine_credential="Shop hosts")) == ([], ())


def test_what_a_person_signs_is_signed_with_that_persons_key(tower: Awx) -> None:
    run(tower, verbs={})
    give_credentials(tower)
    run(tower, verbs=VERBS)
    for verb in VERBS.keys() - {"awx", "lab"}:
        attached = tower.attached_names("job_templates", f"Tidegate {verb}", "credentials")
        assert "Tidegate homes" in attached, verb
        assert ("Tidegate signing key" in attached) is (verb not in PERSONAL), verb
        assert tower.named("job_templates", f"Tidegate {verb}")["ask_credential_on_launch"] is (verb in PERSONAL), verb


def test_the_project_says_which_verbs_there_are(tower: Awx) -> None:
    tower.playbooks = ["audit.yml", "clear.yml", "other.yml"]
    _changes, left_out = run(tower)
    assert tower.names("job_templates") == ["Tidegate audit", "Tidegate clear"]
    assert tower.names("workflow_job_templates") == []
    said = "\n".join(left_out)
    assert "the project has no playbook of its own for archive, verify, stage, deploy, backout, so there is no workflow" in said
    assert "no playbook of its own for report, so it is not scheduled" in said


def test_no_report_is_scheduled_without_a_place_for_it(tower: Awx) -> None:
    _changes, left_out = run(tower, replace(SETUP, report=""))
    assert "Tidegate report" not in tower.names("schedules")
    assert any("tidegate_report is not given" in one for one in left_out)


# --- again -------------------------------------------------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing(tower: Awx) -> None:
    run(tower)
    assert run(tower)[0] == []
    assert only_fetched(tower)


@pytest.mark.parametrize("page", [3, 200])
def test_lists_are_read_page_by_page(tower: Awx, page: int) -> None:
    run(tower)
    tower.page = page
    for number in range(7):  # so that the nodes of the workflow are not all on the first one
        step(tower, f"ours {number}")
    assert run(tower)[0] == []


def test_a_changed_survey_is_one_change(tower: Awx) -> None:
    run(tower)
    options = VERBS["archive"].options | {"tidegate_label": {"type": "str", "description": "A label."}}
    verbs = SOME | {"archive": VERBS["archive"]._replace(options=options)}
    assert run(tower, verbs=verbs)[0] == ["survey of job template Tidegate archive: spec"]
    assert [path for _method, path in tower.writes if "/survey_spec/" not in path and "/update/" not in path] == []
    assert tower.survey("job_templates", "Tidegate archive")[-1]["variable"] == "tidegate_label"
    assert run(tower, verbs=verbs)[0] == []


def test_a_survey_that_asks_for_nothing_any_more_goes(tower: Awx) -> None:
    run(tower)
    verbs = SOME | {"audit": VERBS["audit"]._replace(options={})}
    assert run(tower, verbs=verbs)[0] == ["job template Tidegate audit: survey_enabled", "survey of job template Tidegate audit: spec"]
    assert tower.survey("job_templates", "Tidegate audit") == []


def test_what_somebody_changed_there_is_changed_back_and_what_is_not_ours_stays(tower: Awx) -> None:
    run(tower)
    deploy = tower.named("job_templates", "Tidegate deploy")
    deploy |= {"allow_simultaneous": False, "extra_vars": "tidegate_become: false"}
    assert run(tower)[0] == ["job template Tidegate deploy: allow_simultaneous"]
    assert deploy["extra_vars"] == tower.named("job_templates", "Tidegate deploy")["extra_vars"] == "tidegate_become: false"


def test_a_step_of_the_teams_own_stays_and_one_of_ours_follows_where_it_has_to(tower: Awx) -> None:
    run(tower)
    link(tower, "deploy", success=["smoke"])
    link(tower, "verify", success=["clear"])
    assert run(tower)[0] == ["what follows on step verify: success_nodes"]
    assert tower.links()["verify"] == {"success_nodes": ["go live"]}
    assert tower.links()["deploy"] == {"success_nodes": ["smoke"], "failure_nodes": ["back out"]}


@pytest.mark.parametrize("how", ["success", "always"])
@pytest.mark.parametrize("own", [["CAB ok"], ["CAB ok", "security ok"]])
def test_a_decision_that_the_team_put_between_two_steps_is_not_gone_round(tower: Awx, own: list[str], how: str) -> None:
    run(tower)
    link(tower, "clear", **{"success": [], how: own[:1]})
    for name, after in zip(own, [*own[1:], "stage"], strict=True):
        link(tower, name, success=[after])
    before = tower.links()
    assert run(tower)[0] == []
    assert tower.links() == before


def test_a_decision_for_a_failed_step_is_none_for_one_that_went_well(tower: Awx) -> None:
    run(tower)
    link(tower, "clear", success=[], failure=["mend"])
    link(tower, "mend", success=["stage"])
    assert run(tower)[0] == ["what follows on step clear: success_nodes"]
    assert tower.links()["clear"] == {"success_nodes": ["stage"], "failure_nodes": ["mend"]}


def test_a_step_that_the_team_has_follow_always_follows(tower: Awx) -> None:
    run(tower)
    link(tower, "clear", success=[], always=["stage"])
    link(tower, "deploy", failure=[], always=["back out"])
    before = tower.links()
    assert run(tower)[0] == []
    assert tower.links() == before


def test_no_step_of_ours_follows_always_where_it_does_not_have_to(tower: Awx) -> None:
    run(tower)
    link(tower, "verify", always=["clear"])
    assert run(tower)[0] == ["what follows on step verify: always_nodes"]
    assert tower.links()["verify"] == {"success_nodes": ["go live"]}


def test_a_step_that_follows_on_a_failure_in_place_of_a_success_is_moved(tower: Awx) -> None:
    run(tower)
    link(tower, "verify", success=[], failure=["go live"])
    assert run(tower)[0] == ["what follows on step verify: success_nodes, failure_nodes"]
    assert tower.links()["verify"] == {"success_nodes": ["go live"]}


def test_the_difference_shows_all_that_will_follow(tower: Awx) -> None:
    run(tower)
    link(tower, "archive", success=["scan", "clear"])
    applier, _left_out = set_up(AwxClient(f"https://{tower.host}", TOKEN), SETUP, SOME, False, 10)
    (change,) = applier.changes
    assert (change.before, change.after) == ({"success_nodes": ["scan", "clear"]}, {"success_nodes": ["scan", "verify"]})
    run(tower)
    assert tower.links()["archive"] == {"success_nodes": ["scan", "verify"]}


def test_a_step_that_lost_its_decision_gets_it_again(tower: Awx) -> None:
    run(tower)
    tower.named("workflow_job_template_nodes", "go live")["unified_job_template"] = None
    assert run(tower)[0] == ["step go live of workflow job template Tidegate: decision"]
    assert run(tower)[0] == []


def test_another_credential_of_the_same_type_is_the_teams_choice(tower: Awx) -> None:
    run(tower)
    give_credentials(tower)
    homes = tower.named("credential_types", "Tidegate homes")["id"]
    other = tower.make("credentials", name="Test homes", organization=tower.named("organizations", "Default")["id"], credential_type=homes)
    tower.attached["job_templates", tower.named("job_templates", "Tidegate clear")["id"], "credentials"] = [other]
    run(tower)
    assert "Test homes" in tower.attached_names("job_templates", "Tidegate clear", "credentials")
    assert "Tidegate homes" not in tower.attached_names("job_templates", "Tidegate clear", "credentials")


def test_a_secret_that_is_set_is_no_difference_and_nowhere_shown(tower: Awx) -> None:
    client = AwxClient(f"https://{tower.host}", TOKEN)
    applier, _left_out = set_up(client, SETUP, SOME, True, 10)
    assert tower.named("notification_templates", "Chat")["notification_configuration"]["password"] == SECRET
    moved = replace(SETUP, notification={**WEBHOOK, "configuration": {**WEBHOOK["configuration"], "url": "https://chat.example/y"}})
    again, _left_out = set_up(client, moved, SOME, True, 10)
    assert [str(change) for change in again.changes] == ["notification template Chat: notification_configuration"]
    assert SECRET not in f"{applier.changes}{again.changes}"
    assert "chat.example" not in f"{applier.changes}{again.changes}"


def test_teams_of_other_organizations_are_left_alone(tower: Awx) -> None:
    tower.make("organizations", name="Shop")
    run(tower)
    before = json.dumps(tower.rows["job_templates"])
    run(tower, replace(SETUP, organization="Shop"))
    assert run(tower)[0] == []
    assert len(tower.rows["job_templates"]) == 2 * len(TEMPLATES)
    assert before[1:-1] in json.dumps(tower.rows["job_templates"])


def test_credentials_of_one_name_are_told_apart_by_their_types(tower: Awx) -> None:
    home = tower.named("organizations", "Default")["id"]
    made = {
        name: tower.make("credentials", name="Shop", organization=home, credential_type=tower.named("credential_types", name)["id"])
        for name in ("Machine", "Source Control")
    }
    setup = replace(SETUP, scm_credential="Shop", machine_credential="Shop")
    run(tower, setup)
    assert tower.named("projects", "Tidegate")["credential"] == made["Source Control"]
    assert tower.attached["job_templates", tower.named("job_templates", "Tidegate deploy")["id"], "credentials"] == [made["Machine"]]
    assert run(tower, setup)[0] == []


@pytest.mark.parametrize(
    ("rule", "there"),
    [
        ("DTSTART:20260101T020000Z\nRRULE:FREQ=DAILY;INTERVAL=1\n", DAILY),
        (f"  {DAILY.replace(' ', '   ')};UNTIL=20261231T230000Z", f"{DAILY};UNTIL=20261231T230000Z"),
        (f"DTSTART;TZID=Europe/Amsterdam:{DAILY[8:23]} {DAILY[25:]}", f"DTSTART;TZID=Europe/Amsterdam:{DAILY[8:23]} {DAILY[25:]}"),
    ],
)
def test_a_schedule_is_the_same_however_its_parts_are_set_apart(tower: Awx, rule: str, there: str) -> None:
    setup = replace(SETUP, schedules={"audit": rule})
    run(tower, setup)
    assert tower.named("schedules", "Tidegate audit")["rrule"] == there
    assert run(tower, setup)[0] == []


def test_answers_of_a_schedule_that_are_the_teams_stay(tower: Awx) -> None:
    run(tower)
    variable = tower.survey("job_templates", "Tidegate audit")[0]["variable"]
    tower.named("schedules", "Tidegate audit")["extra_data"] = {variable: "theirs"}
    assert run(tower, replace(SETUP, schedules={"audit": DAILY.replace("DAILY", "WEEKLY")}))[0] == ["schedule Tidegate audit: rrule"]
    assert tower.named("schedules", "Tidegate audit")["extra_data"] == {variable: "theirs"}


# --- check mode --------------------------------------------------------------------------------------------------------------------------


def test_check_mode_says_what_would_be_made_and_makes_nothing(tower: Awx) -> None:
    would, _left_out = run(tower, write=False)
    assert tower.writes == []
    assert would == run(tower)[0]


def test_check_mode_says_what_would_change(tower: Awx) -> None:
    run(tower)
    setup = replace(SETUP, image="registry.example/ee:2", schedules={"audit": DAILY.replace("DAILY", "WEEKLY")})
    would, _left_out = run(tower, setup, write=False)
    assert tower.writes == []
    assert would == ["execution environment Tidegate Default: image", "schedule Tidegate audit: rrule"]
    assert run(tower, setup)[0] == would


# --- when AWX does not do as it should ---------------------------------------------------------------------------------------------------


def always(answer: tuple[int, dict[str, str], bytes]) -> Any:
    return lambda _method, _path: answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {}, b"{}"), "does not know this token (401); correct CONTROLLER_OAUTH_TOKEN"),
        ((403, {}, b'{"detail": "You do not have permission."}'), "(403: 'You do not have permission.')"),
        ((404, {"Content-Type": "text/html"}, HTML), "has no organizations/ (404); give the address that AWX itself has"),
        ((429, {}, b'{"detail": "Slow down."}'), "refuses GET organizations/ (429: 'Slow down.')"),
        ((500, {"Content-Type": "text/html"}, HTML), "answers 500 to GET organizations/; look at its log and run this again"),
        ((503, {}, b""), "answers 503 to GET organizations/"),
        ((200, {"Content-Type": "text/html"}, HTML), "answers with something that is not of AWX's API, such as a page for people"),
        ((200, {}, b"[]"), "answers with something that is not of AWX's API"),
        ((200, {}, b'{"results": [{"name": "Default"}]}'), "answers with something that is not of AWX's API"),
        ((200, {}, b'{"results": [1]}'), "answers with something that is not of AWX's API"),
        ((200, {"Content-Encoding": "gzip"}, b"x"), "is packed, unasked"),
        ((302, {"Location": "https://evil.example/"}, b""), "answers 302 and points elsewhere"),
        ((307, {"Location": "/login/"}, b""), "answers 307 and points elsewhere"),
        ((200, {}, b" " * (50 << 20)), "sends more than 8 MiB for one answer"),
        ((200, {}, b'{"results": [], "next": "/api/v2/?page=2"}'), "has more than 10000 entries of organizations/"),
        ((400, {}, b'{"detail": "your token %s"}' % TOKEN.encode()), "(400: 'your token ${"),
    ],
)
def test_an_answer_that_can_not_be_used_is_one_sentence(tower: Awx, answer: tuple[int, dict[str, str], bytes], said: str) -> None:
    tower.fault = always(answer)
    assert said in refusal(tower)
    assert tower.writes == []


def test_nobody_is_followed_to_another_host(tower: Awx, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with awx.serve(tmp_path / "other") as other:
        tower.fault = always((301, {"Location": f"https://{other.host}/api/v2/organizations/"}, b""))
        assert "points elsewhere" in refusal(tower)
        assert other.requests == []


def test_a_wrong_token_is_refused_before_anything_is_changed(tower: Awx) -> None:
    said = refusal(tower, token="not-this-one")  # noqa: S106 - it opens nothing
    assert "does not know this token (401)" in said
    assert "not-this-one" not in said


def test_what_was_done_before_an_error_is_said_and_the_next_run_goes_on(tower: Awx) -> None:
    tower.fault = lambda method, path: (502, {}, HTML) if (method, path) == ("POST", "/api/v2/inventory_sources/") else None
    said = refusal(tower)
    assert "answers 502 to POST inventory_sources/; look at its log and run this again; 9 changes were begun until then" in said
    assert "the last of inventory source Tidegate, and the same command goes on from there" in said
    tower.fault = lambda _method, _path: None
    changes, _left_out = run(tower)
    assert "inventory source Tidegate: new" in changes
    assert "inventory Tidegate: new" not in changes
    assert run(tower)[0] == []


@pytest.mark.parametrize("place", [3, 17, 30, 44])
def test_a_run_that_is_cut_off_anywhere_is_finished_by_the_next_one(tower: Awx, place: int) -> None:
    left = [place]

    def cut(method: str, _path: str) -> tuple[int, dict[str, str], bytes] | None:
        left[0] -= method != "GET"
        return (500, {}, b"") if left[0] < 0 else None

    tower.fault = cut
    refusal(tower)
    tower.fault = lambda _method, _path: None
    run(tower)
    assert run(tower)[0] == []
    assert tower.names("job_templates") == TEMPLATES
    assert len(tower.links()) == 8
    assert tower.survey("job_templates", "Tidegate archive") != []


@pytest.mark.parametrize("ignored", ["image", "source_path", "allow_simultaneous"])
def test_a_field_that_is_taken_and_not_kept_is_found(tower: Awx, ignored: str) -> None:
    tower.ignores = {ignored}
    assert f"did not keep {ignored}; look whether this version of AWX has that" in refusal(tower)


def test_a_survey_that_is_taken_and_not_kept_is_found(tower: Awx) -> None:
    tower.fault = lambda method, path: (200, {}, b"") if method == "POST" and path.endswith("survey_spec/") else None
    assert "took the survey of job template Tidegate approve and did not keep it" in refusal(tower)


def test_what_awx_refuses_is_said_by_field(tower: Awx) -> None:
    said = refusal(tower, replace(SETUP, schedules={"audit": "RRULE:FREQ=DAILY"}))
    assert "refuses POST schedules/ (400: 'rrule: Valid DTSTART required in rrule.; rrule: INTERVAL required in rrule.'" in said


def test_a_project_that_can_not_be_fetched_is_said(tower: Awx) -> None:
    tower.ends = "failed"
    assert "could not fetch the project Tidegate ('failed'); look at its last job there" in refusal(tower)
    assert tower.names("job_templates") == []


@pytest.mark.parametrize("status", ["failed", "error", "canceled"])
def test_a_project_that_could_not_be_fetched_is_fetched_again(tower: Awx, status: str) -> None:
    tower.ends = status
    refusal(tower)
    tower.ends = "successful"
    run(tower)
    assert tower.names("job_templates") == TEMPLATES


def test_a_project_that_only_lacked_its_credential_is_fetched_with_it(tower: Awx) -> None:
    tower.ends = "failed"
    refusal(tower)
    home, kind = tower.named("organizations", "Default")["id"], tower.named("credential_types", "Source Control")["id"]
    tower.make("credentials", name="git", organization=home, credential_type=kind)
    tower.ends = "successful"
    run(tower, replace(SETUP, scm_credential="git"))
    assert tower.names("job_templates") == TEMPLATES


def test_what_was_pushed_since_is_found(tower: Awx) -> None:
    tower.playbooks = ["audit.yml"]
    run(tower)
    tower.playbooks = ["audit.yml", "clear.yml"]
    assert run(tower, write=False)[0] == []
    assert run(tower)[0] == ["job template Tidegate clear: new"]


def test_a_project_is_not_waited_for_without_end(tower: Awx) -> None:
    tower.looks = 1_000_000
    assert "is not done with fetching the project Tidegate after 0.05 s (running)" in refusal(tower, patience=0.05)


def test_a_project_that_was_never_fetched_is(tower: Awx) -> None:
    run(tower)
    tower.named("projects", "Tidegate")["status"] = "never updated"
    run(tower)
    assert tower.named("projects", "Tidegate")["status"] == "successful"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"organization": "Shop"}, "has no organization 'Shop'; make it there, or correct its name"),
        ({"machine_credential": "git"}, "has no credential 'git' of the kind ssh that is the organization's; make it there"),
        ({"scm_credential": "hosts"}, "has no credential 'hosts' of the kind scm that is the organization's; make it there"),
        ({"machine_credential": "other"}, "has no credential 'other' of the kind ssh that is the organization's"),
        ({"notification": {"name": "Mail"}}, "has no notification template 'Mail' that is the organization's"),
    ],
)
def test_what_has_to_be_there_already_is_looked_for_before_anything_is_changed(tower: Awx, change: dict[str, Any], said: str) -> None:
    other = tower.make("organizations", name="Other")
    for name, kind, home in (("hosts", "Machine", None), ("git", "Source Control", None), ("other", "Machine", other)):
        organization = home or tower.named("organizations", "Default")["id"]
        tower.make("credentials", name=name, organization=organization, credential_type=tower.named("credential_types", kind)["id"])
    assert said in refusal(tower, replace(SETUP, **change))
    assert tower.writes == []


@pytest.mark.parametrize(
    ("schedules", "said"),
    [
        ({"audit": f"{DAILY};UNTIL=20261231T230000"}, "has an UNTIL for 'audit' that is not in UTC; write it like UNTIL=20261231T230000Z"),
        ({"audit": f"{DAILY};until=20261231"}, "has an UNTIL for 'audit' that is not in UTC"),
        ({"audit": {"rule": DAILY}}, "has no text for 'audit'; write a rule there, such as DTSTART:"),
        ({"dsl_sync": DAILY}, "has dsl_sync, which has to be told tidegate_dsl_to; leave it out there, and schedule the job template"),
    ],
)
def test_a_schedule_that_awx_would_not_keep_is_refused_before_anybody_is_asked(tower: Awx, schedules: dict[str, Any], said: str) -> None:
    assert said in refusal(tower, replace(SETUP, schedules=schedules), verbs=VERBS)
    assert tower.requests == []


def test_a_credential_type_in_use_that_would_change_is_a_sentence(tower: Awx) -> None:
    run(tower)
    give_credentials(tower)
    tower.named("credential_types", "Tidegate registry")["inputs"] = {"fields": []}
    said = refusal(tower)
    assert "Modifications to inputs are not allowed for credential types that are in use" in said


def test_a_name_that_is_there_twice_is_not_guessed(tower: Awx) -> None:
    run(tower)
    project = tower.named("projects", "Tidegate")
    tower.rows["projects"][999] = project | {"id": 999}
    assert "has 2 of project 'Tidegate'; leave one of them there" in refusal(tower)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("awx.example", "is no address of an AWX"),
        ("http://awx.example", "is not sent without TLS"),
        ("https://ann:pass@awx.example", "has more than a host and a path"),
        ("https://awx.example/?x=1", "has more than a host and a path"),
        ("ftp://awx.example", "is no address of an AWX"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anybody_is_asked(address: str, said: str) -> None:
    with pytest.raises(TidegateError, match=said) as caught:
        AwxClient(address, TOKEN)
    assert "pass@" not in str(caught.value)


def test_a_certificate_that_is_not_trusted_and_nobody_there_are_sentences(tower: Awx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "has a certificate that is not trusted here" in refusal(tower)
    with pytest.raises(TidegateError, match=r"can't be reached \(ConnectionError\); check tidegate_awx_host"):
        AwxClient("http://127.0.0.1:1", TOKEN).get("ping/")


# --- by Ansible --------------------------------------------------------------------------------------------------------------------------


def play(tower: Awx, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook as somebody who has a token."""
    variables = {
        "tidegate_awx_image": "registry.example/ee:1",
        "tidegate_awx_scm_url": "https://git.example/releases.git",
        "tidegate_awx_notification": WEBHOOK,
    }
    settings = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", **tower.environment}
    command = ["ansible-playbook", "tidegate.release.awx", "-i", "localhost,", "-e", json.dumps(variables), *options]
    done = forked.run(command, {name: value for name, value in (settings | environment).items() if value}, timeout=120)
    assert TOKEN not in done.stdout
    assert SECRET not in done.stdout
    return done


def test_the_playbook_shows_with_diff_what_it_would_do_does_it_and_then_nothing(tower: Awx) -> None:
    dry = play(tower, "--check", "--diff", "-vvv")
    assert dry.returncode == 0, dry.stdout
    assert "job template Tidegate deploy: new" in dry.stdout
    assert '+    "playbook": "deploy.yml"' in dry.stdout
    assert tower.writes == []
    tower.looks = 1
    first = play(tower)
    assert first.returncode == 0, first.stdout
    assert "changed=1" in first.stdout
    assert "there is no credential 'Tidegate homes'" in first.stdout
    tower.requests.clear()
    second = play(tower, "-vvv")
    assert "is as it has to be" in second.stdout
    assert "changed=0" in second.stdout
    assert only_fetched(tower)


def test_the_page_does_what_it_says(tower: Awx, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "guides" / "awx.md").read_text()
    console, document = (re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", page)[0] for kind in ("console", "yaml"))
    (tmp_path / "awx.yml").write_text(document)
    given = yaml.safe_load(document)
    shop = tower.make("organizations", name=given["tidegate_awx_organization"])
    machine = tower.named("credential_types", "Machine")["id"]
    tower.make("credentials", name=given["tidegate_awx_machine_credential"], organization=shop, credential_type=machine)
    settings = {**os.environ, "ANSIBLE_NOCOLOR": "1", **tower.environment}
    said = []
    for line in console.splitlines()[1:]:  # the first says who we are to which AWX
        done = forked.run([*shlex.split(line), "-i", "localhost,"], settings, tmp_path, timeout=120)
        assert done.returncode == 0, done.stdout
        said.append(done.stdout)
    assert "would be made" in said[0]
    assert "were made" in said[1]
    assert "Tidegate deploy" in tower.names("job_templates")


def test_the_playbook_says_in_one_line_what_is_missing(tower: Awx) -> None:
    done = play(tower, CONTROLLER_OAUTH_TOKEN="")
    assert done.returncode != 0
    assert "there is no token for AWX; make one there for your user, and set CONTROLLER_OAUTH_TOKEN to it" in done.stdout
    none = play(tower, CONTROLLER_HOST="")
    assert "tidegate_awx_host is missing" in none.stdout
    assert "Traceback" not in done.stdout + none.stdout


# --- a project of the team's own ---------------------------------------------------------------------------------------------------------


def listed(project: Path) -> tuple[list[str], list[str]]:
    """The playbooks and the inventories that AWX finds in a project (awx/main/utils/ansible.py).

    A playbook is YAML with a line that begins, behind a dash or not, with hosts, include or import_playbook; an inventory is called hosts
    or inventory, ends in .ini, may be executed, or has no suffix and begins a line as inventories do. Both are outside of certain folders.
    """
    starts = re.compile(r"\s*-?\s*(hosts|(ansible\.builtin\.)?(include|import_playbook)):")
    playbooks, inventories = [], []
    for path in sorted(project.rglob("*")):
        inside = path.relative_to(project)
        skipped = {"roles", "tasks", "group_vars", "host_vars"} & set(inside.parts[:-1]) or any(
            part[0] == "." for part in inside.parts[:-1]
        )
        if skipped or not path.is_file():
            continue
        lines = path.read_text(errors="ignore").splitlines()
        if path.suffix in (".yml", ".yaml") and (any(map(starts.match, lines)) or "".join(lines[:1]).startswith("$ANSIBLE_VAULT;")):
            playbooks.append(str(inside))
        plain = not path.suffix and any(re.match(r"[a-zA-Z0-9_.=\[\]]", line) for line in lines[:11])
        if path.name in ("hosts", "inventory") or path.suffix == ".ini" or os.access(path, os.X_OK) or plain:
            inventories.append(str(inside))
    return playbooks, inventories


def test_awx_lists_of_the_example_its_verbs_and_its_inventory() -> None:
    playbooks, inventories = listed(PROJECT)
    plays = {path.name: re.findall("import_playbook: (.+)", path.read_text()) for path in PROJECT.glob("*.yml")}
    assert playbooks == sorted(name for name, imported in plays.items() if imported)
    assert {name: [f"tidegate.release.{name.removesuffix('.yml')}"] for name in playbooks} == {name: plays[name] for name in playbooks}
    assert {name.removesuffix(".yml") for name in playbooks} <= VERBS.keys()
    assert inventories == ["cmdb"]


def test_the_example_has_what_the_workflow_and_the_schedules_need(tower: Awx) -> None:
    tower.playbooks, _inventories = listed(PROJECT)
    _changes, left_out = run(tower)
    assert not any("playbook" in one for one in left_out)
    assert tower.names("workflow_job_templates") == ["Tidegate"]


def test_the_example_leaves_the_collection_to_the_image() -> None:
    # AWX would install what it names and have jobs look there first, beside the libraries of the image.
    assert [path for path in PROJECT.rglob("*") if path.name.startswith("requirements.")] == []
    assert "collections_path" not in (PROJECT / "ansible.cfg").read_text()


def test_the_example_is_read_as_awx_runs_it(tmp_path: Path) -> None:
    cmdb = tmp_path / "cmdb.sqlite"
    with Cmdb.open(str(cmdb), create=True) as opened:
        opened.put_cis([{"name": "web1", "class": "server", "site": "ams"}], actor="test")
    jobs = tmp_path / "hosts"  # as AWX gives a job its inventory
    jobs.write_text(f"#!/bin/sh\necho '{json.dumps({'all': {'hosts': ['web2']}, '_meta': {'hostvars': {}}})}'\n")
    jobs.chmod(0o755)
    environment = {**os.environ, "TIDEGATE_CMDB": str(cmdb), "TIDEGATE_POLICY": "", "ANSIBLE_NOCOLOR": "1"}
    for source, host in ((PROJECT / "cmdb", "web1"), (jobs, "web2")):
        command = ["ansible-inventory", "-i", str(source), "--list", "--export"]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert host in done.stdout
    done = forked.run(["ansible-playbook", *listed(PROJECT)[0], "--list-tasks", "-i", "localhost,"], environment, PROJECT, timeout=120)
    assert done.returncode == 0, done.stdout
