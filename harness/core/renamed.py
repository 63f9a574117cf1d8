"""Options of a store's URL that had another name once: still understood, and what is said about it.

``mbps`` reads as megabits, and megabytes were meant.
"""

from urllib.parse import unquote

NAMES = {"stream_mbps": "stream_mb_s", "total_mbps": "total_mb_s"}
"""Of the store ``shaped``: the old name and the new one."""


def option_today(name: str) -> str:
    """The name that an option of a store has now."""
    return NAMES.get(name, name)


def store_today(url: str) -> str:
    """A store's URL with today's names of its options; the same where there is nothing to rename."""
    address, question, query = url.partition("?")
    if not question or "shaped+" not in address.partition("://")[0] + "+":
        return url
    return address + question + "&".join(map(_today, query.split("&")))


def store_note(url: str) -> str:
    """One sentence if ``url`` has an option by its old name; else nothing."""
    old = [name for pair in url.partition("?")[2].split("&") if (name := unquote(pair.partition("=")[0])) in NAMES]
    if store_today(url) == url or not old:
        return ""
    told = " and ".join(f"{name} is called {NAMES[name]}" for name in old)
    return f"The store's {told} now, since it counts megabytes a second."


def _today(pair: str) -> str:
    name, equals, value = pair.partition("=")
    return option_today(unquote(name)) + equals + value if unquote(name) in NAMES else pair
