# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of releases of firmware: each step with a device is written before it is done, for whoever goes on.

What is redundant has firmware one at a time: the transaction that writes ahead that a host is about to change looks at all the others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..cmdb.chain import append_journal
from ..cmdb.schema import may_need_a_person
from ..cmdb.store import Cmdb
from ..errors import TidegateError
from ..firmware.device import DeviceError, DeviceIdentity
from . import redundancy
from .deployments import Run, Target, deployment_of
from .firmware_levels import FIRMWARE_READ, FIRMWARE_STEP
from .holder import Holder
from .journal import Journal
from .readings import RUNS
from .redundancy import Turn, TurnDecision, Visit
from .states import OPEN, TOUCHED, DeploymentState, HostState

with suppress(ImportError):
    import sqlalchemy as sa


# States that say something of how a device is; the last two are by a person's word.
_COUNTS = TOUCHED | {HostState.BACKED_OUT, HostState.ACCEPTED, HostState.WRITTEN_OFF}


class FirmwareJournal(Journal):
    """The deployments of one CMDB, and what they do to devices."""

    def __init__(self, cmdb: Cmdb) -> None:
        super().__init__(cmdb)
        self._own = threading.local()  # the transaction that a thread has open, as ``connection``

    @contextmanager
    def in_one(self) -> Iterator[None]:
        """What this thread writes meanwhile is one transaction: all of it or, after an exception, nothing."""
        with self._cmdb.begin() as connection:
            self._own.connection = connection
            try:
                yield
            finally:
                self._own.connection = None

    def _begin_or(self, within: sa.Connection | None) -> AbstractContextManager[sa.Connection]:
        return super()._begin_or(getattr(self._own, "connection", None) if within is None else within)

    # -- turns of what is redundant ----------------------------------------

    def look_at_turn(self, run: Run, host: str, now: datetime, *, back: bool = False) -> Turn:
        """Whether it is the turn of ``host``, as far as the CIs that are redundant with it are concerned."""
        with self._cmdb.read() as connection:
            return self._turn(connection, run, host, now, back)

    def take_turn(self, run: Run, host: str, now: datetime, *, back: bool = False, given_up: bool = False) -> tuple[Target | None, Turn]:
        """Write ahead that ``host`` is about to change, or to go ``back``, if it is its turn; the host is ``None`` when it has to wait.

        One that must not be touched is ``failed`` by that, ``lost`` when it was touched before, or ``owed``, and says why. ``given_up``: it
        has waited for long enough. Raises what :meth:`activating` and :meth:`backing_out` do.
        """
        with self._cmdb.begin() as connection:
            turn = self._turn(connection, run, host, now, back)
            if turn.decision is TurnDecision.WAIT:
                if not given_up:
                    return None, turn
                turn = Turn(
                    TurnDecision.REFUSED, f"{turn.why}, which has taken longer than its minutes; look at that one first", turn.partner
                )
            target = (self.backing_out if back else self.activating)(run, host, now, connection)
            if turn.decision is TurnDecision.REFUSED:
                as_before = target.state in redundancy.UNTOUCHED
                state = HostState.OWED if back else HostState.FAILED if as_before else HostState.LOST
                self._move_host(connection, run.deployment, self._target(connection, run.deployment, host), state, now, turn.why)
            return target, turn

    def refuse_misnamed(self, host: str) -> None:
        """Raise :class:`DeviceError` when nobody can know with which others a host is redundant."""
        with self._cmdb.read() as connection:
            fault = self._misnamed(connection, host)
        if fault:
            raise DeviceError(fault)

    def _misnamed(self, connection: sa.Connection, host: str) -> str:
        attributes: Mapping[str, Any] = next((ci["attributes"] for ci in self._cmdb.cis([host], connection)), {})
        names = redundancy.named_in(attributes)
        if names is None:
            return f"redundant_with of the CI {host} is no list of names; correct it in the CMDB"
        there = {str(one["name"]) for one in self._cmdb.cis(names, connection)}
        lacking = [name for name in names if name not in there]
        return f"redundant_with of the CI {host} names {lacking[0]!a:.80}, which the CMDB does not have; correct it" if lacking else ""

    def _turn(self, connection: sa.Connection, run: Run, host: str, now: datetime, back: bool) -> Turn:
        mine = self._target(connection, run.deployment, host)
        fault = self._misnamed(connection, host)
        if fault:
            return Turn(TurnDecision.REFUSED, fault)
        others = self._redundant(connection, run, mine, now)
        well = not others or redundancy.is_well(self._events(connection, run.deployment, host))
        return redundancy.decide_turn(Visit(host, run.deployment, "", mine.state, well), others, back=back)

    def _redundant(self, connection: sa.Connection, run: Run, mine: Target, now: datetime) -> list[Visit]:
        """Those of the CIs redundant with a host that have the turn, or may not be well."""
        t = self._t
        h, d = t.deployment_host.c, t.deployment.c
        states = sorted(redundancy.UNDER_WAY | redundancy.TROUBLED)
        may = sa.select(h.host).distinct().where(sa.text(may_need_a_person("deployment_host.")), h.state.in_(states), h.host != mine.host)
        cis = {str(ci["name"]): ci["attributes"] for ci in self._cmdb.cis([mine.host, *connection.scalars(may)], connection)}
        found = []
        for name in sorted(cis):
            if not redundancy.are_redundant(mine.host, cis.get(mine.host, {}), name, cis[name]):
                continue
            rows = (
                sa.select(t.deployment, h.state.label("host_state"), h.wave)
                .join_from(t.deployment, t.deployment_host)
                .where(h.host == name)
            )
            touched = [
                (deployment_of(row), HostState(row.host_state), row.wave)
                for row in connection.execute(rows.order_by(d.id))
                if row.host_state in _COUNTS and row.state != DeploymentState.CANCELLED
            ]
            of_devices = [one for one in touched if one[0].rollout.firmware or one[0].rollout.hardware]
            busy = [one for one in of_devices if one[1] in redundancy.UNDER_WAY and one[0].state in OPEN]
            for deployment, state, wave in busy or of_devices[-1:]:
                driven = bool(self._driven(connection, deployment, Holder.this_run(), now))
                if deployment.id == run.deployment:  # in another wave nobody goes there now
                    driven = deployment.state is DeploymentState.BACKING_OUT or wave == mine.wave
                well = redundancy.is_well(self._events(connection, deployment.id, name))
                found.append(Visit(name, deployment.id, deployment.label, state, well, driven))
        return found

    # -- steps -------------------------------------------------------------

    def note_step(self, run: Run, host: str, step: str, about: Mapping[str, Any], now: datetime) -> None:
        """Write ahead that the device of ``host`` is about to go through a step."""
        self.note_steps(run, [(host, {"step": step, **about})], now)

    def note_steps(self, run: Run, steps: Sequence[tuple[str, Mapping[str, Any]]], now: datetime) -> None:
        """Write ahead, in one transaction, that the devices of hosts are about to go through a step each; all of them or none."""
        h = self._t.deployment_host.c
        with self._writing(run, now) as (connection, deployment):
            mine = (h.deployment_id == deployment.id, h.host.in_([host for host, _about in steps]))
            waves = {row.host: row.wave for row in connection.execute(sa.select(h.host, h.wave).where(*mine))}
            rows = [
                {"deployment_id": deployment.id, "at": now, "event": FIRMWARE_STEP, "host": host, "wave": waves[host], "data": dict(about)}
                for host, about in steps
            ]
            append_journal(connection, rows)

    def note_read(self, run: Run, host: str, unit: DeviceIdentity, versions: Mapping[str, str], now: datetime, runs: str = "") -> None:
        """Write what the device of ``host`` said to run, by component: to the journal, its CI and its unit in the hardware storage.

        ``runs``: which release that is, see :data:`.readings.RUNS`.
        """
        from ..dhs.assets import record_versions  # noqa: PLC0415 - as for the library in ``actions/host``

        with self._writing(run, now) as (connection, deployment):
            target = self._target(connection, deployment.id, host)
            said = {"model": unit.model, "versions": dict(versions), RUNS: runs}
            self._append(connection, deployment.id, now, FIRMWARE_READ, host, target.wave, said)
            (ci,) = self._cmdb.cis([host], connection)
            recorded = ci["attributes"].get("firmware")
            known = recorded if isinstance(recorded, dict) else {}
            if known != {**known, **versions}:
                row = {"name": host, "attributes": {**ci["attributes"], "firmware": {**known, **versions}}}
                self._cmdb.put_cis([row], deployment.holder, connection=connection)
            record_versions(connection, host, unit.serial, versions, now)

    def steps(self, run: Run, host: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The steps that this deployment has noted of a host's device, in order, each with what was known then."""
        j = self._t.journal.c
        mine = (j.deployment_id == run.deployment, j.host == host, j.event == FIRMWARE_STEP)
        with self._cmdb.read() as connection:
            rows = connection.execute(sa.select(j.data).where(*mine).order_by(j.seq))
            return [(str(row.data["step"]), row.data) for row in rows]


@dataclass
class _Note:
    """A step of a host's device that is to be noted. ``error``: why it could not be."""

    host: str
    about: Mapping[str, Any]
    noted: bool = False
    error: TidegateError | None = None


class SharedFirmwareJournal(FirmwareJournal):
    """The same for many threads, which write one after the other: steps that several want to note meanwhile are one transaction.

    Each goes on when its own step is committed, as it does with a journal of its own.
    """

    def __init__(self, cmdb: Cmdb) -> None:
        super().__init__(cmdb)
        self._turns = threading.RLock()
        self._waiting: deque[_Note] = deque()  # whose appends and pops are each one step for all threads

    def note_step(self, run: Run, host: str, step: str, about: Mapping[str, Any], now: datetime) -> None:
        """See :meth:`FirmwareJournal.note_step`."""
        mine = _Note(host, {"step": step, **about})
        self._waiting.append(mine)
        with self._turns:
            if not mine.noted:  # nobody has taken it along
                taken = []
                while self._waiting:
                    taken.append(self._waiting.popleft())
                self._note_all(run, taken, now)
        if mine.error is not None:
            raise mine.error

    def _note_all(self, run: Run, notes: Sequence[_Note], now: datetime) -> None:
        try:
            self.note_steps(run, [(note.host, note.about) for note in notes], now)
        except TidegateError:
            for note in notes:  # none is written: each hears what is wrong with its own
                try:
                    self.note_steps(run, [(note.host, note.about)], now)
                except TidegateError as error:
                    note.error = error
        for note in notes:
            note.noted = True

    @contextmanager
    def in_one(self) -> Iterator[None]:
        """See :meth:`FirmwareJournal.in_one`."""
        with self._turns, super().in_one():
            yield

    def take_turn(self, *given: Any, **more: Any) -> tuple[Target | None, Turn]:
        """See :meth:`FirmwareJournal.take_turn`."""
        with self._turns:
            return super().take_turn(*given, **more)

    def note_read(self, *given: Any, **more: Any) -> None:
        """See :meth:`FirmwareJournal.note_read`."""
        with self._turns:
            super().note_read(*given, **more)

    def activated(self, *given: Any, **more: Any) -> None:
        """See :meth:`Journal.activated`."""
        with self._turns:
            super().activated(*given, **more)
