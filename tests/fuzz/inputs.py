"""Bad requests, each a function of (seed, number, world): the same ones again, one by one, whenever they are wanted.

Each begins as a good request of some address and is spoilt in one to three ways. Some stay good by chance; whoever
sends them counts what was refused.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from tests.fuzz import nasty

Header = tuple[bytes, bytes]

API: Final = "/api/v1/"
CSRF: Final = "c" * 32  # any 32 letters: what counts is that cookie and header are alike


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The system that is asked: who may do what there, and names of things that exist."""

    host: str
    port: int  # of its cookies' names
    token: str  # of one who may do everything
    viewer: str  # of one who may only read
    session: str  # cookie of one who may do everything
    symbols: Sequence[str]
    nodes: Sequence[str]
    orders: Sequence[str]
    fills: Sequence[str]


@dataclass(frozen=True, slots=True)
class Input:
    """One HTTP request: well-formed by HTTP/1.1's grammar, whatever it asks for."""

    method: str
    target: str  # path and query, ASCII, as it goes over the wire
    headers: tuple[Header, ...] = ()
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def is_read(self) -> bool:
        return self.method in ("GET", "HEAD", "OPTIONS")

    def raw(self) -> bytes:
        """As it goes over the wire."""
        lines = [f"{self.method} {self.target} HTTP/1.1".encode(), *(b": ".join(header) for header in self.headers)]
        if self.body or not self.is_read:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body

    def curl(self, base: str) -> str:
        """A command line (bash) that sends it."""
        words = ["curl", "-i", "--path-as-is", "-X", self.method]
        for name, value in self.headers:
            words += ["-H", _quoted(name + (b": " + value if value else b";"))]
        if self.body:
            words += ["--data-binary", _quoted(self.body)]
        return " ".join([*words, _quoted((base + self.target).encode())])


def _quoted(text: bytes) -> str:
    """A word for bash; a NUL, which no argument can hold, stays visible."""
    return "$'" + "".join(chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\x{b:02x}" for b in text) + "'"


def input_at(seed: int, number: int, world: World) -> Input:
    """Bad request number `number` of this seed."""
    rng = random.Random(f"{seed}/{number}")
    family = rng.choices(FAMILIES, WEIGHTS)[0]
    return family(rng, world)


# What good requests are made of ------------------------------------------------------------------------------------

PAGE_QUERY: Final = ("limit", "cursor")
# path below /api/v1/: the query parameters that it knows
READS: Final[dict[str, tuple[str, ...]]] = {
    "orders": (*PAGE_QUERY, "symbol", "status"), "orders/{order}": (), "symbols": (*PAGE_QUERY, "symbol"),
    "prices": (*PAGE_QUERY, "symbol"), "quotes": (*PAGE_QUERY, "symbol"), "positions": (*PAGE_QUERY, "symbol"),
    "fills": (*PAGE_QUERY, "after", "symbol"), "activity": (*PAGE_QUERY, "after", "symbol"), "nodes": PAGE_QUERY,
    "assignments": (*PAGE_QUERY, "symbol"), "leases": (*PAGE_QUERY, "symbol"),
    "leases/{symbol}/history": (*PAGE_QUERY, "after"),
}  # fmt: skip
ORDER: Final = {
    "client_order_id": '"fuzz-{number}"', "symbol": '"{symbol}"', "side": '"buy"', "type": '"limit"',
    "time_in_force": '"IOC"', "price": '"1"', "quantity": '"1"',
}  # fmt: skip
QUOTING: Final = {"enabled": "false", "reason": '"fuzz"'}
DRAINING: Final = {"draining": "false", "reason": '"fuzz"'}
WRITES: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    ("POST", "orders", ORDER), ("POST", "orders", ORDER), ("POST", "orders", ORDER), ("POST", "orders/batch", ORDER),
    ("DELETE", "orders/{order}", {}), ("POST", "quoting", QUOTING), ("POST", "symbols/{symbol}/quoting", QUOTING),
    ("POST", "nodes/{node}/drain", DRAINING),
)  # fmt: skip
BLOTTER_QUERY: Final = ("q", "symbol", "side", "from", "to", "cursor")
PAGES: Final[dict[str, tuple[str, ...]]] = {
    "/": (), "/authority/": ("last",), "/authority/history/": ("last", "after"), "/authority/obligation/": ("last",),
    "/fills/": BLOTTER_QUERY, "/fills/export.csv": BLOTTER_QUERY, "/orders/": (*BLOTTER_QUERY, "status"),
    "/orders/export.csv": (*BLOTTER_QUERY, "status"), "/orders/newer/": (*BLOTTER_QUERY, "status", "after"),
    "/symbols/{symbol}/": (), "/symbols/{symbol}/now/": (), "/symbols/{symbol}/chart/": ("range",),
    "/symbols/{symbol}/story/": ("last",), "/session/": (), "/login/": ("next",), "/fills": (), "/orders": ("q",),
}  # fmt: skip
TICKET: Final = {
    "client_order_id": "fuzz-{number}", "symbol": "{symbol}", "side": "buy", "type": "limit", "time_in_force": "IOC",
    "price": "1", "quantity": "1",
}  # fmt: skip
ACTIONS: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("/orders/new/", TICKET), ("/orders/new/", TICKET), ("/orders/cancel/", {"client_order_id": "{order}"}),
    ("/quoting/", {"enabled": "false", "reason": "fuzz"}),
    ("/symbols/{symbol}/quoting/", {"enabled": "false", "reason": "fuzz"}),
    ("/nodes/{node}/draining/", {"draining": "false", "reason": "fuzz"}),
)  # fmt: skip
ADMIN_LISTS: Final = (
    "axes/accessattempt", "journal/activity", "journal/audit", "ledger/fill", "ledger/position", "exchange/symbol",
    "exchange/clock", "exchange/price", "exchange/quote", "exchange/quoteversion", "exchange/order", "exchange/trade",
    "authority/node", "authority/incarnation", "authority/lease", "authority/tenure", "authority/assignment",
    "authority/refusal", "auth/user", "auth/group", "accounts/apitoken",
)  # fmt: skip
ADMIN_QUERY: Final = (
    "q",
    "p",
    "o",
    "e",
    "all",
    "_facets",
    "id__exact",
    "symbol__exact",
    "symbol",
    "_changelist_filters",
)
OTHERS: Final = (
    "/healthz", "/readyz", "/metrics", "/api/docs", "/api/openapi.json", "/favicon.ico", "/static/console/icon.svg",
    "/static/", "/static/../manage.py", "/ws/stream/", "/", "/api/", "/api/v1/", "//", "/%2e%2e/", "/index.php",
)  # fmt: skip
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "get", "M-SEARCH", "X")

