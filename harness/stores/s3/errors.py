"""What went wrong with an S3 server, as one sentence with what to do. Of a reply it takes only status and code.

obstore puts the server's whole reply, and a dump of its own error, into the text of an error: too long for a
user, and a server that refuses a signature sends back the identity and the text that was signed.
"""

import re

from harness.core.errors import StoreUnavailable
from harness.stores.s3.address import LOGIN_FIX, Place

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")

_REASONS: tuple[tuple[str, str], ...] = (
    (r"<code>nosuchbucket</code>", "there is no such bucket; make it first, or name another"),
    (
        r"status code: 40[13]\b|permissiondenied|unauthenticated",
        f"the server refuses the credentials or lacks a right for them{{answer}}; {LOGIN_FIX}, "
        "and allow ListBucket, GetObject, PutObject and DeleteObject",
    ),
    (r"status code: 30[1278]\b|redirect", "the bucket lies in another region{answer}; name it with region="),
    (r"status code: 400\b", "the server says that the request is invalid{answer}; see whether region= is that of the bucket"),
    (r"status code: (429|503)\b", "the server is too busy{answer}; try later, or lower concurrency="),
    (r"status code: 5\d\d\b", "the server failed{answer}; look into its log"),
    (r"status code: 404\b", "the server knows no such place{answer}; see whether endpoint= names an S3 server, and the bucket"),
    (r"status code: \d{3}\b", "the server refused{answer}; look into its log"),
    (r"kind: timeout|timedout", "it did not answer within {timeout_s:g} s; see whether it is alive, or raise timeout_s="),
    (r"connection refused", "nothing listens there; start the server, or correct endpoint="),
    (r"dns error", "there is no host of that name; correct endpoint="),
    (r"certificate|unknownissuer", "its certificate is not trusted here; name the file of its authority with ca=/path/to/ca.pem"),
    (r"invalid http version|corrupt message|received tls|invalidcontenttype|wrong version", "it speaks something else there; "
     "correct endpoint= (http or https?)"),
    (r"kind: connect", "it cannot be reached; start the server, or correct endpoint="),
    (
        r"incomplete|closed|reset|broken pipe|kind: (decode|body|request|interrupted)|error decoding",
        "the connection broke off; see whether the server is alive",
    ),
)  # fmt: skip
"""Patterns in the lower-case text of an error, and what to say. The first that fits counts."""


def explain(doing: str, place: Place, error: BaseException, timeout_s: float) -> StoreUnavailable:
    """What to raise for ``error`` of obstore while ``doing`` something. No secret is ever in it."""
    return StoreUnavailable(f"cannot {doing} of {place}: {_reason(error, timeout_s)}")


def _reason(error: BaseException, timeout_s: float) -> str:
    text = str(error)
    lowered = f"{type(error).__name__} {text}".lower()
    for pattern, sentence in _REASONS:
        if re.search(pattern, lowered):
            return sentence.format(timeout_s=timeout_s, answer=_answer(text))
    return f"{type(error).__name__}; see whether endpoint= names an S3 server, and look into its log"


def _answer(text: str) -> str:
    status, code = _STATUS.search(text), _CODE.search(text)
    words = [*(("HTTP " + status[1],) if status else ()), *((code[1],) if code else ())]
    return f" ({' '.join(words)})" if words else ""


def is_beyond_the_end(error: BaseException) -> bool:
    """Whether the server says that a range begins where the object has no more bytes."""
    return "status code: 416" in str(error)
