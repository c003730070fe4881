# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play of a release's own role, and what its receipts are taken for."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.role_play import (
    MARK,
    RECEIPTS,
    HostVerdict,
    PlayPart,
    Receipt,
    Role,
    back,
    failed_to_drain,
    forward,
    on_data,
    play,
    serve_again,
    verdicts,
)
from hypothesis import given
from hypothesis import strategies as st

STEPS = ("drain", "activate", "check", "restore")
ROLE = Role("/run/app", STEPS, ("restart app",))
REACHED = Receipt("reached", "web1", "the end", "ansible.builtin.debug")
EVENTS = st.builds(
    Receipt,
    st.sampled_from(["reached", "failed", "unreachable"]),
    st.sampled_from(["web1", "web2"]),
    st.just("a task"),
    st.just("ansible.builtin.command"),
)


def _did(parts: list[PlayPart]) -> list[str]:
    """The steps of the role and of ours, in order."""
    found = []
    for part in parts:
        for task in part.tasks:
            included = task.get("ansible.builtin.import_role", {})
            ours = task.get("tidegate.release.tree", {})
            pause = "pause" if "ansible.builtin.pause" in task else None
            found += [name for name in (included.get("tasks_from"), ours.get("step"), pause) if name]
    return found


def test_a_host_is_out_of_service_from_before_its_tree_changes_until_its_health_was_seen() -> None:
    assert _did(forward(ROLE, "app 2", True, 0, ())) == ["drain", "activate", "activate", "settle", "check", "restore"]
    assert _did(forward(ROLE, "app 2", True, 5, ())) == ["drain", "activate", "activate", "settle", "pause", "confirm", "check", "restore"]
    assert _did(forward(ROLE, "app 2", False, 5, ())) == ["drain", "activate", "check", "restore"]


def test_the_way_back_is_the_release_before_or_what_undoes_this_one() -> None:
    before = Role("/run/before", STEPS)

    def did(tree: bool, before: Role | None, own: bool) -> list[tuple[str, list[str]]]:
        return [(role.path, _did(parts)) for role, parts in back(ROLE, "app 2", tree, before, own, "app 1", ())]

    # The handlers of the two don't meet: each has a run of its own. And no host serves again before it was seen that the old one is well.
    tree_back = [("/run/app", ["drain", "leave"]), ("/run/before", ["activate", "backout", "check"]), ("/run/app", ["restore"])]
    assert did(True, before, False) == tree_back
    assert did(False, before, True) == [("/run/app", ["drain", "back_out"]), ("/run/before", ["check"]), ("/run/app", ["restore"])]
    alone = [("/run/app", ["drain", "back_out", "restore"])]
    assert did(False, None, True) == did(False, Role("/run/before", ("activate",)), True) == alone
    assert did(True, None, True) == [("/run/app", ["drain", "leave", "back_out", "backout", "restore"])]


def test_only_what_the_role_does_is_limited_in_time() -> None:
    assert [part.step for part in forward(ROLE, "app 2", True, 5, ())] == ["drain", "", "activate", "", "", "", "check", "restore"]


def test_only_hosts_that_were_interrupted_get_every_handler_notified() -> None:
    def owed(resumed: tuple[str, ...]) -> list[dict[str, Any]]:
        return [dict(task) for part in forward(ROLE, "app 2", False, 0, resumed) for task in part.tasks if "notify" in task]

    assert owed(()) == []
    (task,) = owed(("web2", "web1"))
    assert (task["notify"], task["when"]) == (["restart app"], "inventory_hostname in ['web1', 'web2']")


def test_the_play_says_for_itself_what_an_ansible_cfg_could_say_otherwise() -> None:
    made = play("CHG1#1", ["web1"], forward(ROLE, "app 2", False, 0, ()), "CHG1#1:7", "the end", facts=False, tree={})
    assert (made["strategy"], made["any_errors_fatal"], made["ignore_unreachable"]) == ("ansible.builtin.linear", False, False)
    assert made["environment"] == {MARK: "CHG1#1:7"}
    assert made["tasks"][-1]["name"] == "the end"
    assert RECEIPTS in str(made["tasks"][0])  # first of all, whether anybody writes down what is done
    (tree,) = (task for task in _around_a_tree({"cmdb": "x"}) if task.get("tidegate.release.tree", {}).get("step") == "activate")
    assert tree["tidegate.release.tree"] == {"step": "activate", "cmdb": "x"}


def _around_a_tree(given: dict[str, str]) -> list[dict[str, Any]]:
    parts = forward(ROLE, "app 2", True, 0, ())
    return list(play("CHG1#1", ["web1"], parts, "CHG1#1:7", "the end", facts=False, tree=given)["tasks"])


