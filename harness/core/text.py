"""Names from outside (arms, paths, URLs) made safe to show: in a terminal, in Markdown, in pictures."""

import re
import textwrap
import unicodedata
from typing import Any
from urllib.parse import unquote

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that show nothing or steer what shows them: escape codes, direction marks, line separators."""

_PASSWORD = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z0-9+.-]*+://[^\s'\"/@:]*+:)(?!password@)[^\s'\"/@]++@")
"""Not the word itself, as examples have it. Linear: none of it begins in the middle of what an earlier attempt went through."""

_SECRET = re.compile(
    r"((?:hf_token|access_token|api_key|password|passwd|secret|secret_access_key)['\"]?\s{0,2}[=:]\s{0,2}['\"]?"
    r"|authorization['\"]?\s{0,2}[=:]\s{0,2}['\"]?(?:bearer|basic)\s{1,2})(?![$*])[^\s'\",;&}]++",
    re.I,
)
"""What is set by a name that means a secret; not a variable (``$NAME``) that holds it."""


def without_secrets(text: object) -> str:
    """``text`` without the passwords of the URLs in it, and without what is set by the name of a secret."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1***@", str(text)))


def printable(text: object) -> str:
    r"""``text`` with every character that would not show as itself written as an escape (``\x1b``, ``\u202e``)."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def markdown(text: object) -> str:
    """``text`` as plain text inside Markdown, also in a table's cell: nothing in it is markup or HTML."""
    safe = re.sub(r"&(?=#?\w+;)", "&amp;", printable(text)).replace("<", "&lt;").replace(">", "&gt;")
    # An underscore inside a word is no markup; escaping it would only make the source hard to read.
    escaped = re.sub(r"[\\`*|\[\]~$]|(?<!\w)_|_(?!\w)", lambda found: f"\\{found[0]}", safe)
    return re.sub(r"\\`(ttft [a-z ]+)\\`", r"`\1`", escaped)  # a command of ours in our own sentences: nothing in it is markup


def one_line(text: object, most: int) -> str:
    """``text`` as a message shows it: at most ``most`` characters on one line, both ends kept, no passwords of URLs."""
    return shortened(printable(shortened(without_secrets(text), most)), most)


def whole(value: Any) -> Any:
    """What JSON was read as, with halves of characters (lone surrogates) written as escapes: nobody can encode them."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {whole(key): whole(inner) for key, inner in value.items()}
    return [whole(inner) for inner in value] if isinstance(value, list) else value


def slug(text: str) -> str:
    """``text`` as part of a file's name: letters, digits and single dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def shortened(text: str, most: int) -> str:
    """``text``, or its two ends with ``…`` between them where it is longer than ``most`` characters."""
    if len(text) <= most:
        return text
    text = without_secrets(text)  # half of a URL is not known for one any more
    if len(text) <= most:
        return text
    head = most // 2
    return text[:head] + "…" + text[len(text) - (most - head - 1) :]


def wrapped(text: str, width: int, lines: int = 4) -> str:
    """``text`` over at most ``lines`` lines of ``width`` characters; what is left out of the middle becomes ``…``.

    Both ends stay, since names of arms tend to differ at the end. Breaks fall behind ``:``, ``,``, ``?``,
    ``&`` and ``/`` where they can.
    """
    text = shortened(text, width * lines - lines)  # a break in front of a long word wastes some of a line
    pieces: list[str] = []
    for char in text:  # a break is allowed where a piece ends
        if pieces and not pieces[-1].endswith((":", ",", "?", "&", "/", " ")):
            pieces[-1] += char
        else:
            pieces.append(char)
    out = [""]
    for piece in pieces:
        for part in textwrap.wrap(piece, width, drop_whitespace=False, replace_whitespace=False) or [piece]:
            if len(out[-1]) + len(part) <= width:
                out[-1] += part
            else:
                out.append(part)
    return "\n".join(line.strip() for line in _fit(out, width, lines))


def _fit(out: list[str], width: int, lines: int) -> list[str]:
    """Where breaks at the good places need too many lines: break anywhere."""
    if len(out) <= lines:
        return out
    text = "".join(out)
    return [text[i : i + width] for i in range(0, len(text), width)]


_SECRET_NAMES = ("auth", "credential", "key", "passwd", "password", "pwd", "secret", "signature", "token")


def redact(url: str) -> str:
    """The URL without its password, and with ``***`` for the value of every option whose name sounds
    like a secret; for results, logs and pictures. Takes any text, so that errors can quote a wrong URL."""
    address, question, query = url.partition("?")
    place = address.partition("://")[2]
    if "@" in query and ":" in place and not place.startswith("/"):
        address, question, query = url, "", ""  # the "?" may be a password's
    scheme, colon, rest = address.partition("://") if "://" in address else ("", "", address)
    # Up to the last "@", since a password that was not percent-encoded may hold "/" and "@".
    user, at, place = rest.rpartition("@")
    if ":" in user and not rest.startswith("/"):
        user = user.partition(":")[0] + ":***"
    return scheme + colon + user + at + place + question + "&".join(map(_redact_option, query.split("&")))


def _redact_option(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if equals and any(word in unquote(name).lower() for word in _SECRET_NAMES):
        return f"{name}=***"
    inner = unquote(value)
    if equals and unquote(name).lower() == "seal" and inner and not inner.startswith("$"):  # where the shell replaced $NAME
        return f"{name}=***"
    # An option may be a URL itself, as mooncake's metadata=.
    return f"{name}={shown}" if "://" in inner and (shown := redact(inner)) != inner else pair
