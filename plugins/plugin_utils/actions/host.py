# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the per-host actions share: the journal they write to and the call to the host's half."""

from __future__ import annotations

import contextlib
import functools
import shlex
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ...module_utils.redaction import Redactor
from ..clock import utc_now
from ..cmdb.store import Cmdb
from ..errors import TidegateError
from ..files import locked
from ..rfc.source import rfc_number
from ..rollout.deployments import Deployment, Target
from ..rollout.holder import Holder
from ..rollout.host_answer import Answer, MalformedAnswerError, parse_answer, printable
from ..rollout.journal import Journal
from ..rollout.leftovers import mark
from ..rollout.readings import BEFORE, NEW
from ..settings import required_setting
from .base import TidegateAction
from .host_program import NoAnswerError, run_on_host
from .interrupt import interrupted
from .keepalive import keep_alive, prefer_fast
from .variables import host_settings

# What reads the library is imported when something is sent: activate and backout are imported anew for each host and seldom need it.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from ..dsl.hardware import PartChange
    from ..dsl.shipment import Shipment
    from ..firmware.device import Device
    from ..rollout.firmware_journal import FirmwareJournal
    from ..rollout.outside_journal import OutsideJournal
    from ..rollout.redundancy import Turn, Visit
    from .firmware import FirmwareHost

# The host may find that something it had a moment ago is not there any more, and may lack of two releases documents and pieces.
_ROUNDS = 6
_PART = 16 << 20  # bytes of a pack that are held in memory, by each fork, and sent at once
_RENEWAL = 60.0  # seconds after which a lease is renewed, which is for ten minutes
_LISTED = 5  # paths that a message names


def _also(detail: str, more: str) -> str:
    """Both in one line, and then the further lines of both, which are those of logs."""
    (first, *logs), (second, *others) = detail.split("\n"), more.split("\n")
    return "\n".join(("; ".join(filter(None, (first, second))), *logs, *others))


class NoAnswer(TidegateError):
    """The host's half did not end in a proper answer, so what it did is unknown."""


