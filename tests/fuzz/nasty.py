"""What input goes wrong with: texts, numbers, documents, encodings, and headers that programs trip over."""

# ruff: noqa: E501 - tables

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

# JSON texts that may stand where a value is due; not all of them are JSON.
JSON_TEXTS: Final = (
    "null", "true", "false", "0", "-0", "1", "-1", "0.1", "1.5", "1e3", "1E+2", "1e400", "-1e400", "1e-400", "1e999999",
    "1e99999999999999999999", "NaN", "Infinity", "-Infinity", "01", "+1", ".5", "5.", "0x10", "1_000", "1,5", "--1",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "1" * 70, "9" * 5_000,
    "0." + "0" * 45 + "1", '""', '" "', '"0"', '"-0"', '"-1"', '"1e3"', '"NaN"', '"Infinity"', '"-inf"', '"sNaN"',
    '"0x1"', '"1,000"', '"1_000"', '"\u0663"', '"\u0661\u0660\u0660"', '"\uff11"', '"\u00b2"', '"\u00bd"', '"100.25\\n"', '" 1"', '"1 "', '"\\u00001"',
    '"999999999999999"', '"1000000000000000"', '"0.000000000000000001"', '"1' + "0" * 39 + '"', '"0.' + "3" * 40 + '"',
    '"1.' + "0" * 60 + '"', '"\\ud800"', '"\\udfff\\ud800"', '"a\\udc00b"', '"\\u0000"', '"\\uffff"', '"\\ufeff"', '"\\ud83d\\ude00"',
    '"e\\u0301"', '"\\u202e"', '"\\u2028"', '"\\x41"', '"\\u12"', "'1'", '"unterminated', "[]", "[1]", "[[]]", "{}",
    '{"a": 1}', '{"a": 1, "a": 2}', '{"$ne": null}', '["buy"]', '"buy"', '"BUY"', '"sell "', '"hold"', '"limit"', '"market"',
    '"stop"', '"GTC"', '"FOK"', '"DAY"', '"gtc"', '"ALFA"', '"alfa"', '"NOPE"', '"ALFA\\u0000"', '"ALFA "', '"\uff21\uff2c\uff26\uff21"',
    "\"'; DROP TABLE exchange_order; --\"", '"%s%n%x"', '"{0.__class__}"', '"${jndi:ldap://x}"', '"../../etc/passwd"',
    '"<script>alert(1)</script>"', '"ext-ALFA-000009999-0"', '"ext-"', "undefined", "None", "", ",", ":", "/* */ 1", "1 // x",
    '"\t"', '"\n"', '"\x7f"', '"\x00"', "\x00", "\ufeff1", '"' + "A" * 300 + '"', '"' + "\u00e9" * 70 + '"', "[" * 60 + "]" * 60,
)  # fmt: skip

# Words for places where no JSON is: queries, forms, addresses, names.
WORDS: Final = (
    "", " ", "0", "-1", "1", "00", "1.5", "1e3", "ten", "NaN", "inf", "true", "null", "undefined", "None", "\x00", "a\x00b", "\n",
    "\r\nX-Injected: 1", "\t", "\x1b[31m", "\x7f", "\x85", "\u00e9", "\u00df", "\u0130", "\u0131", "\u0663", "\uff11\uff10", "\u00b2", "\u200b", "\u202e", "\ufeff",
    "\ufffe", "\U0001f600", "\U0010ffff", "e\u0301", "\ud800", "\udfff", "'", '"', "`", "\\", "\\x00", "%", "%s", "%n", "%00",
    "%zz", "%ff", "%25", "%u0041", "{}", "{{7*7}}", "${7*7}", "{0}", "[]", "()", "*", "?", "#", "&", ";", "|", "$(id)", "~", "..",
    "../..", ".", "/", "//", "\\..", "~root", "C:\\", "' OR '1'='1", "1; DROP TABLE x--", "1/**/OR/**/1=1", "<script>", "]]>",
    "<!--", "javascript:alert(1)", "//evil.example", "http://evil.example/", "ALFA", "alfa", "ALFA\x00", "ALFA-1", "A", "A" * 17,
    "A" * 64, "A" * 65, "A" * 300, "9" * 19, "9" * 20, "9" * 400, "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "18446744073709551615", "18446744073709551616-1", "1-1", "1~A", "1~", "~A", "9999999999999999999~A", "1~A'--", "ALFA-000000000001",
    "ALFA-999999999999", "ALFA-00000000000\u0663", "ALFA-X00000000001", "BRAVO-000000000001", "1-99999999999999999999", "-1-1", "0-0",
    "0001-01-01T00:00", "0001-01-01T00:00+23:59", "9999-12-31T23:59:59.999999", "9999-12-31T23:59-23:59", "10000-01-01", "2026-13-01",
    "2026-02-30T00:00", "2026-01-31T24:00", "2026-01-31T09:00Z", "2026-W05-6", "20260131", "1970-01-01T00:00:00+99:99", "now",
    "infinity", "-infinity", "epoch", "today", "buy", "sell", "open", "resting", "filled", "rejected", "limit", "market", "IOC", "GTC",
    "5m", "1h", "24h", "99h", "csv", "__proto__", "constructor", "__class__", "csrfmiddlewaretoken", "id", "pk", "ui-*", "*a", "a*b*",
    "fuzz-*", "x*", "a" * 63 + "*", "a" * 64 + "*", "node-1", "node-1/", "node-\u0661",
)  # fmt: skip