@pytest.mark.parametrize(
    ("receipts", "failures", "problem"),
    [
        pytest.param([REACHED], {"web1": 0}, "", id="it reached the end"),
        pytest.param([REACHED], {}, "its tasks ended before the last one (killed)", id="nobody counted its failures"),
        pytest.param([], {"web1": 0}, "its tasks ended before the last one (killed)", id="it never got to the end"),
        pytest.param([REACHED], {"web1": 1}, "its tasks ended before the last one (killed)", id="something failed that nobody saw"),
        pytest.param([Receipt("failed", "web1", "Copy", "copy"), REACHED], {"web1": 0}, "", id="a rescue took care of what failed"),
        pytest.param([Receipt("failed", "web1", "Copy", "copy")], {"web1": 1}, "the task 'Copy' (copy) failed", id="a task failed"),
        pytest.param(
            [Receipt("failed", "web1", "Tree", "tidegate.release.tree", "no room")],
            {"web1": 1},
            "the task 'Tree' (tidegate.release.tree) failed: no room",
            id="a task of ours says why",
        ),
        pytest.param(
            [Receipt("unreachable", "web1", "Copy", "copy"), REACHED],
            {"web1": 0},
            "it was not reached in the task 'Copy' (copy)",
            id="it was lost in between and came back",
        ),
    ],
)
def test_a_host_is_good_only_when_all_of_it_was_seen(receipts: list[Receipt], failures: dict[str, int], problem: str) -> None:
    assert verdicts(["web1"], receipts, failures, "killed")["web1"].problem == problem


@pytest.mark.parametrize(
    ("receipts", "failures", "drain"),
    [
        ([("failed", "drain of app 2")], {"web1": 1}, True),
        ([("failed", "activate of app 2")], {"web1": 1}, False),
        # What it ignored, or was rescued from, kept it from nothing.
        ([("failed", "drain of app 2"), ("failed", "activate of app 2")], {"web1": 1}, False),
        ([("failed", "drain of app 2")], {"web1": 0}, False),
        ([("failed", "drain of app 2")], {}, False),  # it was killed, and maybe later
        ([("failed", "drain of app 2"), ("unreachable", "activate of app 2")], {"web1": 1}, False),
        ([], {"web1": 1}, False),
    ],
)
def test_a_host_failed_to_drain_when_nothing_behind_that_can_have_begun(
    receipts: list[tuple[str, str]], failures: dict[str, int], drain: bool
) -> None:
    seen = [Receipt(event, "web1", "a task", "command", part=part) for event, part in receipts]
    assert failed_to_drain(verdicts(["web1"], seen, failures, "killed")["web1"], "app 2") is drain
    assert _did(serve_again(ROLE, "app 2", ["web1"])) == ["wait", "restore"]


@pytest.mark.parametrize(
    ("receipts", "last", "failed"),
    [
        ([], "drain of app 2", True),  # it took too long
        ([Receipt("unreachable", "web1", "Ask lb1", "raw", part="drain of app 2")], "drain of app 2", True),
        ([Receipt("unreachable", "web1", "Ask lb1", "raw", part="drain of app 2")], "the tree of app 2", False),
        ([], "the tree of app 2", False),
        ([], "", False),
    ],
)
def test_where_no_host_came_further_than_drain_none_has_more_to_go_back_from(receipts: list[Receipt], last: str, failed: bool) -> None:
    assert failed_to_drain(verdicts(["web1"], receipts, {"web1": 0}, "it took too long", last)["web1"], "app 2") is failed


@given(st.lists(EVENTS), st.dictionaries(st.sampled_from(["web1", "web2"]), st.integers(0, 2)))
def test_no_receipts_make_a_host_good_that_did_not_reach_the_end(receipts: list[Receipt], failures: dict[str, int]) -> None:
    found = verdicts(["web1", "web2", "web3"], receipts, failures, "killed")
    assert found["web3"].problem
    for host in ("web1", "web2"):
        events = {one.event for one in receipts if one.host == host}
        good = "reached" in events and "unreachable" not in events and failures.get(host) == 0
        assert (found[host] == HostVerdict()) == good
        assert found[host].unreachable == ("unreachable" in events)


@pytest.mark.parametrize("step", ["migrate", "reverse"])
def test_data_are_changed_when_the_host_was_reached_and_a_task_of_ours_says_that_it_begins(step: str) -> None:
    waits, changes = on_data(Role("/run/app", (step,)), step, "app 2", "db1")
    assert _did([waits, changes]) == ["wait", step]
    # By what is seen of the first task nobody could be wrong about: the role's own come after it.
    document = play("name", ["db1"], [waits, changes], "mark", "end", facts=False, tree={})
    begun = [task["vars"]["tidegate_step"] for task in document["tasks"] if "vars" in task and "tidegate_step" in task["vars"]]
    assert begun == [waits.called, changes.called, changes.called]
    assert "ansible.builtin.debug" in changes.tasks[0]
    assert changes.step == step