# How they are spoilt -----------------------------------------------------------------------------------------------


def _filled(rng: random.Random, world: World, text: str) -> str:
    """Names of things that exist in the place of {symbol} and the like."""
    names = {
        "{symbol}": world.symbols, "{node}": world.nodes, "{order}": world.orders,
        "{number}": (str(rng.getrandbits(60)),),
    }  # fmt: skip
    for mark, known in names.items():
        if mark in text:
            text = text.replace(mark, rng.choice(known))
    return text


def _path(rng: random.Random, world: World, template: str, spoilt: bool) -> str:
    """The address, with its parameter, or else any piece of it, spoilt."""
    marks = [mark for mark in ("{symbol}", "{node}", "{order}") if mark in template]
    if not spoilt:
        return _filled(rng, world, template)
    if marks:
        return template.replace(marks[0], nasty.segment(rng))
    pieces = template.split("/")
    pieces[rng.randrange(template.startswith("/"), len(pieces))] = nasty.segment(rng)
    return "/".join(pieces)


def _query(rng: random.Random, world: World, known: Sequence[str], count: int) -> str:
    """Up to `count` parameters, most of them known ones with a value that is none."""
    pairs = []
    for _ in range(count):
        name = rng.choice(known) if known and rng.random() < 0.85 else nasty.percent(rng, nasty.word(rng))
        pairs.append(f"{name}{rng.choice(('=', '=', '=', '=', '', '=='))}{_query_value(rng, world, name)}")
    return rng.choice(("&", "&", "&", ";", "&&")).join(pairs)


def _query_value(rng: random.Random, world: World, name: str) -> str:
    if rng.random() < 0.15:
        good = {"symbol": world.symbols, "cursor": world.fills, "after": world.fills, "q": world.orders}
        return rng.choice(good.get(name, ("5m", "1h", "buy", "open", "10", "2026-01-31T09:00")))
    return nasty.percent(rng, nasty.word(rng))


def _object(rng: random.Random, fields: dict[str, str], spoils: int) -> str:
    """A JSON object as text, whose fields' values are JSON texts: any text can stand where a value is due."""
    pairs = list(fields.items())
    for _ in range(spoils):
        at = rng.randrange(len(pairs)) if pairs else 0
        match rng.choices(("value", "absent", "twice", "unknown", "renamed"), (70, 8, 6, 10, 6))[0]:
            case "value" if pairs:
                pairs[at] = (pairs[at][0], nasty.json_text(rng))
            case "absent" if pairs:
                del pairs[at]
            case "twice" if pairs:
                pairs.insert(rng.randrange(len(pairs) + 1), (pairs[at][0], nasty.json_text(rng)))
            case "renamed" if pairs:
                pairs[at] = (nasty.word(rng), pairs[at][1])
            case _:
                pairs.append((nasty.word(rng), nasty.json_text(rng)))
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in pairs) + "}"


