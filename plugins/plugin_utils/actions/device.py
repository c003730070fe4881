# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device of a host: which one it has to be, and the way to it, Redfish where its CI says so and fwupd on the host elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ...module_utils.redaction import Redactor
from ..dhs.units import Unit
from ..errors import TidegateError
from ..firmware.device import Device, DeviceError, DeviceIdentity, SilentError, text
from ..firmware.fwupd import Fwupd, Reply
from ..limits import run_within
from ..rollout.host_answer import printable

_LONGEST = 300  # characters of what Ansible says that a sentence quotes
_ALIVE = 30.0  # seconds of a command after which it is said that somebody is still at work
_Answer = Mapping[str, Any]


def recorded_identity(host: str, attributes: Mapping[str, Any], unit: Unit | None) -> dict[str, str]:
    """How the device of a host is reached, and which one it is: by the hardware storage where that has a ``unit`` for it, else by its CI.

    ``redfish`` is empty for one that is reached through fwupd on its host. Raises :class:`DeviceError` when it is not said which device it
    is, or the two say different things.
    """
    said = {**_way_to_bmc(host, attributes), **{key: text(attributes.get(key)) for key in ("serial", "model", "asset_tag")}}
    if unit is not None:
        for key, recorded in (("serial", unit.serial), ("model", unit.model), ("asset_tag", unit.tag)):
            if said[key] not in ("", recorded):
                what = f"the CI {host} has the {key} {said[key]}, and the hardware storage has {recorded} in it"
                raise DeviceError(f"{what}; find out which unit is there, and correct the other")
            said[key] = recorded
    lacking = [key for key in ("serial", "model") if not said[key]]
    if lacking:
        raise DeviceError(f"the CI {host} has no attribute {', nor '.join(lacking)}, by which its device is known; enter it in the CMDB")
    return said


def open_device(said: Mapping[str, str], options: Mapping[str, Any], action: Any) -> AbstractContextManager[Device]:
    """The device that ``said``, of :func:`recorded_identity`, is reached at; for a ``with`` statement.

    ``options``: has ``redfish_user`` and ``redfish_password``. ``action``: whose task runs on the host, with the connection and the
    privileges that fwupd is asked with; see :class:`ansible.plugins.action.ActionBase`.
    """
    if said["redfish"]:
        # What it is made of takes longer to load, in each fork, than fwupd to answer.
        from ..firmware.redfish import Access, Bmc  # noqa: PLC0415

        user, password = (str(options.get(f"redfish_{name}") or "") for name in ("user", "password"))
        return Bmc(Access(said["redfish"], user, password, said["redfish_fingerprint"]))
    host = _Host(action, Redactor(options.get("settings") or {}))
    return Fwupd(host.run, host.put)


def read_in_place(
    host: str, attributes: Mapping[str, Any], slot: str, serial: str, options: Mapping[str, Any], action: Any
) -> DeviceIdentity | None:
    """What is in a slot of a CI by its BMC, the machine itself for an empty one; ``None`` where nobody can say that.

    ``serial``: that of the machine that should be there. Raises :class:`DeviceError` where something could be read, and is not now.
    """
    where = _way_to_bmc(host, attributes)
    if not where["redfish"]:
        return None
    with open_device(where, options, action) as device:
        return device.part(slot) if slot else device.identity(serial)


def _way_to_bmc(host: str, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Where the BMC of a CI is, empty for none, and how it is known; raises :class:`DeviceError` for what is no address."""
    said = {name: text(attributes.get(name)) for name in ("redfish", "redfish_fingerprint")}
    if attributes.get("redfish") and not said["redfish"]:  # or its host, or people's word, would do where it could be asked
        raise DeviceError(f"the attribute redfish of the CI {host} is no address; write it like https://bmc1.example.org")
    return said


class _Host:
    """The host of an action's task, over Ansible's own connection to it."""

    def __init__(self, action: Any, redactor: Redactor) -> None:
        self._action, self._redactor = action, redactor

    def run(self, argv: Sequence[str], seconds: float, alive: Callable[[], None] | None = None) -> Reply:
        """See :data:`ansible_collections.tidegate.release.plugins.plugin_utils.firmware.fwupd.Run`."""
        action, line = self._action, shlex.join(argv)
        # With something to read it gets no terminal, which would end it with the connection.
        data = b"\n" if action._is_pipelining_enabled("new") else None
        done: _Answer = self._within(seconds, alive, lambda: action._low_level_execute_command(line, in_data=data))
        return Reply(int(done["rc"]), str(done["stdout"]).replace("\r\n", "\n"))

    def put(self, file: Path, seconds: float, alive: Callable[[], None] | None = None) -> str:
        """See :data:`ansible_collections.tidegate.release.plugins.plugin_utils.firmware.fwupd.Put`."""
        action = self._action

        def send() -> str:
            shell = action._connection._shell
            folder = shell.tmpdir or action._make_tmp_path()
            there = str(shell.join_path(folder, "image.cab"))  # whatever its own name is
            action._transfer_file(str(file), there)
            action._fixup_perms2([folder, there], execute=False)
            return there

        return str(self._within(seconds, alive, send))

    def _within(self, seconds: float, alive: Callable[[], None] | None, ask: Callable[[], Any]) -> Any:
        try:
            return run_within(seconds, ask, alive, _ALIVE)
        except TidegateError:  # of whoever is told that we are alive
            raise
        except TimeoutError:
            raise SilentError(f"its host did not do it within {seconds:.0f} s") from None
        except AnsibleConnectionFailure as error:
            raise SilentError(f"its host can't be reached ({self._shown(error)})") from None
        except AnsibleError as error:
            raise DeviceError(f"Ansible can't work on its host ({self._shown(error)})") from None

    def _shown(self, error: AnsibleError) -> str:
        return printable(self._redactor.text(str(error)), _LONGEST)
