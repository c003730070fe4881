# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the database still refuses changes to what is append-only: the triggers that the migrations made are there, and no others."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

# The beginning of the sha256 of each one's definition, see _definitions.
_MADE = {
    "sqlite": {
        "history_refuses_delete": "42f4471b5c7b6bc6",
        "history_refuses_replace": "ad064e7f083faba9",
        "history_refuses_update": "2643617be814fa62",
        "journal_archive_refuses_delete": "077e93c7197999fa",
        "journal_archive_refuses_replace": "48c79cee21862cb0",
        "journal_archive_refuses_update": "09da15bf83f70600",
        "journal_refuses_delete": "d44978ca5f2d1c8e",
        "journal_refuses_replace": "7b2841f8639c568a",
        "journal_refuses_update": "b2af495da0bbb8a5",
    },
    "postgresql": {
        "history_append_only": "c65551f37a69d573",
        "journal_append_only": "c44b0468a7ab3dfd",
        "journal_archive_append_only": "2ac2350c76c2cd6e",
        "journal_refuses_delete": "c94a6270245e3dd2",
    },
}
_SQLITE = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('history', 'journal', 'journal_archive')"
_POSTGRESQL = """
SELECT tgname, tgenabled::text || ' ' || pg_get_triggerdef(t.oid, true) || ' ' || prosrc
FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_proc p ON p.oid = tgfoid
WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace AND relname IN ('history', 'journal', 'journal_archive')
"""


def trigger_faults(connection: sa.Connection) -> Iterator[str]:
    """A sentence for each trigger that is gone, was changed or switched off, or that the migrations did not make."""
    made, found = _MADE[connection.dialect.name], _definitions(connection)
    for name in sorted(made.keys() | found.keys()):
        if name not in found:
            yield f"the trigger {name} is gone, so what is append-only can be changed"
        elif name not in made:
            yield f"the trigger {name:.100} is on what is append-only, and no migration made it"
        elif found[name] != made[name]:
            yield f"the trigger {name} is not as its migration made it"


def _definitions(connection: sa.Connection) -> dict[str, str]:
    rows = connection.exec_driver_sql(_SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL)
    return {name: hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16] for name, text in rows}
