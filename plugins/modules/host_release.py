#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The half of staging, activation, confirmation and back-out that runs on the managed host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_release
short_description: Stage, activate, confirm or back out a release on this host
version_added: 0.1.0
description:
  - What M(tidegate.release.stage), M(tidegate.release.activate), M(tidegate.release.confirm) and M(tidegate.release.backout) run on the
    managed host.
  - It takes its orders from their journal. Use those instead of calling it yourself.
author:
  - Tidegate maintainers (@tidegate)
options:
  operation:
    description: What to do.
    type: str
    required: true
    choices: [stage, activate, confirm, backout]
  root:
    description: Directory on the host that holds every release's home.
    type: path
    required: true
  name:
    description: Name of the release.
    type: str
    required: true
  digest:
    description: Digest of the package.
    type: str
    required: true
  deployment:
    description: Which deployment gives the order.
    type: str
    required: true
  token:
    description: Fencing token of the controller. A lower one than the host has seen is refused.
    type: int
    required: true
  settings:
    description:
      - This host's values for the settings that the release declares, an object in JSON. As one text it can be kept out of what Ansible
        prints and logs without a hole in every sentence that has a 1 in it.
    type: str
  previous:
    description: Digest of the release to go back to; left out when there was none.
    type: str
  stable:
    description:
      - For how many seconds a release that came up has to stay healthy, for O(operation=activate) and O(operation=confirm).
      - Unless it is 0, a process stays on the host after O(operation=activate) that looks at the health checks twice a second until
        O(operation=confirm), or for a minute longer than this.
    type: float
    default: 0
  documents:
    description: >-
      Manifest, config and file index of the package, each compressed with zlib and in base64; for O(operation=stage). Otherwise those of
      the package that the host named when it answered V(lacking).
    type: list
    elements: str
    default: []
  pack:
    description: A file on the host with the pieces that it lacked when it was asked without, of the package that O(documents) are of.
    type: path
  contents:
    description: The same as O(pack), itself and in base64.
    type: str
  mirror:
    description: Where to fetch what the host lacks when it is given neither O(pack) nor O(contents); for O(operation=stage).
    type: str
  supply:
    description:
      - Whether whoever gives the order brings what the host lacks to put a damaged release right. The host then answers V(lacking) and
        waits for the same order with it; otherwise it goes by its own good copies, or says by file what it has none of.
      - For O(operation=activate) and O(operation=backout).
    type: bool
    default: false
  share:
    description: Whether contents that the host has are linked and not copied; for O(operation=stage).
    type: bool
    default: false
  keep:
    description: How many releases stay on the host; for O(operation=stage).
    type: int
    default: 3
  protect:
    description: Digests of releases that stay whatever O(keep) says; for O(operation=stage).
    type: list
    elements: str
    default: []
  patience:
    description: Seconds to wait for an operation that is still under way on the host.
    type: float
    default: 120
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: none
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
seealso:
  - module: tidegate.release.stage
  - module: tidegate.release.activate
  - module: tidegate.release.confirm
  - module: tidegate.release.backout
"""

EXAMPLES = r"""
- name: Go back to the release before by hand, when no controller is left
  tidegate.release.host_release:
    operation: backout
    root: /opt/tidegate
    name: pypiserver
    digest: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
    previous: sha256:0f343b0931126a20f133d67c2b018a3b5f4c1bd1f6a4c9f2e6d1f4c3b2a19087
    deployment: by hand
    token: 1
"""

RETURN = r"""
state:
  description: >-
    V(staged), V(started), V(active), V(backed_out); V(lacking) when the host needs more to do it; V(failed) when the release did not come
    up, or did not last, and the host is back on what it had; V(stuck) or V(owed) when that did not come up either, or there was none and
    the release that left still answers; V(refused) when nothing was touched and the module failed with the reason.
  type: str
  returned: success, or when the step was refused
  sample: active
detail:
  description: >-
    Why it did not succeed, or what is to be known where it did, such as that the release before could not be stopped; in one line. Further
    lines are the last ones of the release's logs.
  type: str
  returned: when RV(state) is V(failed), V(stuck) or V(owed), or there is something to be known
  sample: "health check 'answers' did not pass within 20 s: connection refused"
need:
  description: >-
    The sha256s of the pieces that the host lacks, contents or chunks of large ones. None for O(operation=activate) and
    O(operation=backout) when it lacks the documents.
  type: list
  elements: str
  returned: when RV(state) is V(lacking)
package:
  description: The digest of the package whose documents and pieces the host lacks.
  type: str
  returned: when RV(state) is V(lacking), for O(operation=activate) and O(operation=backout)
repaired:
  description: The paths of the release that is live now which were not as archived and were put right; C(.) is its tree itself.
  type: list
  elements: str
  returned: when there were any
damaged:
  description: Whether going back failed because files of the previous release are not as archived, and the host has no good copy.
  type: bool
  returned: when RV(state) is V(stuck) before a hook of the previous release was run
reason:
  description: Why the release did not come up.
  type: str
  returned: with RV(damaged)
