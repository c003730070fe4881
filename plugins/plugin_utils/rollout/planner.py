# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order hosts get a release: the plan, and why it is that one. Pure: the same hosts and rollout always give the same waves.

The waves are filled one after the other. Hosts are in *blocks*, the hosts of one ring and one site, which are taken in turn; a host that
waits for one of a later site comes in another round over the sites. A wave takes of the open block each host that waits for nobody and
for which there is room: under the next percentage of the policy's steps, and under each limit that it is subject to. Those come first for
whose sake the longest chains of others wait.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from heapq import heapify, heappop, heappush
from itertools import groupby
from typing import Any

from ..errors import StateError, TidegateError
from .options import Rollout, Share

_LONGEST = 64  # letters of a value that a sentence has
_NAMED = 3  # hosts, or pairs of them, that a sentence names


@dataclass(frozen=True)
class PlanHost:
    """A host in scope. ``group`` is its value of the CI attribute ``order_by`` (a site, say); ``None`` if it has none.

    ``ring``: the place of its ring in the policy's order.
    """

    name: str
    group: str | None = None
    ring: int = 0


@dataclass(frozen=True)
class Limit:
    """Hosts of which a wave has ``at_most`` so many, 1 or more. ``why``: the reason as a sentence goes on with it, ``cluster web keeps 3
    of 4 up``."""

    why: str
    hosts: tuple[str, ...]
    at_most: int


@dataclass(frozen=True)
class Limits:
    """What a plan has to keep besides its steps, groups and pairs.

    ``canary``: the hosts of the first wave; empty for the first ones in order. ``shuffled_by``: a text by which hosts are put in an order
    that differs from text to text; empty for that of their names. ``faults``: what of this can't be kept by any plan. ``remarks``: what
    people should know of the plan besides.
    """

    limits: tuple[Limit, ...] = ()
    canary: frozenset[str] = frozenset()
    shuffled_by: str = ""
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bound:
    """How many waves a plan has ``at_least``, and the one constraint that causes it."""

    at_least: int
    why: str


@dataclass(frozen=True)
class Plan:
    """The hosts of each wave. ``why``: for each of them, in the same order, the place of its reason among ``reasons``."""

    waves: tuple[tuple[str, ...], ...]
    why: tuple[tuple[int, ...], ...]
    reasons: tuple[str, ...]
    bound: Bound
    warnings: tuple[str, ...] = ()

    def reason_of(self) -> dict[str, str]:
        """By host, the one constraint that put it into its wave and not into the one before."""
        return {
            host: self.reasons[why] for wave, whys in zip(self.waves, self.why, strict=True) for host, why in zip(wave, whys, strict=True)
        }

    def to_dict(self) -> dict[str, Any]:
        """What the journal keeps of it besides the waves: each reason once, and how many hosts, in the order of the plan, have which."""
        runs = [[why, sum(1 for _one in same)] for why, same in groupby(why for whys in self.why for why in whys)]
        return {
            "reasons": list(self.reasons),
            "why": runs,
            "at_least": self.bound.at_least,
            "at_least_why": self.bound.why,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, waves: Sequence[Sequence[str]], kept: Mapping[str, Any]) -> Plan:
        """What :meth:`to_dict` made, with the waves of that plan."""
        whys = iter([why for why, count in kept["why"] for _one in range(count)])
        why = tuple(tuple(next(whys) for _host in wave) for wave in waves)
        bound = Bound(kept["at_least"], kept["at_least_why"])
        return cls(tuple(map(tuple, waves)), why, tuple(kept["reasons"]), bound, tuple(kept["warnings"]))


def plan_waves(hosts: Sequence[PlanHost], rollout: Rollout, order: Iterable[tuple[str, str]] = (), limits: Limits | None = None) -> Plan:
    """Put ``hosts`` in waves; every host is in exactly one, no wave is empty.

    Hosts are taken ring by ring, in each ring group by group (sorted by the group's name, hosts without a group last), by name within a
    group; their order in ``hosts`` does not matter. The first wave is the canary: the hosts that ``limits`` names, or at least one host
    and at most the first group. A further wave ends wherever ``rollout.steps`` has reached its percentage of *all* hosts, rounded up, and
    at the end of each group: a wave never mixes groups, so that a site is finished, and its gate passed, before the next one is touched.

    ``order``: pairs of hosts of which the first is in an earlier wave than the second, whatever their groups.

    Raises :class:`TidegateError` for no hosts, and with every fault for names that come twice, hosts that would wait for one another, and
    what of ``limits`` can't be kept.
    """
    if not hosts:
        raise TidegateError("no host to deploy to; check the scope of the RFC against the CMDB")
    twice = sorted(name for name, count in Counter(host.name for host in hosts).items() if count > 1)
    if twice:
        raise TidegateError(f"hosts that are in scope more than once: {', '.join(twice)}; name each CI once")
    fleet = _Fleet(hosts, rollout, order, limits or Limits())
    faults = [*fleet.limits.faults, *_canary_faults(fleet), *_ring_faults(fleet), *_circles(fleet)]
    if faults:
        raise TidegateError("\n".join(faults))
    filled = _fill(fleet)
    places: dict[str, int] = {}
    waves = tuple(tuple(fleet.hosts[host].name for host in sorted(wave)) for wave in filled.waves)
    why = tuple(tuple(places.setdefault(filled.reasons[host], len(places)) for host in sorted(wave)) for wave in filled.waves)
    bound = max(_bounds(fleet), key=lambda bound: bound.at_least)
    return Plan(waves, why, tuple(places), bound, (*fleet.limits.remarks, *_warnings(fleet, len(waves), bound)))


