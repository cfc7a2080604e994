"""What happened, in words: one sentence for each kind of activity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Data = dict[str, Any]

# Why an incarnation or a tenure ended.
END_REASONS: Final = {
    "released": "released",
    "expired": "lease expired: no renewal in time",
    "session_lost": "connection to the database lost",
    "drained": "drained by an operator",
    "ended_by_operator": "ended by an operator",
}
WITHDRAWN_REASONS: Final = {
    "quoting_disabled": "quoting turned off",
    "expired": "its holder's lease expired",
    "session_lost": "its holder was lost",
}
REFUSED_REASONS: Final = {
    "stale_epoch": "a newer epoch has been granted",
    "not_holder": "it does not hold the lease",
    "expired": "its lease had expired",
}
REJECT_CODES: Final = {
    "fok_unfillable": "could not be filled in full",
    "no_liquidity": "nothing to trade with",
}
# Which stream of the feed a kind belongs to.
GROUPS: Final = {
    "fill": "fill",
    "trade": "trade",
    "order": "order",
    "quote_withdrawn": "quote",
    "registered": "authority",
    "ended": "authority",
    "granted": "authority",
    "released": "authority",
    "rebalanced": "authority",
    "refused": "refusal",
    "quoting_on": "operator",
    "quoting_off": "operator",
    "drain": "operator",
    "undrain": "operator",
    "parameters": "operator",
}
SYMBOLS_NAMED_MAX: Final = 4  # a node may hold thousands; the sentence stays one line


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SYMBOLS_NAMED_MAX])
    return f"{shown} and {len(names) - SYMBOLS_NAMED_MAX} more" if len(names) > SYMBOLS_NAMED_MAX else shown


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _number(decimal: str) -> str:
    """A decimal as people read it: "-1234.50" with a comma and a minus sign."""
    whole, point, fraction = decimal.removeprefix("-").partition(".")
    sign = "\N{MINUS SIGN}" if decimal.startswith("-") else ""
    return f"{sign}{int(whole):,}{point}{fraction}"


def _because(data: Data) -> str:
    return f": {data['reason']}" if data.get("reason") else ""


def _fill(data: Data, _node: str) -> str:
    verb = "Bought" if data["side"] == "buy" else "Sold"
    return f"{verb} {_number(data['quantity'])} at {_number(data['price'])}, position now {_number(data['position'])}"


def _order(data: Data, _node: str) -> str:
    price = (
        f" at {_number(data['price'])}" if data.get("price") else " at market" if data.get("type") == "market" else ""
    )
    what = f"{data['side'].capitalize()} order for {_number(data['quantity'])}{price}"
    tif = data.get("time_in_force")
    match data["status"]:
        case "resting":
            return f"{what} rests in the book"
        case "partially_filled":
            return f"{what} partly filled, the remainder rests"
        case "cancelled" if tif:
            return f"{what} ({tif}): what could not trade was cancelled"
        case "cancelled":
            return f"{what} cancelled by its owner"
        case "rejected":
            code = data.get("reject_code") or ""
            return f"{what}{f' ({tif})' if tif else ''} rejected: {REJECT_CODES.get(code, code)}"
        case status:
            return f"{what}: {status}"


def _ended(data: Data, node: str) -> str:
    symbols = data.get("symbols") or []
    held = f"; held {_listed(symbols)}" if symbols else ""
    if not data.get("done", True):  # the others follow, in entries of their own
        return f"{node} is ending, {END_REASONS.get(data['reason'], data['reason'])}{held}"
    if data["reason"] == "released":
        return f"{node} left on purpose{held}"
    return f"{node} ended, {END_REASONS.get(data['reason'], data['reason'])}{held}"


def _rebalanced(data: Data, _node: str) -> str:
    return (
        f"Assignment generation {data['generation']}: {_counted(data['moves'], 'symbol')} assigned anew, "
        f"members {_listed(data['members'])} ({data['cause']})"
    )


def _switched(data: Data, state: str) -> str:
    unchanged = "" if data.get("changed", True) else f" (it was {state} already)"
    return f"{data['actor']} turned quoting {state}{unchanged}{_because(data)}"


def _refused(data: Data, node: str) -> str:
    why = REFUSED_REASONS.get(data["reason"], data["reason"])
    return f"Quote of {node} under epoch {data['epoch']} refused: {why}"


def _parameters(data: Data, _node: str) -> str:
    after = ", ".join(f"{name} {value}" for name, value in sorted(data.get("after", {}).items()))
    return f"{data['actor']} set {after or 'nothing'}"


_SENTENCES: Final[dict[str, Callable[[Data, str], str]]] = {
    "fill": _fill,
    "trade": lambda d, _: f"Two orders traded {_number(d['quantity'])} at {_number(d['price'])}",
    "order": _order,
    "quote_withdrawn": lambda d, n: f"Quote of {n} withdrawn: {WITHDRAWN_REASONS.get(d['reason'], d['reason'])}",
    "registered": lambda _, n: f"{n} joined",
    "ended": _ended,
    "granted": lambda d, n: f"Lease granted to {n}, epoch {d['epoch']}",
    "released": lambda d, n: f"{n} handed epoch {d['epoch']} back, {END_REASONS.get(d['reason'], d['reason'])}",
    "rebalanced": _rebalanced,
    "refused": _refused,
    "quoting_on": lambda d, _: _switched(d, "on"),
    "quoting_off": lambda d, _: _switched(d, "off"),
    "drain": lambda d, n: f"{d['actor']} drains {n}{_because(d)}",
    "undrain": lambda d, n: f"{d['actor']} lets {n} take symbols again{_because(d)}",
    "parameters": _parameters,
}


def sentence(kind: str, node: str | None, data: Data) -> str:
    """One line of plain words. A kind that this version does not know is shown as it is."""
    known = _SENTENCES.get(kind)
    return known(data, node or "a node") if known else kind.replace("_", " ")


def group(kind: str) -> str:
    """Which stream of the feed `kind` is shown in: fill, order, trade, quote, authority, refusal, operator or other."""
    return GROUPS.get(kind, "other")


# Orders, as the blotter and the ticket tell of them.
ORDER_STATUSES: Final = {
    "filled": "Filled",
    "partially_filled": "Partly filled",
    "resting": "In the book",
    "cancelled": "Cancelled",
    "rejected": "Rejected",
}


def order_status(order: Data) -> str:
    """What an order's status means, beyond its one word: why, and what becomes of the remainder. May be empty."""
    tif = order["time_in_force"]
    match order["status"]:
        case "partially_filled":
            return "the remainder is in the book"
        case "cancelled" if tif != "GTC":
            return f"{tif}: what could not trade at once"
        case "cancelled":
            return "what was left in the book"
        case "rejected":
            code = order["reject_code"] or ""
            return f"{tif}: {REJECT_CODES.get(code, code)}"
        case _:
            return ""


def order_result(order: Data, answer: Data) -> str:
    """The answer to an order that was just sent, as one sentence. Both with decimals as strings."""
    verb, done = ("buy", "Bought") if order["side"] == "buy" else ("sell", "Sold")
    symbol, quantity = order["symbol"], _number(order["quantity"])
    price = answer["average_price"]
    prices = "on average" if len(answer["fills"]) > 1 else "in one fill"
    traded = f"{done} {_number(answer['filled_quantity'])} {symbol} at {_number(price)} {prices}" if price else ""
    rest = _number(answer["remaining_quantity"])
    match answer["status"]:
        case "filled":
            return f"{traded}."
        case "partially_filled":
            return f"{traded}. The other {rest} wait in the book at {_number(order['price'])}."
        case "resting":
            limit = _number(order["price"])
            return f"The order to {verb} {quantity} {symbol} at {limit} is in the book. Nothing has traded yet."
        case "cancelled" if price:
            return f"{traded}. The other {rest} could not trade at once and were cancelled."
        case "cancelled":
            return f"Nothing traded: nobody took {quantity} {symbol} at that price at once. The order was cancelled."
        case _:
            code = answer["reject_code"] or ""
            return f"Rejected: {REJECT_CODES.get(code, code)}. Nothing traded."