removed:
  description: The ids of the releases that were removed from the host to make room.
  type: list
  elements: str
  returned: when O(operation=stage) and the release was not staged already
sent:
  description: How many pieces the host lacked.
  type: int
  returned: when O(operation=stage) and the release was not staged already
reused:
  description: How many contents the host had already.
  type: int
  returned: when O(operation=stage) and the release was not staged already
mirror:
  description: How many C(bytes) came from the mirror, and the C(problem) why not all that was needed did.
  type: dict
  returned: when O(mirror) was asked
clock:
  description: What the host's clock says, in seconds since 1970 in UTC.
  type: float
  returned: success
live:
  description: Version and digest of what was live when the release was staged; null when nothing was.
  type: dict
  returned: when O(operation=stage)
version:
  description: The version that is live now, or should be when RV(state) is V(stuck) or V(owed); null when there is none.
  type: str
  returned: when O(operation=activate), O(operation=confirm) or O(operation=backout)
"""

import base64
import gc
import io
import json
import os
import signal
import time
import zlib
from typing import Any, BinaryIO, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError, ReleaseHome, Texts

# Each operation imports what it needs: a host compiles its half anew each time.
# ruff: noqa: PLC0415


def run(params: dict[str, Any]) -> dict[str, Any]:
    home = ReleaseHome(params["root"], params["name"])
    with home.locked(params["patience"]):
        if params["operation"] == "stage":
            return run_stage(home, params)
        from ansible_collections.tidegate.release.plugins.module_utils.activation import Order, activate, back_out, confirm
        from ansible_collections.tidegate.release.plugins.module_utils.repair import Lacking, Supplies

        supplies = Supplies(documents(params) if params["documents"] else None, pack(home, params), params["supply"])
        order = Order(params["deployment"], params["token"], settings(params), supplies, stable=params["stable"])
        do = {"activate": activate, "confirm": confirm, "backout": back_out}[params["operation"]]
        try:
            return do(home, params["digest"], params["previous"], order)
        except Lacking as lacking:
            return lacking.answer


def run_stage(home: ReleaseHome, params: dict[str, Any]) -> dict[str, Any]:
    from ansible_collections.tidegate.release.plugins.module_utils.staging import stage

    mirror = None
    if params["mirror"]:
        from ansible_collections.tidegate.release.plugins.module_utils.mirror import Mirror

        mirror = Mirror(params["mirror"])
    return stage(
        home,
        params["digest"],
        documents(params),
        pack(home, params),
        params["keep"],
        params["protect"],
        params["token"],
        params["deployment"],
        mirror,
        params["share"],
    )


def settings(params: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(params["settings"] or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HostError("settings must be an object in JSON")
    return found


def documents(params: dict[str, Any]) -> Texts:
    try:
        return Texts(*(zlib.decompress(base64.b64decode(text)) for text in params["documents"]))
    except (TypeError, ValueError, zlib.error):
        raise HostError("documents must be manifest, config and file index, each compressed with zlib and in base64") from None


def pack(home: ReleaseHome, params: dict[str, Any]) -> Optional[BinaryIO]:
    if params["pack"]:
        descriptor = os.open(params["pack"], os.O_RDONLY | os.O_NOFOLLOW)
        if os.path.dirname(os.path.normpath(params["pack"])) == str(home.staging):
            os.unlink(params["pack"])  # of no use to anybody else, and in the way there
        return open(descriptor, "rb")
    if params["contents"] is None:
        return None
    try:
        return io.BytesIO(base64.b64decode(params["contents"], validate=True))
    except ValueError:
        raise HostError("contents must be a pack in base64") from None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "operation": {"type": "str", "required": True, "choices": ["stage", "activate", "confirm", "backout"]},
            "root": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "digest": {"type": "str", "required": True},
            "deployment": {"type": "str", "required": True},
            "token": {"type": "int", "required": True, "no_log": False},
            "settings": {"type": "str", "no_log": True},
            "previous": {"type": "str"},
            "stable": {"type": "float", "default": 0},
            # Not secret, but nobody wants them in the system's log or sent back with the answer.
            "documents": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "pack": {"type": "path"},
            "contents": {"type": "str", "no_log": True},
            "mirror": {"type": "str"},
            "supply": {"type": "bool", "default": False},
            "share": {"type": "bool", "default": False},
            "keep": {"type": "int", "default": 3},
            "protect": {"type": "list", "elements": "str", "default": []},
            "patience": {"type": "float", "default": 120},
        },
    )
    gc.disable()  # it ends before there is much to collect, and looking takes a tenth of its time
    # Finish even when the connection breaks; a handler, unlike ignoring, is not passed on to hooks and the services they start.
    signal.signal(signal.SIGHUP, lambda _signum, _frame: None)
    try:
        result = run(module.params)
    except HostError as error:
        module.fail_json(msg=str(error), state="refused")
    except OSError as error:
        what = error.strerror or error
        module.fail_json(
            msg=f"{error.filename or module.params['root']}: {what}; check the permissions and the file system", state="refused"
        )
    module.exit_json(clock=time.time(), **result)


if __name__ == "__main__":
    main()