def shown(value: str) -> str:
    """What the CMDB says, for a sentence: on one line, and not too long."""
    return value if len(value) <= _LONGEST and value.isprintable() else f"{value[:_LONGEST]!a}"


def some(names: Sequence[str]) -> str:
    """Names for a sentence, the first few of them."""
    return f"{', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}"


class _Fleet:
    """The hosts as numbers, their places in the order in which equal ones are taken, and what is asked of them."""

    def __init__(self, hosts: Sequence[PlanHost], rollout: Rollout, order: Iterable[tuple[str, str]], limits: Limits) -> None:
        self.rollout, self.limits = rollout, limits
        self.hosts = _sorted(hosts, limits.shuffled_by)
        self.total = len(self.hosts)
        self.place = {host.name: number for number, host in enumerate(self.hosts)}
        self.canary = sorted(self.place[name] for name in limits.canary if name in self.place)
        self.canaries = frozenset(self.canary)
        self.rank = _ranks(self.hosts)
        """By host, the place of its ring and group among all of them."""
        self.after: list[list[int]] = [[] for _host in self.hosts]
        """By host, those that wait for it; one twice that is said to wait for it twice."""
        self.waits = [0] * self.total
        """By host, for how many it waits."""
        self._pair(order)
        self.binding = [limit for limit in limits.limits if len(limit.hosts) > limit.at_most]
        """The limits that can stand in the way."""
        self.subject: dict[int, list[int]] = {}
        """By host, which of them it is subject to, if any."""
        for number, limit in enumerate(self.binding):
            for name in limit.hosts:
                self.subject.setdefault(self.place[name], []).append(number)
        self.line = self._lined_up()
        """The hosts, each behind those that it waits for; those of a circle, and behind one, are not in it."""
        self.rounds, self.late_for = self._rounds()
        self.heights = self._heights()
        """By host, the length of the longest chain of hosts that wait for one another, which it is the first of."""
        self.keys = [host - height * self.total for host, height in enumerate(self.heights)]
        """By host, a number by which those come first for whose sake the longest chains wait; modulo the total it is the host."""
        self.step_ends = {Share(step, percent=True).at_least(self.total): step for step in reversed(rollout.steps)}
        """How many hosts are done at the end of each of the policy's steps, with its percentage."""

    def _pair(self, order: Iterable[tuple[str, str]]) -> None:
        find, after, waits = self.place.get, self.after, self.waits
        for earlier, later in order:
            first, other = find(earlier), find(later)
            if first is not None and other is not None:
                after[first].append(other)
                waits[other] += 1

    def _lined_up(self) -> list[int]:
        waits = list(self.waits)
        ready = [host for host in range(self.total) if not waits[host]]
        line = []
        while ready:
            host = ready.pop()
            line.append(host)
            for later in self.after[host]:
                waits[later] -= 1
                if not waits[later]:
                    ready.append(later)
        return line

    def _rounds(self) -> tuple[list[int], dict[int, int]]:
        """By host, in which round over the groups of its ring it comes, and, where that is not the first, for the sake of which host."""
        rounds, late_for, rank = [0] * self.total, dict[int, int](), self.rank
        for host in self.line if len(set(rank)) > 1 else ():
            for later in self.after[host] if host not in self.canaries else ():
                least = rounds[host] + (rank[host] > rank[later])
                is_nearer = least == rounds[later] and host < late_for.get(later, -1)
                if (least > rounds[later] or is_nearer) and self._are_in_one_ring(host, later):
                    rounds[later], late_for[later] = least, host
        return rounds, late_for

    def _are_in_one_ring(self, one: int, other: int) -> bool:
        return self.hosts[one].ring == self.hosts[other].ring

    def _heights(self) -> list[int]:
        heights = [1] * self.total
        for host in reversed(self.line):
            for later in self.after[host]:
                if heights[later] >= heights[host]:
                    heights[host] = heights[later] + 1
        return heights

    def before(self, hosts: Collection[int]) -> dict[int, list[int]]:
        """By host, those that it waits for."""
        found: dict[int, list[int]] = {}
        for first, after in enumerate(self.after):
            for later in sorted(set(after).intersection(hosts)):
                found.setdefault(later, []).append(first)
        return found

    def ring(self, host: int) -> str:
        """The ring of a host, for a sentence."""
        rings = self.rollout.constraints.rings
        name = rings.order[self.hosts[host].ring] if rings else None
        return f"ring {shown(name)}" if name is not None else "no ring"

    def group(self, host: int) -> str:
        """The group of a host, for a sentence."""
        group = self.hosts[host].group
        return f"{self.rollout.order_by} {shown(group)}" if group is not None else f"no {self.rollout.order_by}"

    @property
    def canary_size(self) -> int:
        """How many hosts the canary has when nobody names it."""
        return max(1, self.rollout.canary.at_least(self.total))


