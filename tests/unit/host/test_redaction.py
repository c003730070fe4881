# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A setting's value is found in whatever form it is printed, and what is no secret stays readable."""

from __future__ import annotations

import base64
import html
import json
import shlex
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor, Stream

PLAIN = "canary-7f3a9b1c"
SIGNS = "ca!n&a(r)y'7f<3a>9b*1c=/~;,@:$+`=="
ODD = "ca'n \"ary\\$&/%<é>\t#7"
PEM = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA7f3a9b1c\nq83vEjRWeJq83vEjRWeJ\n-----END KEY-----\n"


def wrapped(text: str, width: int, end: str = "\n") -> str:
    return end.join(text[start : start + width] for start in range(0, len(text), width))


def escaped(text: str, signs: str) -> str:
    """JSON as those write it that mind pages: these signs as numbers, letters as they are."""
    plain = json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', "\\u0022" if '"' in signs else '\\"')
    return "".join(f"\\u{ord(sign):04X}" if sign in signs else sign for sign in plain)


FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "JSON": json.dumps,
    "JSON with letters": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON in a page": lambda text: json.dumps(text).replace("/", "\\/"),
    "Python": repr,
    "Python's ASCII": ascii,
    "Python's dictionary": lambda text: str({"setting": text}),
    "shell": shlex.quote,
    "dash -x": lambda text: subprocess.run(["sh", "-xc", ": $0", text], capture_output=True, check=True, text=True).stderr,
    "bash -x": lambda text: subprocess.run(["bash", "-xc", ': "$0"', text], capture_output=True, check=True, text=True).stderr,
    "printf %q": lambda text: subprocess.run(["bash", "-c", 'printf %q "$0"', text], capture_output=True, check=True, text=True).stdout,
    "URL": urllib.parse.quote,
    "URL's argument": urllib.parse.quote_plus,
    "URL, all of it": lambda text: urllib.parse.quote(text, safe=""),
    "URL in lower case": lambda text: urllib.parse.quote(text, safe="").lower(),
    "HTML": html.escape,
    "hexadecimal": lambda text: text.encode().hex(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 behind 1": lambda text: base64.b64encode(b"a" + text.encode() + b"z").decode(),
    "base64 behind 2": lambda text: base64.b64encode(b"ab" + text.encode() + b"yz").decode(),
    "base64 behind 3": lambda text: base64.b64encode(b"abc" + text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(b"a" + text.encode()).decode(),
    "basic authentication": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "wrapped base64": lambda text: base64.encodebytes(text.encode()).decode(),
    "wrapped basic authentication": lambda text: base64.encodebytes(f"user:{text}".encode()).decode(),
    "wrapped base64 of openssl": lambda text: wrapped(base64.b64encode(f"ab{text}".encode()).decode(), 64),
    "wrapped hexadecimal": lambda text: wrapped(f"user:{text}".encode().hex(), 60),
    "wrapped by a terminal": lambda text: wrapped(text, 7, "\r\n"),
    "JSON of Go": lambda text: escaped(text, "<>&"),
    "JSON of Gson": lambda text: escaped(text, "<>&='"),
    "JSON of .NET": lambda text: escaped(text, "<>&'\"+`"),
    "URL of JavaScript": lambda text: urllib.parse.quote(text, safe="-_.!~*'()"),
    "URL of JavaScript, all of it": lambda text: urllib.parse.quote(text, safe="-_.!~*'();/?:@&=+$,#"),
    "URL of Go": lambda text: urllib.parse.quote(text, safe="$&+=:@"),
    "URL of Java": lambda text: urllib.parse.quote_plus(text, safe="*").replace("~", "%7E"),
    "HTML of Go": lambda text: html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
}


@pytest.mark.parametrize("value", [PLAIN, SIGNS, ODD, PEM, "ünïcödé-7f3a", "two words of it", "x" * 300 + "7"], ids=ascii)
@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_value_is_left(form: str, value: str) -> None:
    redactor = Redactor({"password": value})
    printed = FORMS[form](value)
    shown = redactor.text(f"before {printed} behind")
    assert shown.startswith("before ")
    assert shown.endswith(" behind")
    assert "${password}" in shown
    digits = [part for part in printed.replace("\n", " ").split() if len(part) > 12 and part in shown]
    assert digits == [], shown


@pytest.mark.parametrize(
    "settings",
    [
        {"it": PLAIN},
        {"it": {"deep": [{"in": PLAIN}]}},
        {"it": [1, PLAIN]},
        {"it": f"postgresql://app:{PLAIN}@db.example:5432/app"},
        {"it": f"https://{PLAIN}@git.example/x.git"},
        {"it": f"https://hooks.example/services/{PLAIN}?a=b"},
        {"it": f"https://hooks.example/a?token={PLAIN}&x=1"},
        {"it": f"https://{PLAIN}.example/a"},
        {"it": f"host=db user=app password={PLAIN}"},
        {"it": f"first line\n{PLAIN}\nlast line"},
        {"it": f"  {PLAIN}\n"},
        {"it": {PLAIN: "alice"}},
        {"it": [{"users": {"bob": {PLAIN: None}}}]},
        {"it": f'{{"auths": {{"r.example": {{"auth": "{PLAIN}"}}}}}}'},
        {"it": f"amqp://a:other-1@h1:5672,amqp://a:{PLAIN}@h2:5672"},
        {"it": f"db: x\npassword = '{PLAIN}'\n"},
        {"it": f"export DB_PASS={PLAIN}\nexport X=1"},
        {"it": f"Server=db;Pwd={{{PLAIN}}};"},
        {"it": f"Bearer {PLAIN}"},
        {"it": "Basic " + base64.b64encode(f"bob:{PLAIN}".encode()).decode()},
        {"it": base64.b64encode(PLAIN.encode()).decode()},
    ],
    ids=str,
)
def test_a_value_is_found_wherever_the_settings_have_it(settings: dict[str, Any]) -> None:
    redactor = Redactor(settings)
    assert redactor.text(f"curl: {PLAIN} refused") in ("curl: ${it} refused", f"curl: {PLAIN} refused".replace(PLAIN, "${it}"))
    for leaf in (settings["it"],):
        if isinstance(leaf, str):
            assert PLAIN not in redactor.text(f"it was {leaf}")


def test_a_url_without_its_query_is_a_part_of_its_value() -> None:
    redactor = Redactor({"hook": f"https://hooks.example:8443/services/{PLAIN}?a=b"})
    assert redactor.text(f"https://hooks.example:8443/services/{PLAIN} answered 404") == "${hook} answered 404"


def test_a_number_is_a_value_too() -> None:
    assert Redactor({"code": 90412345}).text("code 90412345, not 904123456") == "code ${code}, not ${code}6"


def test_what_messages_cannot_do_without_stays() -> None:
    harmless = {"address": "192.0.2.1", "six": "2001:db8::1%eth0", "port": 8080, "on": True, "workers": "12", "level": "debug", "no": None}
    text = "http://192.0.2.1:8080/ and [2001:db8::1%eth0]: debug 12 True None 8080"
    assert Redactor({**harmless, "here": "localhost"}).text(text) == text


def test_a_short_value_is_a_word_and_not_a_part_of_one() -> None:
    redactor = Redactor({"stage": "staging", "password": "x1y2"})
    assert redactor.text("staging, staging-2, restaging, x1y2 ax1y2") == "${stage}, ${stage}-2, restaging, ${password} ax1y2"


@pytest.mark.parametrize("settings", [{"db": {"password": "x1y2"}}, {"db": [{"api_token": ["x1y2"]}]}, {"secrets": {"db": "x1y2"}}])
def test_a_short_secret_is_known_by_a_name_inside_of_its_setting(settings: dict[str, Any]) -> None:
    assert "x1y2" not in Redactor(settings).text("login with x1y2 failed")


@pytest.mark.parametrize("value", ["gehé-im'nis", 'gehé-im"nis\\x'])
def test_a_shell_in_the_plain_locale_quotes_a_value_in_octal(value: str) -> None:
    command = ["bash", "-c", 'printf "%q" "$1"', "bash", value]
    quoted = subprocess.run(command, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, check=True).stdout
    assert b"\\303\\251" in quoted
    assert b"im" not in Redactor({"password": value}).data(quoted)


@pytest.mark.parametrize(
    ("value", "telling"),
    [
        ("db-hidden.internal:5432", ["db-hidden.internal"]),
        ("rita:geheim99@db-hidden.internal:5432/orders", ["geheim99", "db-hidden.internal", "rita:geheim99"]),
        ("rita:geheim99@db-hidden.internal/orders", ["geheim99", "db-hidden.internal"]),
        ("db-hidden.internal:5432/orders?sslpassword=geheim99", ["geheim99", "db-hidden.internal"]),
    ],
)
def test_the_parts_of_an_address_without_a_scheme_are_known_too(value: str, telling: list[str]) -> None:
    redactor = Redactor({"database": value})
    for part in telling:
        assert part not in redactor.text(f"can't connect to http://{part}:80/x with {part}")


def test_of_two_values_the_longer_one_is_taken() -> None:
    redactor = Redactor({"short": PLAIN, "long": f"{PLAIN}-and-more"})
    assert redactor.text(f"{PLAIN}-and-more {PLAIN}") == "${long} ${short}"


def test_a_strange_name_is_not_shown() -> None:
    assert Redactor({"a\x1b[0m": PLAIN}).text(PLAIN) == "${...}"


@pytest.mark.parametrize("size", range(1, 20))
def test_a_value_that_comes_in_pieces_is_found(size: int) -> None:
    stream = Stream(Redactor({"password": PLAIN, "other": "canary-8"}))
    text = f"a canary, a {PLAIN}{PLAIN} and can\n".encode()
    shown = b"".join(stream.feed(text[start : start + size]) for start in range(0, len(text), size)) + stream.feed(b"")
    assert shown == b"a canary, a ${password}${password} and can\n"


def test_a_line_that_is_whole_is_not_held_back() -> None:
    assert Stream(Redactor({"password": PLAIN})).feed(b"up and running\n") == b"up and running\n"


def test_much_output_takes_little_time() -> None:
    redactor = Redactor({f"setting_{number}": f"value-of-setting-{number}" for number in range(20)})
    began = time.process_time()
    for _block in range(16):
        redactor.data(b"a line of a log that says nothing\n" * 2000)
    assert time.process_time() - began < 2  # of this process; for a megabyte


def test_a_password_is_known_as_it_is_sent_when_an_address_has_it_encoded() -> None:
    assert Redactor({"database": "https://bob:p%40ss%2Fw@h.example/x"}).text("refused p@ss/w") == "refused ${database}"


@pytest.mark.parametrize("value", ["postgresql://app:x1y2@db", "app:x1y2@db", "password=x1y2 host=db"])
def test_a_short_password_within_a_value_is_one_too(value: str) -> None:
    assert Redactor({"database": value}).text("login with x1y2 failed") == "login with ${database} failed"


def test_what_an_entry_is_called_stays_readable() -> None:
    settings = {"limits": {"max_connections": 1, "443": 4}, "passwords": {"database": "hidden-1"}}
    text = "max_connections 443 database"
    assert Redactor(settings).text(text) == text
    assert Redactor({"users": {"alice-7": "x"}}).text("alice-7") == "${users}"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 5, 13])
def test_a_value_in_several_lines_is_found_in_pieces(size: int, end: str) -> None:
    secret = "a1B2c3D4e5" * 9
    stream = Stream(Redactor({"token": secret}))
    text = f"x {wrapped(secret, 60, end)} y{end}".encode()
    shown = b"".join(stream.feed(text[start : start + size]) for start in range(0, len(text), size)) + stream.feed(b"")
    assert shown == f"x ${{token}} y{end}".encode()


def test_a_line_that_ends_with_the_first_letter_of_a_value_is_not_held_back() -> None:
    assert Stream(Redactor({"password": PLAIN})).feed(b"up and runninc\n") == b"up and runninc\n"
