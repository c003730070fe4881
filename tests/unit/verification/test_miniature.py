# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A miniature has what live has: every combination of releases, every site and class, and redundancy; and no more hosts than that takes."""

from __future__ import annotations

import re
from collections import Counter

from ansible_collections.tidegate.release.plugins.plugin_utils.verification.miniature import (
    PER_GROUP,
    LiveHost,
    live_host,
    miniature,
    with_untouched,
)
from hypothesis import given
from hypothesis import strategies as st

HELLO_1, HELLO_2, TOOLS = ("hello", "1.0", "sha256:1"), ("hello", "2.0", "sha256:2"), ("tools", "1.0", "sha256:3")
COMBINATIONS = [frozenset(), frozenset([HELLO_1]), frozenset([HELLO_2]), frozenset([HELLO_1, TOOLS])]
HOSTS = st.lists(
    st.builds(
        LiveHost,
        st.text("Ab1.-_é", min_size=1, max_size=6),
        st.sampled_from(["web", "db"]),
        st.sampled_from(["ams", "lon", ""]),
        st.sampled_from(COMBINATIONS),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda host: host.name,
)


@given(hosts=HOSTS)
def test_a_miniature_without_a_limit_lacks_nothing(hosts: list[LiveHost]) -> None:
    found = miniature(hosts, len(hosts))
    chosen = list(found.hosts.values())
    assert found.lacking == ()
    assert set(chosen) <= set(hosts)
    assert {host.kind for host in chosen} == {host.kind for host in hosts}
    there, mirrored = Counter(host.group for host in hosts), Counter(host.group for host in chosen)
    assert all(mirrored[group] >= min(PER_GROUP, there[group]) for group in there)


@given(hosts=HOSTS)
def test_more_than_two_of_a_group_are_there_for_combinations_that_are_nowhere_else(hosts: list[LiveHost]) -> None:
    chosen = list(miniature(hosts, len(hosts)).hosts.values())
    by_group = Counter(host.group for host in chosen)
    kinds = Counter(host.kind for host in chosen)
    for group, count in by_group.items():
        alone = [host for host in chosen if host.group == group and kinds[host.kind] == 1]
        assert count <= max(PER_GROUP, len({host.kind for host in chosen if host.group == group}))
        assert count <= PER_GROUP or alone


@given(hosts=HOSTS, limit=st.integers(1, 12), data=st.data())
def test_it_is_the_same_whatever_the_order_and_keeps_to_its_limit(hosts: list[LiveHost], limit: int, data: st.DataObject) -> None:
    found = miniature(hosts, limit)
    assert miniature(data.draw(st.permutations(hosts)), limit) == found
    assert len(found.hosts) == min(limit, len(miniature(hosts, len(hosts)).hosts))
    kept = list(found.hosts.values())
    complete = (
        {host.kind for host in kept} == {host.kind for host in hosts}
        and {host.group for host in kept} == {host.group for host in hosts}
        and all(
            min(PER_GROUP, count) <= Counter(host.group for host in kept)[group] for group, count in Counter(h.group for h in hosts).items()
        )
    )
    assert (found.lacking == ()) == complete
    assert len({host.kind for host in kept}) == min(limit, len({host.kind for host in hosts})), "combinations come first"


@given(hosts=HOSTS)
def test_each_double_has_a_name_that_a_lab_host_can_have(hosts: list[LiveHost]) -> None:
    for name in miniature(hosts, len(hosts)).hosts:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name)
        assert name != "localhost"


def test_names_that_would_be_the_same_are_told_apart_and_none_is_the_controller() -> None:
    hosts = [LiveHost("Web.1"), LiveHost("web-1"), LiveHost("LOCALHOST", "db"), LiveHost("---", "db")]
    assert {name: host.name for name, host in miniature(hosts, 9).hosts.items()} == {
        "host": "---",
        "host-localhost": "LOCALHOST",
        "web-1": "Web.1",
        "web-1-2": "web-1",
    }


def test_what_a_limit_leaves_out_is_told() -> None:
    hosts = [LiveHost("a", "web", "ams", COMBINATIONS[1]), LiveHost("b", "web", "ams", COMBINATIONS[2]), LiveHost("c", "db", "lon")]
    assert miniature(hosts, 1).lacking == (
        "no web in the lab has hello 1.0",
        "no web in the lab has hello 2.0",
        "the lab has no web at ams",
    )
    assert miniature(hosts, 2).lacking == ("no web in the lab has hello 2.0", "the lab has one web at ams, live 2")


def test_thousands_of_hosts_are_chosen_from_in_a_moment() -> None:
    runs = [frozenset([("hello", str(version), f"sha256:{version}")]) for version in range(11)]
    hosts = [LiveHost(f"h{n}", f"class{n % 50}", f"site{n % 97}", runs[n % 11]) for n in range(20_000)]
    assert len(miniature(hosts, 8).hosts) == 8


def test_a_ci_is_read_as_the_cmdb_gives_it() -> None:
    ci = {"name": "web1", "class": "web", "site": "ams", "installations": {"hello": {"version": "1.0", "digest": "sha256:1"}}}
    assert live_host(ci) == LiveHost("web1", "web", "ams", frozenset([HELLO_1]))


@given(hosts=HOSTS, data=st.data())
def test_a_host_that_is_needed_has_a_double_and_no_other_that_is_like_it(hosts: list[LiveHost], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([host.name for host in hosts]))
    assert [host.name for host in miniature(hosts, 1, {name}).hosts.values()] == [name]
    plan = miniature(hosts, len(hosts), {name})
    assert plan.lacking == ()
    more = with_untouched(plan, "hello", lambda _host: frozenset(), unlike={name})
    doubles = [host.name for host in more.hosts.values()]
    assert doubles.count(name) == 1 or {*doubles} == {name}


@given(hosts=HOSTS)
def test_going_back_to_having_none_of_a_release_has_a_host_to_be_rehearsed_on(hosts: list[LiveHost]) -> None:
    plan = miniature(hosts, len(hosts))
    more = with_untouched(plan, "hello", lambda host: host.releases & {TOOLS})
    assert any("hello" not in {one[0] for one in host.releases} for host in more.hosts.values())
    added = {double: host for double, host in more.hosts.items() if double not in plan.hosts}
    assert bool(added) == all("hello" in {one[0] for one in host.releases} for host in plan.hosts.values())
    for host in added.values():
        assert host.name in {one.name for one in plan.hosts.values()}
        assert host.releases <= {TOOLS}