def _sorted(hosts: Iterable[PlanHost], shuffled_by: str) -> list[PlanHost]:
    """The hosts in the order in which equal ones are taken."""
    if not shuffled_by:
        return sorted(hosts, key=lambda host: (host.ring, host.group is None, host.group or "", host.name))

    def mixed(name: str) -> bytes:
        return sha256(f"{shuffled_by}\0{name}".encode("utf-8", "surrogatepass")).digest()

    return sorted(hosts, key=lambda host: (host.ring, host.group is None, host.group or "", mixed(host.name), host.name))


def _ranks(ordered: Iterable[PlanHost]) -> list[int]:
    """By host, how many rings and groups come before its own."""
    ranks, rank, last = [], -1, None
    for host in ordered:
        if (host.ring, host.group) != last:
            rank, last = rank + 1, (host.ring, host.group)
        ranks.append(rank)
    return ranks


# -- the waves ------------------------------------------------------------------


class _Filled:
    """The waves as far as they are filled, and what is to be known of them."""

    def __init__(self, fleet: _Fleet) -> None:
        self.waves: list[list[int]] = []
        self.reasons = [""] * fleet.total
        """By host, why it is in its wave."""
        self.done = 0
        """How many hosts are in the waves."""
        self.waits = list(fleet.waits)
        """By host, for how many it waits that are not in a wave yet."""
        self.freed_by: dict[int, int] = {}
        """By host that waits for nobody any more, the first in order of those that were in the last of the waves for which it waited."""
        self._after = fleet.after

    def add(self, wave: list[int], reasons: Iterable[str]) -> list[int]:
        """Add a wave that is complete, with the reasons of its hosts; return those that waited for one of them, and wait for nobody now."""
        freed = []
        for host, reason in zip(wave, reasons, strict=True):
            self.reasons[host] = reason
        for host in sorted(wave, reverse=True):
            for later in self._after[host]:
                self.waits[later] -= 1
                self.freed_by[later] = host
                if not self.waits[later]:
                    freed.append(later)
        self.waves.append(wave)
        self.done += len(wave)
        return freed


def _fill(fleet: _Fleet) -> _Filled:
    """Fill the waves, block by block."""
    filled = _Filled(fleet)
    if fleet.canary:
        filled.add(fleet.canary, ["the canary, named by the policy"] * len(fleet.canary))
    blocks: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for host in range(fleet.total):
        if host not in fleet.canaries:
            blocks[fleet.hosts[host].ring, fleet.rounds[host], fleet.rank[host]].append(host)
    last = None
    for key in sorted(blocks):
        _Block(fleet, filled, blocks[key], last).fill()
        last = blocks[key][0]
    return filled


