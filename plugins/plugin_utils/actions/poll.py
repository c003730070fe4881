# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often Ansible's main process looks for what its workers have done.

It does so a thousand times a second, which takes a twentieth of a core for as long as a host needs, from everything else that the
controller does. A deployment has few tasks that take long.
"""

from __future__ import annotations

from ansible import constants as C

_NAME = "DEFAULT_INTERNAL_POLL_INTERVAL"
_SECONDS = 0.005


def poll_less() -> None:
    """Have the main process look two hundred times a second, unless ``internal_poll_interval`` says something else in an ansible.cfg."""
    # Ansible has no variable or option for it. Where a later one has no such name this changes nothing.
    if _NAME in C.config.get_configuration_definitions() and C.config.get_config_value_and_origin(_NAME)[1] == "default":
        setattr(C, _NAME, _SECONDS)
