# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.engine import DatabaseAddress
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2@db/cmdb",
        "postgresql://me:hunter2@db/cmdb",
        "postgresql://me@db/cmdb?password=hunter2",
        "postgresql://me@db/cmdb?password=hunter2&sslpassword=hunter2",
    ],
)
def test_no_message_has_the_password(url: str) -> None:
    address = DatabaseAddress.parse(url)
    assert address.label == "postgresql://db/cmdb"
    assert "hunter2" not in address.masked("connection with password=hunter2\nfailed")


def test_a_percent_encoded_password_is_masked_in_both_forms() -> None:
    address = DatabaseAddress.parse("postgresql://me:p%40ss%2Fword@db/cmdb")
    assert address.masked("p@ss/word or p%40ss%2Fword") == "*** or ***"


@pytest.mark.parametrize(
    "url", ["mysql://me:hunter2@db/cmdb", "://me:hunter2@db", "postgresql://me:hunter2@db:port/x", "sqlite://", "oracle://x"]
)
def test_an_address_that_can_t_be_a_cmdb_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(TidegateError) as caught:
        DatabaseAddress.parse(url)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["/srv/cmdb.sqlite", "sqlite:////srv/cmdb.sqlite"])
def test_a_path_and_its_url_are_the_same_cmdb(text: str) -> None:
    assert DatabaseAddress.parse(text).label == "/srv/cmdb.sqlite"