class _Block:
    """The hosts of one ring, round and group, and the waves that they fill. ``last``: a host of the block before, if there is one.

    Heaps have the key of each host.
    """

    def __init__(self, fleet: _Fleet, filled: _Filled, hosts: list[int], last: int | None) -> None:
        self._fleet, self._filled, self._last = fleet, filled, last
        self._keys = fleet.keys
        self._left = len(hosts)
        self._begun = len(filled.waves)
        self._mine = frozenset(hosts)
        self._ready = [self._keys[host] for host in hosts if not filled.waits[host]]
        heapify(self._ready)
        self._freed: frozenset[int] = frozenset()  # hosts that waited for one of the last wave
        self._full: frozenset[int] = frozenset()  # limits under which that had no room left
        self._queues: dict[int, list[int]] = {}  # by limit, the hosts for which there was no room under it
        self._from: dict[int, int] = {}  # by host that is ready, the limit whose queue it is the first of

    def fill(self) -> None:
        """Put each host into a wave."""
        ends = sorted({*self._fleet.step_ends, self._fleet.total})
        while self._left:
            number, done = len(self._filled.waves), self._filled.done
            was_full = self._full
            wave = self._take(next(end for end in ends if end > done) - done) if number else self._take_canary()
            if not wave:  # or this would go on without end
                raise StateError("no host can be in the next wave of the plan, and some are left; this is a defect, please report it")
            self._freed = self._mine.intersection(self._filled.add(wave, self._reasons(wave, number, was_full)))
            for later in self._freed:
                heappush(self._ready, self._keys[later])
            self._left -= len(wave)

    def _take_canary(self) -> list[int]:
        """The first hosts in order, whoever waits for them."""
        self._ready = sorted(key % self._fleet.total for key in self._ready)  # these are a heap, too
        canary = self._take(self._fleet.canary_size)
        self._ready = [self._keys[host] for host in self._ready]
        heapify(self._ready)
        return canary

    def _take(self, room: int) -> list[int]:
        """The hosts for a wave of ``room``: each that is ready, as long as there is room for it."""
        fleet, used, wave = self._fleet, Counter[int](), list[int]()
        for limit in self._queues.keys() - set(self._from.values()):
            self._let_out(limit)
        while self._ready and len(wave) < room:
            host = heappop(self._ready) % fleet.total
            limits = fleet.subject.get(host, ())
            full = next((limit for limit in limits if used[limit] >= fleet.binding[limit].at_most), None)
            if full is None:
                wave.append(host)
                used.update(limits)
            else:
                heappush(self._queues.setdefault(full, []), self._keys[host])
            queue = self._from.pop(host, None)
            if queue is not None and used[queue] < fleet.binding[queue].at_most:
                self._let_out(queue)
        self._full = frozenset(limit for limit, count in used.items() if count >= fleet.binding[limit].at_most)
        return wave

    def _let_out(self, limit: int) -> None:
        """Make the first host ready that waits for room under a limit, if there is one."""
        if queue := self._queues.get(limit):
            key = heappop(queue)
            self._from[key % self._fleet.total] = limit
            heappush(self._ready, key)
            if not queue:
                del self._queues[limit]

    def _reasons(self, wave: Sequence[int], number: int, was_full: Collection[int]) -> list[str]:
        """Why each host is in this wave, and not in the one before, which had no room left under the limits that ``was_full`` has."""
        fleet, last = self._fleet, self._last
        if not number:
            return ["the canary, the first in order"] * len(wave)
        if number == self._begun and last is not None:
            return [self._reason_of_block(host, last) for host in wave]
        step = fleet.step_ends.get(self._filled.done)  # of the wave before, if that is what it ended for
        usual = "the canary comes first, alone" if number == 1 else f"the step to {step}% comes first"
        freed_by, hosts = self._filled.freed_by, fleet.hosts
        limited = number > 1 or self._filled.done < fleet.canary_size  # a whole canary would have been alone anyway
        reasons = []
        for host in wave:
            full = next((limit for limit in fleet.subject.get(host, ()) if limit in was_full), None) if limited else None
            if host in self._freed:
                reasons.append(f"after {hosts[freed_by[host]].name}")
            else:
                reasons.append(usual if full is None else fleet.binding[full].why)
        return reasons

    def _reason_of_block(self, host: int, last: int) -> str:
        """Why a host comes after the block that ``last`` is of."""
        fleet = self._fleet
        if (first := fleet.late_for.get(host)) is not None:
            return f"after {fleet.hosts[first].name} of {fleet.group(first)}"
        named = fleet.ring if fleet.hosts[host].ring != fleet.hosts[last].ring else fleet.group
        return f"{named(last)} comes first"


# -- what can't be ----------------------------------------------------------------


def _circles(fleet: _Fleet) -> Iterator[str]:
    left = set(range(fleet.total)).difference(fleet.line)
    sorter = TopologicalSorter({host: sorted(left.intersection(fleet.after[host])) for host in sorted(left)})
    try:
        sorter.prepare()
    except CycleError as error:
        names = ", ".join(fleet.hosts[host].name for host in error.args[1])
        yield f"hosts that wait for one another ({names}) can't be put in waves; deploy another version first"


