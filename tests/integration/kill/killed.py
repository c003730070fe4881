# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command whose controller is killed with SIGKILL at a write to the journal.

Usage: killed.py EVENT HOST WHEN WHOM COMMAND...

EVENT and HOST ('' for any, - for none) choose the write; WHEN is `before` its commit or so many seconds after it; WHOM is `main` (the
ansible-playbook process, its workers are orphaned) or `group` (all of it). Ends with 0 only if the command was killed that way.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> int:
    event, host, when, whom, *command = sys.argv[1:]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
        "KILL_EVENT": event,
        "KILL_HOST": host,
        "KILL_WHEN": when,
        "KILL_WHOM": whom,
    }
    status = subprocess.run(command, env=environment, start_new_session=True, check=False, timeout=300).returncode
    if status == -signal.SIGKILL:
        return 0
    print(f"the command was not killed at {event} {host}, it ended with {status}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