CONTENT_TYPES: Final = (
    b"", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data", b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=b", b"multipart/form-data; boundary=" + b"b" * 300, b"multipart/mixed; boundary=b",
    b"application/json; charset=utf-16", b"application/json; charset=nonsense", b"application/json; charset=\xff",
    b"application/x-www-form-urlencoded; charset=utf-7", b"application/x-www-form-urlencoded; charset=nonsense",
    b"application/x-www-form-urlencoded; charset=utf-16", b"application/x-www-form-urlencoded; charset=idna",
    b"application/x-www-form-urlencoded; charset=undefined", b"application/x-www-form-urlencoded; charset=base64",
    b"multipart/form-data; boundary=b; charset=nonsense", b"multipart/form-data; boundary*=utf-8''%ff", b";;;=", b"=", b"x" * 500,
    b"application/xml", b"image/png", b"application/json\xe9", b"text/html;charset=\"", b"*/*", b"application/msgpack",
)  # fmt: skip

HOSTS: Final = (
    b"", b"evil.example", b"localhost:99999", b"localhost:", b"localhost:x", b"[::1", b"[::1]", b"127.0.0.1:80:80", b"\xff", b"a b",
    b"localhost.", b"LOCALHOST", b"127.1", b"-", b"..", b"x" * 300, b"localhost\\", b"user@localhost", b"localhost/x", b"%00",
)  # fmt: skip

HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"Accept", b"\xff"), (b"Accept", b"text/html;q=nan"), (b"Accept", b"application/json, " * 50), (b"Accept", b"*/*;q=1e999"),
    (b"Accept-Language", b"xx-" * 100), (b"Accept-Language", b"\xe9"), (b"Accept-Encoding", b"gzip;q=x, \xff, br"),
    (b"Accept-Encoding", b"gzip, br"), (b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"nonsense"),
    (b"Cookie", b"\xff=\xfe"), (b"Cookie", b"=;=;=;;;"), (b"Cookie", b"a=" + b"x" * 4_000), (b"Cookie", b'a="\\000\\777"'),
    (b"Cookie", b"; ".join(b"c%d=1" % n for n in range(100))), (b"Cookie", b"messages=x; sessionid=\x01"),
    (b"Cookie", b"messages=" + b"A" * 100), (b"X-CSRFToken", b"\xff" * 32), (b"X-CSRFToken", b""), (b"Referer", b"http://["),
    (b"Referer", b"\xff"), (b"Origin", b"null"), (b"Origin", b"http://["), (b"Origin", b"\xff"), (b"Origin", b"http://evil.example"),
    (b"X-Forwarded-For", b"1.2.3.4, \xff"), (b"X-Forwarded-For", b"x" * 400), (b"X-Forwarded-Host", b"evil.example"),
    (b"X-Forwarded-Proto", b"https"), (b"Forwarded", b"for=\"_x\""), (b"X-Real-IP", b"999.1.1.1"), (b"X-HTTP-Method-Override", b"DELETE"),
    (b"X-Original-URL", b"/admin/"), (b"Range", b"bytes=0-0"), (b"Range", b"bytes=9-3"), (b"Range", b"bytes=-99999999999999999999"),
    (b"Range", b"bytes=0-,0-,0-,0-"), (b"Range", b"lines=\xff"), (b"If-None-Match", b'"' + b"x" * 500), (b"If-None-Match", b"*"),
    (b"If-Modified-Since", b"Thu, 99 Xxx 99999 99:99:99 GMT"), (b"If-Modified-Since", b"Thu, 01 Jan 9999999999 00:00:00 GMT"),
    (b"If-Modified-Since", b"\xff"), (b"If-Match", b"x"), (b"If-Range", b"\xff"), (b"HX-Request", b"true"), (b"HX-Request", b"\xff"),
    (b"HX-Current-URL", b"http://["), (b"HX-Current-URL", b"%ff"), (b"HX-Current-URL-URI-AutoEncoded", b"true"),
    (b"HX-Trigger", b"\xff"), (b"Triggering-Event", b"{"), (b"Triggering-Event-URI-AutoEncoded", b"true"), (b"HX-Boosted", b"\x7f"),
    (b"Expect", b"nonsense"), (b"Daphne-Root-Path", b"/evil"), (b"Daphne-Root-Path", b"\xff"), (b"Daphne-Root-Path", b"%00%0d%0a"),
    (b"Script-Name", b"/x"), (b"Path-Info", b"/x"), (b"X_Under_Score", b"1"), (b"Authorization", b"Basic YTpi"), (b"Prefer", b"x" * 2_000),
    (b"User-Agent", b"\xff" * 50), (b"User-Agent", b"x" * 5_000), (b"Via", b"1.1 x"), (b"TE", b"trailers"), (b"Upgrade", b"h2c"),
    (b"Upgrade", b"\xff"), (b"HTTP2-Settings", b"x"), (b"Sec-Fetch-Site", b"cross-site"), (b"Date", b"x"), (b"X-" + b"y" * 200, b"1"),
    (b"Max-Forwards", b"0"), (b"Content-MD5", b"x"), (b"X-Requested-With", b"XMLHttpRequest"), (b"Traceparent", b"00-x-y-99"),
)  # fmt: skip

CODECS: Final = ("utf-8", "utf-8", "utf-8", "latin-1", "utf-16", "cp037")


def word(rng: random.Random) -> str:
    """A text for where no JSON is."""
    kind = rng.random()
    if kind < 0.7:
        return rng.choice(WORDS)
    if kind < 0.85:
        return characters(rng, rng.choice((1, 2, 5, 20, 64, 200)))
    return digits(rng)


def characters(rng: random.Random, count: int) -> str:
    """Characters of one part of Unicode or of all of it, surrogates among them."""
    low, high = rng.choice(
        ((0, 0x7F), (0x20, 0x7E), (0x80, 0xFF), (0x300, 0x36F), (0x600, 0x6FF), (0xD7F0, 0xE010), (0, 0x10FFFF))
    )
    return "".join(chr(rng.randint(low, high)) for _ in range(count))


def digits(rng: random.Random) -> str:
    """A number, or nearly one."""
    whole = "".join(rng.choices("0123456789", k=rng.choice((1, 3, 15, 16, 19, 41, 90))))
    return rng.choice(("", "", "-", "+")) + whole + rng.choice(("", "", ".", ".5", "." + "3" * 41, "e9", "E-400", ".."))