def _canary_faults(fleet: _Fleet) -> Iterator[str]:
    if len(fleet.canary) == fleet.total > 1:
        yield f"the canary is all {fleet.total} hosts, so nothing is tried before the others; name fewer in rollout.canary_hosts"
    members = {fleet.hosts[host].name for host in fleet.canary}
    for host, before in fleet.before(fleet.canaries).items() if members else ():
        name, first = fleet.hosts[host].name, [fleet.hosts[one].name for one in before]
        yield f"the canary {name} gets the release after {some(first)}; leave {name} out of rollout.canary_hosts"
    for limit in fleet.binding if members else ():
        both = sorted(members.intersection(limit.hosts))
        if len(both) > limit.at_most:
            yield f"the canary has {some(both)}, and {limit.why}; leave {len(both) - limit.at_most} of them out of rollout.canary_hosts"


def _ring_faults(fleet: _Fleet) -> Iterator[str]:
    if fleet.rollout.constraints.rings is None:
        return
    ring = [host.ring for host in fleet.hosts]
    found = ((first, later) for first, after in enumerate(fleet.after) for later in after if ring[first] > ring[later])
    wrong = sorted({pair for pair in found if fleet.canaries.isdisjoint(pair)})
    pairs = (f"{_in_ring(fleet, first)} gets the release before {_in_ring(fleet, later)}" for first, later in wrong[:_NAMED])
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        yield f"rings contradict what hosts depend on: {', '.join(pairs)}{more}; put the first of each two into the same or an earlier ring"


def _in_ring(fleet: _Fleet, host: int) -> str:
    return f"{fleet.hosts[host].name} of {fleet.ring(host)}"


# -- how many waves there have to be -------------------------------------------------


def _bounds(fleet: _Fleet) -> Iterator[Bound]:
    """What each constraint by itself asks for, the plainest first."""
    steps = f"the canary and each of the steps ({', '.join(f'{step}%' for step in fleet.rollout.steps)}) end a wave"
    blocks = len(set(fleet.rank))
    kinds = f"{blocks} {'rings and groups' if fleet.rollout.constraints.rings else f'values of {fleet.rollout.order_by}'} come one by one"
    yield Bound(len(_cuts(fleet)), f"{steps}, and {kinds}" if blocks > 1 else steps)
    number, why = _of_blocks(fleet)
    yield Bound(number, f"{kinds}{why}")
    first = max(range(fleet.total), key=lambda host: (fleet.heights[host], -host))
    yield Bound(fleet.heights[first], f"{fleet.heights[first]} hosts wait for one another in a chain, {fleet.hosts[first].name} first")
    if fleet.binding:
        limit = max(fleet.binding, key=_waves_for)
        yield Bound(_waves_for(limit), f"{limit.why}, and {len(limit.hosts)} hosts get the release")


def _waves_for(limit: Limit) -> int:
    return -(-len(limit.hosts) // limit.at_most)


def _cuts(fleet: _Fleet) -> set[int]:
    """After how many hosts a wave has to end, by steps, rings and groups."""
    sizes = Counter(rank for host, rank in enumerate(fleet.rank) if host not in fleet.canaries)
    done, ends = len(fleet.canary), {fleet.total}
    if not any(fleet.rounds):
        for rank in sorted(sizes):
            done += sizes[rank]
            ends.add(done)
    first = len(fleet.canary) or min(fleet.canary_size, *ends)
    return {first, *ends, *(end for end in fleet.step_ends if end > first)}


def _of_blocks(fleet: _Fleet) -> tuple[int, str]:
    """No wave mixes rings or groups, so what each of them takes adds up."""
    need = {rank: (1, "") for host, rank in enumerate(fleet.rank) if host not in fleet.canaries}
    for limit in fleet.binding if len(need) > 1 else ():
        counts = Counter(fleet.rank[host] for name in limit.hosts if (host := fleet.place[name]) not in fleet.canaries)
        for rank, count in counts.items():
            if -(-count // limit.at_most) > need[rank][0]:
                need[rank] = (-(-count // limit.at_most), limit.why)
    most, why = max(need.values(), default=(1, ""), key=lambda one: one[0])
    more = f", and one of them takes {most} waves, for {why}" if most > 1 else ""
    return sum(number for number, _why in need.values()) + bool(fleet.canary), more


def _warnings(fleet: _Fleet, waves: int, bound: Bound) -> Iterator[str]:
    most = fleet.rollout.constraints.max_waves
    if waves > most:
        least = f"not fewer than {bound.at_least} are possible, for {bound.why}"
        yield f"the plan has {waves} waves, more than max_waves of the policy ({most}); {least}"
    if waves == 1 and fleet.total > 1:
        yield f"the canary is all {fleet.total} hosts, so nothing is tried before the others"