class HostAction(TidegateAction):
    """Base of stage, activate, confirm and backout: one task per host, write-ahead, the outcome to the journal.

    ``step`` names the operation. The host's true state may be unknown after a lost connection, so that is journalled too
    before Ansible marks the host unreachable.
    """

    homes = ("rfc", "cmdb")
    per_host = True
    step: str
    begins = True  # whether it is not begun once somebody has interrupted the run
    pushed = 0  # bytes of packs that were sent
    fresh = False  # whether nobody has been on the host, who would have left the program there

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        stop = interrupted()
        if stop and self.begins:
            return self.not_begun(stop)
        self._host = str(task_vars["inventory_hostname"])
        if self._task.check_mode:
            return {"skipped": True, "msg": "in check mode no host is visited"}
        self._task_vars = task_vars
        if "settings" in options and self._task.args.get("settings") is None:
            options = {**options, "settings": self._own_settings(task_vars)}
        self.options = options
        keep_alive(self._connection)
        prefer_fast(self._connection, task_vars)
        with Cmdb.open(required_setting(options, "cmdb")) as cmdb:
            self._cmdb = cmdb
            journal = Journal(cmdb)
            deployment = journal.driven_by(rfc_number(required_setting(options, "rfc")), Holder.this_run())
            self._run = deployment.run
            try:
                with self._lease_kept() if self._run.epoch is not None else contextlib.nullcontext():
                    return self.visit(journal, deployment)
            except AnsibleConnectionFailure as error:
                why = self._redactor.text(str(error))
                self.lost(journal, f"the connection was lost: {why}")
                raise AnsibleConnectionFailure(why) from None
            except NoAnswer as error:
                detail = self._redactor.text(str(error))
                return self.outcome({}, self.lost(journal, detail), detail)

    @contextlib.contextmanager
    def _lease_kept(self) -> Iterator[None]:
        """Renew the lease of a controller of several as long as this takes: the others go on without one whose lease is over."""
        ended, url = threading.Event(), required_setting(self.options, "cmdb")

        def keep() -> None:
            while not ended.wait(_RENEWAL):
                with contextlib.suppress(TidegateError), Cmdb.open(url) as cmdb:
                    Journal(cmdb).renew(self._run, utc_now())

        thread = threading.Thread(target=keep, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def await_others(self, journal: Journal) -> None:
        """Wait until the other controllers have taken back their hosts of later waves: the first of a wave does, for all of its hosts."""
        from ..rollout.slice_journal import SliceJournal
        from ..steps import slices

        constants: Any = C
        run, wave = self._run, journal.target(self._run, self._host).wave
        passed = Path(constants.DEFAULT_LOCAL_TMP) / f"tidegate-back-{run.deployment}-{run.token}-{wave}"
        with locked(passed.with_suffix(".lock")):
            if not passed.exists():
                slices.await_back_out(SliceJournal(self._cmdb), run, wave, slices.Waiting(utc_now, interrupted))
                passed.touch()

    def not_begun(self, stop: str) -> dict[str, Any]:
        """The task's result when a host was neither tried nor failed: the journal has it as it was, and the gate holds."""
        return {"changed": False, "skipped": True, "skip_reason": stop, "msg": f"it was not begun: {stop}"}

    def visit(self, journal: Journal, deployment: Deployment) -> dict[str, Any]:
        """Do the step on this host and journal how it went."""
        raise NotImplementedError

    def lost(self, journal: Journal, detail: str) -> str:
        """Journal that it is unknown what the host did; return the state that the host has now."""
        raise NotImplementedError

    def _own_settings(self, task_vars: Mapping[str, Any]) -> Mapping[str, Any]:
        return host_settings(self._templar, str(task_vars["inventory_hostname"]), task_vars.get("tidegate_settings"))

    @functools.cached_property
    def _redactor(self) -> Redactor:
        """Knows what nothing that comes from this host may say."""
        return Redactor(self.options.get("settings", {}))

    def call(self, deployment: Deployment, pack: bytes = b"", **arguments: Any) -> Answer:
        """Have the host do the step; the answer has the state ``refused`` and a ``detail`` when it could not and touched nothing.

        ``pack``: what goes with the order. Raises :class:`NoAnswer` when what came back is not the program's or not of its form, so that
        what it did is unknown.
        """
        asked = time.time()
        order = {
            "operation": self.step,
            "root": self.options["root"],
            "name": deployment.release,
            "digest": deployment.digest,
            "deployment": deployment.label,
            "token": self._run.token,
            "packed": bool(pack),
            **arguments,
        }
        try:
            answer = run_on_host(self, order, self._task_vars, pack=pack, along=self.fresh)
        except AnsibleConnectionFailure:
            raise
        except NoAnswerError as error:
            raise NoAnswer(f"it did not answer: {error.last_words(self._redactor)} and run this again") from None
        except AnsibleError as error:
            raise NoAnswer(
                printable(self._redactor.text(f"Ansible could not do the step on the host ({error}); mend the host and run this again"))
            ) from error
        try:
            parsed = parse_answer(order["operation"], answer, self._redactor)
        except MalformedAnswerError as error:
            raise NoAnswer(str(error)) from None
        if "clock" in parsed:
            parsed["skew"] = min(0.0, parsed["clock"] - asked) + max(0.0, parsed["clock"] - time.time())
        return parsed

    def shipment(self, deployment: Deployment, digest: str) -> Shipment:
        """What the run sends of the package ``digest``."""
        from ..dsl.repository import open_library
        from ..dsl.shipment import Shipment

        dsl = required_setting(self.options, "dsl")
        # In the run's own temporary directory: what one worker made there, the others take.
        constants: Any = C
        own = Path(constants.DEFAULT_LOCAL_TMP)
        mark(own)  # a run that is killed leaves its packs
        return Shipment(lambda: open_library(dsl).repository(deployment.release), digest, own / "tidegate-packs")

    def firmware_journal(self) -> FirmwareJournal:
        """The journal of what is done to devices."""
        from ..rollout.firmware_journal import FirmwareJournal

        return FirmwareJournal(self._cmdb)

    def outside_journal(self) -> OutsideJournal:
        """The journal of what is read outside the trees."""
        from ..rollout.outside_journal import OutsideJournal

        return OutsideJournal(self._cmdb)

    def exchanged_parts(self, deployment: Deployment) -> Iterable[PartChange]:
        """The parts that a release of hardware exchanges on each host."""
        from ..dsl.package import load_package_manifest
        from ..dsl.repository import open_library

        home = open_library(required_setting(self.options, "dsl")).repository(deployment.release)
        return load_package_manifest(home, deployment.digest).hardware

    def recorded_firmware(self) -> Mapping[str, Any]:
        """What the CMDB has the host's device to run, by component."""
        with self._cmdb.read() as connection:
            recorded = next((ci["attributes"].get("firmware") for ci in self._cmdb.cis([self._host], connection)), None)
        return recorded if isinstance(recorded, Mapping) else {}

    def await_turn(self, deployment: Deployment, *, back: bool) -> tuple[Target | None, Turn]:
        """Have the turn of this host's device, see :func:`.turn.await_turn`."""
        from ..dsl.repository import open_library
        from .turn import await_turn, seconds_of

        journal = self.firmware_journal()

        def patience(other: Visit) -> float:
            its = journal.deployment(other.deployment)
            library = open_library(required_setting(self.options, "dsl"))
            return seconds_of(library, its, self._model_of(other.host))

        return await_turn(journal, deployment, self._host, patience, interrupted, back=back)

    def _model_of(self, host: str) -> str:
        """Of which model the device of a host is, by the hardware storage or its CI."""
        from ..dhs.assets import machines

        with self._cmdb.read() as connection:
            unit = machines(connection, [host]).get(host)
            said = next((ci["attributes"].get("model") for ci in self._cmdb.cis([host], connection)), None)
        return unit.model if unit is not None else str(said)

    def firmware(self, journal: FirmwareJournal, deployment: Deployment) -> FirmwareHost:
        """The host's device, by the CMDB; raises :class:`DeviceError` when that does not know it."""
        from ..dhs.assets import machines
        from .device import recorded_identity
        from .firmware import FirmwareHost

        constants: Any = C
        with self._cmdb.read() as connection:
            attributes: Mapping[str, Any] = next((ci["attributes"] for ci in self._cmdb.cis([self._host], connection)), {})
            recorded = recorded_identity(self._host, attributes, machines(connection, [self._host]).get(self._host))
        way = functools.partial(self.open_device, recorded)
        return FirmwareHost(self.options, journal, deployment, self._host, recorded, way, Path(constants.DEFAULT_LOCAL_TMP))

    def open_device(self, recorded: Mapping[str, str]) -> contextlib.AbstractContextManager[Device]:
        """The way to the device that is ``recorded`` for the host; see :func:`.device.open_device`."""
        from .device import open_device

        return open_device(recorded, self.options, self)

    def deliver(self, deployment: Deployment, answer: Answer, **arguments: Any) -> Answer:
        """Bring the host what its ``answer`` says it lacks, with the order again, until it says something else or keeps lacking."""
        for _round in range(_ROUNDS):
            if answer["state"] != "lacking":
                break
            from ..dsl.shipment import UnknownPieceError

            digest = answer.get("package", arguments.get("digest", deployment.digest))
            if digest not in (deployment.digest, arguments.get("previous"), arguments.get("digest")):
                raise NoAnswer(f"it asks for the package {digest}, which the order does not name; find out who answers there")
            shipment = self.shipment(deployment, digest)
            try:
                pack = shipment.pack(answer["need"]) if answer["need"] else None
            except UnknownPieceError as error:
                raise NoAnswer(f"it asks for what the release does not have ({error}); find out who answers there") from None
            answer = self.offer(deployment, pack, **{**arguments, "documents": shipment.documents()})
        return answer

    def offer(self, deployment: Deployment, pack: Path | None, **arguments: Any) -> Answer:
        """Have the host do the step with a pack, if there is one: along with the order, or a large one ahead of it."""
        if pack is None:
            return self.call(deployment, **arguments)
        size = pack.stat().st_size
        self.pushed += size
        if size <= _PART:
            return self.call(deployment, pack.read_bytes(), **arguments)
        core: Any = self  # ansible-core has no types for what it calls here
        if core._is_pipelining_enabled("new"):
            remote, problem = self._stream(deployment, pack)
        else:
            shell = core._connection._shell
            remote, problem = shell.join_path(shell.tmpdir or core._make_tmp_path(), pack.name), ""
            core._transfer_file(str(pack), remote)
            core._fixup_perms2([shell.tmpdir, remote], execute=False)
        # The host's half knows best what is wrong there: a link in place of a directory, or no room.
        if problem:
            answer = self.call(deployment, **arguments)
            if answer["state"] == "lacking":
                raise NoAnswer(f"what it lacks could not be written to {remote} ({problem}); mend the file system there and run this again")
            return answer
        return self.call(deployment, **arguments, file=remote)

    def _stream(self, deployment: Deployment, pack: Path) -> tuple[str, str]:
        """Write a pack where the host's half takes it from, part by part; return where, and why not if that does not work there.

        No other place is sure to have room for it, or to be there: a user who logs in may have no home.
        """
        path = f"{self.options['root']}/{deployment.release}/staging"
        remote = f"{path}/{pack.name}"
        home, staging, file = (shlex.quote(name) for name in (f"{self.options['root']}/{deployment.release}", path, remote))
        # What is made is made as the host's half makes it; a link in place of a directory is left to it to complain about.
        command = f"umask 022 && mkdir -p {home} && [ ! -L {home} ] && umask 077 && mkdir -p {staging} && [ ! -L {staging} ]"
        core: Any = self
        arrow = ">"
        with pack.open("rb") as stream:
            while part := stream.read(_PART):
                done = core._low_level_execute_command(f"{command} && cat {arrow} {file}", in_data=part)
                if done["rc"] != 0:
                    said = str(done["stderr"]).strip().splitlines() or [f"status {done['rc']}"]
                    return remote, printable(said[-1], 200)
                arrow = ">>"
        return remote, ""

    def switch(self, deployment: Deployment, previous: str | None, **arguments: Any) -> Answer:
        """Have the host make a release live, and bring it what it lacks to put that right; see :meth:`call`.

        What the library does not have either leaves the host to its own good copies.
        """
        arguments = {"previous": previous, "settings": self.options["settings"], **arguments}
        answer = self.call(deployment, supply=True, **arguments)
        problem = "what it lacks keeps changing, find out who writes there"
        try:
            answer = self.deliver(deployment, answer, supply=True, **arguments)
        except NoAnswer:
            raise
        except TidegateError as error:
            problem = f"what it lacks can't be sent: {error}"
        if answer["state"] == "lacking":
            answer = self.call(deployment, **arguments)
            if answer["detail"]:
                answer["detail"] = f"{answer['detail']} ({problem})"
        return answer

    def advance(self, deployment: Deployment, previous: str | None, *, unknown: bool) -> Answer:
        """Have the host go forward; see :meth:`switch` and :meth:`healed`.

        ``unknown``: whether it is not known how an earlier attempt has ended there.
        """
        guarded = {"confirm_within": deployment.rollout.confirm_minutes * 60} if deployment.rollout.guarded else {}
        answer = self.switch(deployment, previous, stable=deployment.rollout.stable, unknown=unknown, **guarded)
        return self.healed(deployment, previous, answer)

    def healed(self, deployment: Deployment, previous: str | None, answer: Answer) -> Answer:
        """The answer of a host that goes forward; one that could not go back for want of good copies gets them now."""
        if answer.get("damaged"):
            back = self.switch(deployment, previous, operation="backout")
            if back["state"] == "backed_out":
                answer = {**answer, "state": "failed", "detail": _also(answer["reason"], back["detail"]), "repaired": back["repaired"]}
            else:  # what it said of files that it lacks need not be so any more
                answer = {**answer, "detail": _also(answer["reason"], f"going back failed too: {back['detail']}")}
        return answer

    def note_outside(self, deployment: Deployment, target: Target, answer: Answer) -> None:
        """Journal what was read outside the trees, of a release whose effect is there."""
        if deployment.rollout.outside and (read := answer.get("read")) is not None:
            known = {"": "", target.previous_digest: BEFORE, deployment.digest: NEW}
            self.outside_journal().note_read(self._run, self._host, read["text"], known.get(read["digest"], ""), utc_now())

    def repaired(self, answer: Answer, detail: str) -> tuple[str, dict[str, Any]]:
        """What to journal of files that were put right, in addition to ``detail``; and the warning for the task's result."""
        paths = answer.get("repaired", [])
        if not paths:
            return detail, {}
        listed = f"{', '.join(paths[:_LISTED])}{f' and {len(paths) - _LISTED} more' if len(paths) > _LISTED else ''}"
        many = "1 file was not as archived and was" if len(paths) == 1 else f"{len(paths)} files were not as archived and were"
        said = f"{many} put right: {listed}"
        return "; ".join(filter(None, (detail, said))), {"warnings": [f"{self._host}: {said}"]}

    def outcome(self, answer: Answer, state: str, detail: str, wave: int | None = None) -> dict[str, Any]:
        """The task's result: failed with one sentence unless ``state`` is what the step is for."""
        result = {
            "changed": bool(answer.get("changed")),
            "state": state,
            "progress": {"step": self.step, "wave": wave, "state": state, "detail": detail},
        }
        if state not in ("staged", "armed", "told", "started", "active", "backed_out"):
            result["failed"] = True
        if detail or result.get("failed"):
            # Ansible names the host of a failure itself.
            result["msg"] = detail if result.get("failed") else f"{self._host}: {detail}"
        return result
