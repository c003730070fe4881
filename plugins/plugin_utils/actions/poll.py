# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often Ansible's main process looks for what its workers have done.

It does so a thousand times a second, which takes a twentieth of a core for as long as a host needs, from everything else that the
controller does; with fifty hosts at once it is four times that, for it looks at each worker. A deployment has few tasks that take long.
"""

from __future__ import annotations

from ansible import constants as C

_NAME = "DEFAULT_INTERNAL_POLL_INTERVAL"
_SECONDS = 0.005
_DEVICES = 0.02


def poll_less(devices: bool = False) -> None:
    """Have the main process look two hundred times a second, unless ``internal_poll_interval`` says something else in an ansible.cfg.

    ``devices``: fifty times, for the workers wait for devices, which take seconds at the least.
    """
    # Ansible has no variable or option for it. Where a later one has no such name this changes nothing.
    if _NAME in C.config.get_configuration_definitions() and C.config.get_config_value_and_origin(_NAME)[1] == "default":
        setattr(C, _NAME, _DEVICES if devices else _SECONDS)