def json_text(rng: random.Random) -> str:
    """What stands where a JSON value is due."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(JSON_TEXTS)
    if kind < 0.75:
        return digits(rng)
    if kind < 0.8:
        return f'"{digits(rng)}"'
    if kind < 0.995:
        return json.dumps(word(rng), ensure_ascii=rng.random() < 0.5)
    depth = rng.choice((50, 500, 5_000))
    return rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth))


def percent(rng: random.Random, text: str) -> str:
    """The text in an address or a form: escaped well, too much, too little, or wrongly. ASCII, without spaces."""
    kind = rng.random()
    if kind < 0.6:
        return quote(text, safe="", errors="surrogatepass")
    if kind < 0.7:
        return quote(quote(text, safe="", errors="surrogatepass"), safe="")
    if kind < 0.8:
        return "".join(f"%{byte:02x}" for byte in text.encode(rng.choice(CODECS), "replace"))
    if kind < 0.9:
        return rng.choice(
            ("%", "%f", "%zz", "%ff", "%c0%80", "%ed%a0%80", "%f4%90%80%80", "%e2%82", "+", "%u0000", "%0d%0a", "%00")
        )
    return "".join(c for c in text if "!" <= c <= "~" and c not in "#")


def segment(rng: random.Random) -> str:
    """A piece of an address."""
    text = percent(rng, word(rng))
    return text if rng.random() < 0.9 else text + rng.choice(("%2f", "/..", "/.", "%3f", ";x=1", "%5c", ".json", "/"))


def hurt(rng: random.Random, content: bytes) -> bytes:
    """Bytes taken out, put in, turned, doubled or cut off."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(6):
            case 0:
                found[at:] = b""
            case 1:
                found[at:at] = bytes(rng.choices(range(256), k=rng.choice((1, 2, 8))))
            case 2 if at < len(found):
                found[at] ^= 1 << rng.randrange(8)
            case 3:
                found[at : at + rng.randint(1, 10)] = b""
            case 4:
                found[at:at] = found[:at][-rng.randint(1, 50) :]
            case _:
                found[at:at] = rng.choice(
                    (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\xed\xa0\x80", b'"', b"}", b"&", b"=", b"%")
                )
    return bytes(found)


def document(rng: random.Random) -> bytes:
    """A body that is none of ours at all."""
    match rng.randrange(10):
        case 0:
            return b""
        case 1:
            return rng.randbytes(rng.choice((1, 10, 100, 1_000)))
        case 2:
            return rng.choice(JSON_TEXTS).encode("utf-8", "surrogatepass")
        case 3:
            return b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'
        case 4:
            return b"symbol=ALFA&side=buy"
        case 5:
            return b"[" * rng.choice((100, 1_000, 10_000))
        case 6:
            return b'{"symbol": "' + b"A" * rng.choice((1_000, 10_000, 100_000)) + b'"}'
        case 7:
            return b" " * rng.choice((1, 1_000, 20_000))
        case 8:
            return b"&".join(b"f%d=1" % n for n in range(rng.choice((10, 1_000, 1_100))))
        case _:
            return b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(rng.choice((1, 100, 2_000)))) + b"}"


def multipart(rng: random.Random, pairs: Sequence[tuple[str, str]]) -> tuple[bytes, bytes]:
    """A form with files, seldom a good one, and its content type."""
    lines = []
    for name, text in pairs:
        disposition = f'form-data; name="{name}"'
        if rng.random() < 0.3:
            disposition += rng.choice(
                ('; filename="x"', '; filename="../x"', "; filename*=utf-8''%ff", '; filename="', "; name=x", "")
            )
        part = f"--b\r\nContent-Disposition: {disposition}\r\n"
        if rng.random() < 0.2:
            part += "Content-Transfer-Encoding: " + rng.choice(("base64", "quoted-printable", "x")) + "\r\n"
        if rng.random() < 0.2:
            part += (
                "Content-Type: "
                + rng.choice(("text/plain; charset=nonsense", "text/plain; charset=utf-16", ""))
                + "\r\n"
            )
        lines.append(part + f"\r\n{text}")
    body = ("\r\n".join(lines) + rng.choice(("\r\n--b--\r\n", "\r\n--b", "", "\r\n--c--\r\n"))).encode(
        "utf-8", "surrogatepass"
    )
    return body, b"multipart/form-data; boundary=b"


def authorization(rng: random.Random) -> bytes:
    """Credentials that are none."""
    return rng.choice(
        (
            b"", b"Bearer", b"Bearer ", b"Bearer x", b"bearer\tx", b"Bearer \xff\xfe", b"Bearer mm_" + b"A" * 43, b"Bearer " + b"x" * 5_000,
            b"Basic YTpi", b"Basic \xff", b"Digest username=x", b"Bearer x y z", b"Bearer null", b"Bearer %00", b"Negotiate " + b"A" * 99,
            b"Bearer " + rng.randbytes(20).hex().encode(),
        )
    )  # fmt: skip


def cookie(rng: random.Random) -> str:
    """A session's key that is none."""
    return rng.choice(
        (
            "",
            "x",
            "a" * 32,
            "a" * 31 + "\\000",
            '"\\000' + "a" * 31 + '"',
            "A" * 32,
            "\u00e9" * 32,
            "x" * 5_000,
            "../../x",
        )
    )