def _content(rng: random.Random, text: str) -> bytes:
    """The text as bytes, which one time in eight are then hurt, or are in another encoding."""
    match rng.choices(("as it is", "hurt", "encoding", "other"), (82, 10, 3, 5))[0]:
        case "hurt":
            return nasty.hurt(rng, text.encode("utf-8", "surrogatepass"))
        case "encoding":
            return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")), "surrogatepass")
        case "other":
            return nasty.document(rng)
        case _:
            return text.encode("utf-8", "surrogatepass")


def _called(rng: random.Random, usual: bytes) -> bytes:
    """A content type."""
    return usual if rng.random() < 0.85 else rng.choice(nasty.CONTENT_TYPES)


def _odd_headers(rng: random.Random) -> list[Header]:
    if rng.random() < 0.8:
        return []
    return [rng.choice(nasty.HEADERS) for _ in range(rng.randint(1, 3))]


def _who(rng: random.Random, world: World) -> list[Header]:
    """Host and credentials for the API: mostly of one who may do everything, so that what is asked is judged, too."""
    host = world.host.encode() if rng.random() < 0.985 else rng.choice(nasty.HOSTS)
    headers = [(b"Host", host)]
    kind = rng.choices(("full", "viewer", "nobody", "garbage", "session", "no csrf"), (76, 5, 4, 6, 6, 3))[0]
    if kind in ("full", "viewer"):
        headers.append((b"Authorization", b"Bearer " + (world.token if kind == "full" else world.viewer).encode()))
    elif kind == "garbage":
        headers.append((b"Authorization", nasty.authorization(rng)))
    elif kind in ("session", "no csrf"):
        headers += _session(rng, world, csrf=kind == "session")
    return headers


def _session(rng: random.Random, world: World, *, csrf: bool = True, signed_in: bool = True) -> list[Header]:
    session = world.session if signed_in else nasty.cookie(rng)
    cookies = f"mm_session_{world.port}={session}; mm_csrf_{world.port}={CSRF}"
    headers = [(b"Cookie", cookies.encode("utf-8", "replace"))]
    if csrf:
        headers.append((b"X-CSRFToken", CSRF.encode()))
    return headers


def _browser(rng: random.Random, world: World) -> list[Header]:
    """Host and session of a page of the console."""
    host = world.host.encode() if rng.random() < 0.985 else rng.choice(nasty.HOSTS)
    headers = [(b"Host", host)]
    headers += _session(rng, world, csrf=rng.random() < 0.95, signed_in=rng.random() < 0.93)
    if rng.random() < 0.5:
        headers.append((b"Accept", b"application/json"))
    return headers


# The families ------------------------------------------------------------------------------------------------------


def api_write(rng: random.Random, world: World) -> Input:
    """An order, a switch, a drain: spoilt in its body for the most part."""
    method, path, fields = rng.choice(WRITES)
    where = rng.choices(("body", "path", "method"), (90 if fields else 0, 8 if "{" in path else 0, 4))[0]
    good = {name: _filled(rng, world, text) for name, text in fields.items()}
    text = _object(rng, good, rng.choice((1, 1, 1, 2, 3)) if where == "body" else 0)
    if path.endswith("batch"):
        orders = [text] * (rng.choice((1, 1, 2, 3)) if rng.random() < 0.99 else 1001)
        text = '{"orders": [' + ", ".join(orders) + "]" + rng.choice(("", "", "", ', "x": 1')) + "}"
    body = _content(rng, text) if fields else b""
    if where == "method":
        method = rng.choice(METHODS)
    target = API + _path(rng, world, path, where == "path")
    if rng.random() < 0.05:
        target += "?" + _query(rng, world, (), 1)
    headers = [*_who(rng, world), (b"Content-Type", _called(rng, b"application/json")), *_odd_headers(rng)]
    return Input(method, target, tuple(headers), body)


def api_read(rng: random.Random, world: World) -> Input:
    """A list or a thing, asked for with parameters that are none."""
    path = rng.choice(tuple(READS))
    known = READS[path]
    spoil_path = not known or rng.random() < 0.15
    target = API + _path(rng, world, path, spoil_path)
    if known or rng.random() < 0.2:
        target += "?" + _query(rng, world, known, rng.choice((1, 1, 1, 2, 3)))
    method = "GET" if rng.random() < 0.95 else rng.choice(METHODS)
    body = nasty.document(rng) if rng.random() < 0.02 else b""
    return Input(method, target, (*_who(rng, world), *_odd_headers(rng)), body)


def api_nowhere(rng: random.Random, world: World) -> Input:
    """An address of the API that is none."""
    path = "/".join(nasty.segment(rng) for _ in range(rng.randint(1, 3)))
    return Input(rng.choice(METHODS[:7]), rng.choice((API, "/api/")) + path, tuple(_who(rng, world)))


