# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until somebody writes to a CMDB: PostgreSQL says so, at an SQLite file one has to look now and then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from ..errors import TidegateError
from . import engine as database

with contextlib.suppress(ImportError):
    import psycopg


@contextlib.asynccontextmanager
async def listening(url: str) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
    """Yield what waits for somebody to write, for so many seconds at most. What was committed since this was entered is not missed.

    Raises :class:`TidegateError` when the server can't be reached or goes away.
    """
    address = database.DatabaseAddress.parse(url)
    if address.path is not None:
        yield asyncio.sleep
        return
    source = database.engine(address)  # says it when the driver is missing
    arguments, settings = source.dialect.create_connect_args(address.url)
    settings = {**{name: value for name, value in database.SOCKET.items() if name not in address.url.query}, **settings}
    with _translated(address):
        connection = await psycopg.AsyncConnection.connect(*arguments, autocommit=True, **settings)
    async with connection:
        with _translated(address):
            await connection.execute(f"LISTEN {database.WRITES}")

        async def wait(seconds: float) -> None:
            with _translated(address):
                async for _said in connection.notifies(timeout=seconds, stop_after=1):
                    pass

        yield wait


@contextlib.contextmanager
def _translated(address: database.DatabaseAddress) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise TidegateError(
            f"the CMDB {address.label} can't be listened to: {address.masked(str(error))}; check its address and that it runs"
        ) from error
