"""What one connection may ask of us before it is refused: every number has its reason beside it."""

from collections.abc import Sized
from dataclasses import dataclass

from hookbrook.http.problems import HeadersTooLarge, UrlTooLong


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a connection; bytes and seconds. The defaults suit browsers, providers and load balancers."""

    #: Request line plus all header lines, and once more all trailers. 431 above. A stock parser takes what comes:
    #: 151 MB of headers were buffered for one request. Browsers stay under 16 KB, cookies included.
    head_bytes: int = 32 * 1024
    #: Header lines of one request. 431 above. 10,000 empty ones fit into few bytes and still cost an object each.
    header_count: int = 128
    #: The request target. 414 above. A long list of channels fits; RFC 9110 section 4.1 asks for 8,000 at least.
    url_bytes: int = 8 * 1024
    #: From the first byte of a head to its end, and from the opening of a connection to its first byte. A client
    #: that sends one header byte a minute (slow loris) would otherwise hold a socket for ever.
    head_s: float = 10.0
    #: A kept-alive connection without a request. Longer than the 60 s of common load balancers, so that it is they
    #: who close: a request sent into our closing socket would be an error to somebody.
    keep_alive_s: float = 65.0
    #: Bytes a second that a body must bring on average once `body_grace_s` have passed; 408 below. A modem does more.
    body_rate: float = 240.0
    body_grace_s: float = 10.0
    #: The longest pause within a body. 408 above. The only limit on pace for a body of one of `live_types`.
    body_idle_s: float = 60.0
    #: Media types whose bodies may trickle: somebody writes them while we read.
    live_types: frozenset[bytes] = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl"})
    #: Requests that may wait behind one that is being answered. A packet of 256 KB holds 14,000 tiny ones.
    pipelined: int = 64
    #: How long after a refusal the rest of the request is read and thrown away. Closing on unread bytes makes the
    #: kernel send a reset, which can overtake the refusal, and the client never learns why.
    linger_s: float = 2.0
    #: A client that takes nothing of what waits for it in so long is cut off. A response of megabytes, and the task of
    #: its request, would otherwise stay for as long as somebody keeps a socket open that he does not read.
    stalled_s: float = 60.0

    def check_head(self, url: bytes, headers: Sized, *, size: int) -> None:
        """Raise `UrlTooLong` or `HeadersTooLarge` for a head, or the part of it that has come; `size` in bytes."""
        if len(url) > self.url_bytes:
            raise UrlTooLong(f"The URL is longer than {self.url_bytes} bytes.", extra={"limit": self.url_bytes})
        if len(headers) > self.header_count:
            sentence = f"The request has more than {self.header_count} header fields."
            raise HeadersTooLarge(sentence, extra={"limit": self.header_count})
        if size > self.head_bytes:
            sentence = f"The header fields are longer than {self.head_bytes} bytes."
            raise HeadersTooLarge(sentence, extra={"limit": self.head_bytes})

    def check_trailers(self, trailers: Sized, *, size: int) -> None:
        """Raise `HeadersTooLarge` for what follows, or interrupts, a chunked body."""
        if len(trailers) > self.header_count or size > self.head_bytes:
            sentence = f"The trailers are more than {self.header_count} or longer than {self.head_bytes} bytes."
            raise HeadersTooLarge(sentence, extra={"limit": self.head_bytes})


DEFAULT_LIMITS = Limits()