def console_read(rng: random.Random, world: World) -> Input:
    """A page of the console."""
    path = rng.choice(tuple(PAGES))
    target = _path(rng, world, path, "{" in path and rng.random() < 0.5)
    if PAGES[path] or rng.random() < 0.3:
        target += "?" + _query(rng, world, PAGES[path], rng.choice((1, 1, 2, 4)))
    method = "GET" if rng.random() < 0.96 else rng.choice(METHODS)
    return Input(method, target, (*_browser(rng, world), *_odd_headers(rng)))


def console_write(rng: random.Random, world: World) -> Input:
    """A form: the order ticket, the switches, a drain."""
    path, fields = rng.choice(ACTIONS)
    pairs = [(name, _filled(rng, world, text)) for name, text in fields.items()]
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(pairs))
        match rng.choices(("value", "absent", "twice"), (85, 10, 5))[0]:
            case "value":
                pairs[at] = (pairs[at][0], nasty.word(rng))
            case "absent":
                pairs = pairs[:at] + pairs[at + 1 :] or [("x", "")]
            case _:
                pairs.append((pairs[at][0], nasty.word(rng)))
    if rng.random() < 0.12:
        body, kind = nasty.multipart(rng, pairs)
    else:
        body = "&".join(f"{name}={nasty.percent(rng, text)}" for name, text in pairs).encode()
        kind = b"application/x-www-form-urlencoded"
    if rng.random() < 0.08:
        body = nasty.hurt(rng, body)
    method = "POST" if rng.random() < 0.96 else rng.choice(METHODS)
    target = _path(rng, world, path, "{" in path and rng.random() < 0.3)
    headers = [*_browser(rng, world), (b"Content-Type", _called(rng, kind)), *_odd_headers(rng)]
    return Input(method, target, tuple(headers), body)


def admin(rng: random.Random, world: World) -> Input:
    """Lists and things of Django's admin."""
    path = f"/admin/{rng.choice(ADMIN_LISTS)}/"
    if rng.random() < 0.4:
        path += f"{nasty.segment(rng)}/{rng.choice(('change/', 'change/', 'history/', 'delete/', ''))}"
    target = path + "?" + _query(rng, world, ADMIN_QUERY, rng.choice((1, 1, 2)))
    if rng.random() < 0.85:
        return Input("GET", target, tuple(_browser(rng, world)))
    pairs = [(rng.choice(("action", "_selected_action", "half_spread_ticks", nasty.word(rng))), nasty.word(rng))]
    body = "&".join(f"{quote(name, errors='replace')}={nasty.percent(rng, text)}" for name, text in pairs).encode()
    headers = [*_browser(rng, world), (b"Content-Type", b"application/x-www-form-urlencoded")]
    return Input("POST", target, tuple(headers), body)


def anywhere(rng: random.Random, world: World) -> Input:
    """Health, metrics, documentation, static files, and addresses that are none."""
    target = rng.choice(OTHERS) if rng.random() < 0.6 else "/" + nasty.segment(rng) + rng.choice(("", "/", "/x"))
    if rng.random() < 0.5:
        target += "?" + _query(rng, world, ("next", "q"), 1)
    headers = [(b"Host", world.host.encode() if rng.random() < 0.9 else rng.choice(nasty.HOSTS))]
    headers += [rng.choice(nasty.HEADERS) for _ in range(rng.randint(0, 4))]
    method = rng.choice(METHODS)
    body = nasty.document(rng) if method not in ("GET", "HEAD") and rng.random() < 0.5 else b""
    return Input(method, target, tuple(headers), body)


FAMILIES: Final[tuple[Callable[[random.Random, World], Input], ...]] = (
    api_write, api_read, api_nowhere, console_read, console_write, admin, anywhere,
)  # fmt: skip
WEIGHTS: Final = (45, 25, 5, 4, 13, 2, 6)


def simpler(sent: Input) -> list[Input]:
    """The same with something left out, the largest pieces first: one of them may fail in the same way."""
    found = [replace(sent, headers=sent.headers[:at] + sent.headers[at + 1 :]) for at in range(len(sent.headers))]
    if sent.body:
        found.insert(0, replace(sent, body=b""))
    found += [replace(sent, body=body) for body in _pieces(sent.body)]
    path, _, query = sent.target.partition("?")
    if query:
        found.insert(0, replace(sent, target=path))
        found += [replace(sent, target=f"{path}?{piece.decode()}") for piece in _pieces(query.encode())]
    return found


def _pieces(text: bytes) -> list[bytes]:
    """`text` without its first half, its second, its first quarter, and so on down to single bytes of a short one."""
    found: list[bytes] = []
    size = len(text) // 2
    while size >= 1 and len(found) < 200:
        found += [text[:at] + text[at + size :] for at in range(0, len(text), size)]
        size //= 2
    return found
