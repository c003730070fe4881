# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Never more seats than there are, one for each CI, and only those whose term lasts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.seats import Allotment, Entitlement, Seat, allot, unlicensed
from hypothesis import given
from hypothesis import strategies as st

START = datetime(2027, 3, 1, 22, tzinfo=UTC)
END = START + timedelta(hours=4)
TICK = timedelta(microseconds=1)
SPAN = (START, END)
Span = tuple[datetime, datetime]
ACME = Entitlement("A", "acme", 2)
CIS = ("web1", "web2", "web3")


def _taken(seats: Iterable[Seat]) -> dict[str, int]:
    """How many seats of each entitlement are reserved or used: one for each CI."""
    users: dict[str, set[str]] = {}
    for seat in seats:
        users.setdefault(seat.entitlement, set()).add(seat.ci)
    return {name: len(cis) for name, cis in users.items()}


def _allot(
    entitlements: list[Entitlement], seats: Collection[Seat], product: str | None, release: str, cis: Collection[str], span: Span
) -> Allotment:
    return allot(entitlements, _taken(seats), [seat for seat in seats if seat.ci in cis], product, release, cis, span)


def test_each_ci_gets_one_seat() -> None:
    assert _allot([ACME], [], "acme", "hello", CIS[:2], SPAN).new == (Seat("A", "web1", "hello"), Seat("A", "web2", "hello"))


def test_too_few_are_said_with_numbers_and_none_is_taken() -> None:
    allotment = _allot([ACME], [Seat("A", "db1", "hello")], "acme", "hello", CIS, SPAN)
    assert not allotment.suffices
    assert allotment.new == ()
    assert allotment.sentence() == "3 more seats of acme are needed and 1 are free for the whole window, 2 too few"


def test_a_term_that_ends_before_the_window_does_not_count() -> None:
    late = Entitlement("A", "acme", 9, valid_until=END - TICK)
    allotment = _allot([late], [], "acme", "hello", CIS, SPAN)
    assert not allotment.suffices
    assert allotment.sentence().endswith("3 too few (A, with 9, is valid until 2027-03-02T01:59:59.999999+00:00)")
    assert _allot([Entitlement("A", "acme", 9, valid_until=END)], [], "acme", "hello", CIS, SPAN).suffices


def test_a_term_that_begins_later_does_not_count() -> None:
    assert not _allot([Entitlement("A", "acme", 9, valid_from=START + TICK)], [], "acme", "hello", CIS, SPAN).suffices
    assert _allot([Entitlement("A", "acme", 9, valid_from=START)], [], "acme", "hello", CIS, SPAN).suffices


def test_an_upgrade_takes_no_second_seat() -> None:
    seats = [Seat("A", "web1", "hello"), Seat("A", "web2", "hello")]
    allotment = _allot([ACME], seats, "acme", "hello", CIS[:2], SPAN)
    assert (allotment.needed, allotment.new, allotment.leaving) == (0, (), ())


def test_releases_of_one_product_on_one_ci_share_its_seat() -> None:
    allotment = _allot([Entitlement("A", "acme", 1)], [Seat("A", "web1", "hello")], "acme", "other", ["web1"], SPAN)
    assert allotment.new == (Seat("A", "web1", "other"),)
    assert _taken([Seat("A", "web1", "hello"), *allotment.new]) == {"A": 1}


def test_a_seat_of_an_entitlement_that_ends_is_exchanged_for_one_that_lasts() -> None:
    old, new = Entitlement("A", "acme", 9, valid_until=START + TICK), Entitlement("B", "acme", 1)
    allotment = _allot([old, new], [Seat("A", "web1", "hello")], "acme", "hello", ["web1"], SPAN)
    assert (allotment.new, allotment.leaving) == ((Seat("B", "web1", "hello"),), (Seat("A", "web1", "hello"),))


def test_what_the_next_release_does_not_use_any_more_leaves() -> None:
    seats = [Seat("A", "web1", "hello"), Seat("A", "web1", "other"), Seat("A", "db1", "hello")]
    assert _allot([ACME], seats, None, "hello", ["web1"], SPAN).leaving == (Seat("A", "web1", "hello"),)


def test_those_that_last_longest_are_taken_first() -> None:
    short, long, ever = (Entitlement(n, "acme", 1, valid_until=u) for n, u in (("A", END), ("B", END + TICK), ("C", None)))
    assert [seat.entitlement for seat in _allot([short, long, ever], [], "acme", "hello", CIS, SPAN).new] == ["C", "B", "A"]


entitlement = st.builds(
    Entitlement,
    name=st.sampled_from("ABC"),
    product=st.sampled_from(["acme", "bolt"]),
    seats=st.integers(0, 4),
    valid_until=st.sampled_from([None, START, END, END + TICK]),
)
step = st.tuples(
    st.sampled_from(["deploy", "back out"]),
    st.sampled_from(["acme", "bolt", None]),
    st.sampled_from(["hello", "other"]),
    st.frozensets(st.sampled_from([f"web{number}" for number in range(6)]), min_size=1),
)


@given(st.lists(entitlement, max_size=3, unique_by=lambda one: one.name), st.lists(step, max_size=8))
def test_never_more_than_there_are_and_a_back_out_gives_back_exactly_what_was_taken(
    entitlements: list[Entitlement], steps: list[tuple[str, str | None, str, frozenset[str]]]
) -> None:
    limits = {one.name: one.seats for one in entitlements}
    seats: set[Seat] = set()
    for word, product, release, cis in steps:
        before = set(seats)
        allotment = _allot(entitlements, seats, product, release, cis, SPAN)
        assert allotment.suffices or not (allotment.new or allotment.leaving)
        assert not before & set(allotment.new)
        seats |= set(allotment.new)
        # At every moment, the seats that are to leave still there.
        assert all(count <= limits[name] for name, count in _taken(seats).items())
        if word == "back out":
            seats -= set(allotment.new)
            assert seats == before
            continue
        seats -= set(allotment.leaving)
        if allotment.suffices and product:
            again = _allot(entitlements, seats, product, release, cis, SPAN)
            assert (again.needed, again.new, again.leaving) == (0, (), ())


def test_what_is_installed_without_a_valid_seat_is_named() -> None:
    rows = [{"ci": ci, "release": "hello", "version": "1.0", "digest": digest} for ci, digest in zip(CIS, "xxy", strict=True)]
    rows.append({"ci": "web1", "release": "free", "version": "1.0", "digest": "z"})
    seats = [Seat("A", "web1", "other")]
    found = unlicensed(rows, {"x": "acme", "y": TidegateError("it is damaged"), "z": None}, seats, [ACME], START)
    assert [(one.ci, one.product, one.detail) for one in found] == [
        ("web2", "acme", "hello 1.0 uses acme, but it has no seat of it"),
        ("web3", None, "which seat hello 1.0 needs could not be found out: it is damaged"),
    ]
    ended = Entitlement("A", "acme", 9, valid_until=START)
    assert "its seat is of A, which is valid until 2027" in unlicensed(rows[:1], {"x": "acme"}, seats, [ended], START)[0].detail


def test_of_several_terms_that_are_over_the_same_one_is_named_whatever_their_order() -> None:
    rows = [{"ci": "web1", "release": "hello", "version": "1.0", "digest": "x"}]
    over = [Entitlement(name, "acme", 1, valid_until=START) for name in "AB"]
    seats = [Seat("B", "web1", "hello"), Seat("A", "web1", "hello")]
    for order in (seats, seats[::-1]):
        assert "its seat is of A," in unlicensed(rows, {"x": "acme"}, order, over, END)[0].detail
