"""Sending a webhook on to a program, as it came: the same bytes, and the same headers in the same order.

An HTTP library would fold repeated headers, sort them or add its own, so the request is written by `http.client`, line
by line. Left out are only the headers that belong to one hop (RFC 9110 section 7.6.1), and `Host` and the length are
those of this hop.
"""

import http.client
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from hookbrook.core.received import HIDDEN
from hookbrook.errors import HookbrookError

#: Names in lower case. `expect` would make the program wait for a body that is on its way already.
HOP_BY_HOP = frozenset(
    {"connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"}
    | {"trailer", "transfer-encoding", "upgrade"}
)
#: Of the program's answer, so much is read; it may have no end.
MAX_ANSWER = 64 * 1024
#: Of that, so much is shown when it says what went wrong.
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request to be sent."""

    method: str = "POST"
    #: What is added to the target's own query.
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    reason: str
    seconds: float
    #: The beginning of the body.
    text: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Unanswered(HookbrookError):
    """No answer came."""

    def __init__(self, sentence: str, *, again: bool) -> None:
        super().__init__(sentence)
        #: Whether the program may just be starting, so that sending again is right.
        self.again = again


class Target:
    """A program's URL. Raises HookbrookError if it is none."""

    def __init__(self, url: str, *, timeout_s: float, verify: bool = True) -> None:
        self.url = full_url(url)
        try:
            parts = urlsplit(self.url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise HookbrookError(f"{url!r} is no URL: {error}") from error
        if parts.scheme not in ("http", "https") or not self._host or parts.username is not None:
            raise HookbrookError(f"{url!r} is no URL that can be sent to; write http://localhost:3000/hook")
        self._authority = parts.netloc
        self._path = parts.path or "/"
        self._query = parts.query
        self._timeout_s = timeout_s
        self._tls = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context()
            if not verify:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE

    def path(self, query: str = "") -> str:
        """Path and query of a request with this query."""
        joined = "&".join(part for part in (self._query, query) if part)
        return f"{self._path}?{joined}" if joined else self._path

    def full(self, query: str = "") -> str:
        """The whole URL of a request with this query."""
        return self.url.partition("?")[0] + self.path(query)[len(self._path) :]

    def send(self, outgoing: Outgoing) -> Answer:
        """Raises Unanswered."""
        started = time.monotonic()
        connection = self._connection()
        try:
            connection.putrequest(outgoing.method, self.path(outgoing.query), skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers(outgoing):
                connection.putheader(name.encode("latin-1"), value.encode("latin-1"))
            connection.endheaders(outgoing.body)
            response = connection.getresponse()
            text = response.read(MAX_ANSWER).decode(errors="replace")
        except TimeoutError:
            raise Unanswered(f"no answer within {self._timeout_s:g} s", again=False) from None
        except ConnectionRefusedError:
            raise Unanswered(f"nothing listens at {self._authority}", again=True) from None
        except (ValueError, http.client.InvalidURL) as error:
            raise Unanswered(f"it cannot be sent: {error}", again=False) from error
        except (OSError, http.client.HTTPException) as error:
            sentence = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            raise Unanswered(f"the connection broke: {sentence}", again=True) from error
        finally:
            connection.close()
        return Answer(
            status=response.status,
            reason=response.reason,
            seconds=time.monotonic() - started,
            text=text[:SHOWN_CHARACTERS],
        )

    def headers(self, outgoing: Outgoing) -> list[tuple[str, str]]:
        """The headers of one request, in the order in which they are sent."""
        length = ("content-length", str(len(outgoing.body)))
        named = {
            name.strip().lower()
            for header, value in outgoing.headers
            if header.lower() == "connection"
            for name in value.split(",")
        }
        sent = [("host", self._authority)]
        for name, value in outgoing.headers:
            lower = name.lower()
            if lower == "content-length":
                sent += [length] if length not in sent else []
            elif lower != "host" and lower not in HOP_BY_HOP | named and value != HIDDEN:
                sent.append((name, value))
        return sent if length in sent else [*sent, length]

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)


def full_url(text: str) -> str:
    """`3000`, `3000/hook` and `localhost:3000/hook` are short for what a developer means by them.

    A number in a host's place would be a host all the same, somewhere in the net (RFC 3986, section 7.4).
    """
    if text.partition("/")[0].isdecimal():
        return f"http://localhost:{text}"
    return text if "://" in text else f"http://{text}"
