"""What aiohttp raises, told in our words: the kind of the fault, and one sentence that holds no secret."""

import errno
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong, TransferEncodingError
from yarl import URL

from hookbrook.core.fetch import (
    BadResponse,
    Blocked,
    ConnectRefused,
    ConnectTimeout,
    FetchError,
    HeadersTooLarge,
    LocalFault,
    Reset,
    TimedOut,
    TlsFailed,
    Unreachable,
    Unsendable,
)
from hookbrook.outbound.wire import Attempt

#: aiohttp's parser bounds one header, and their number; together with the bytes that are kept they bound an answer.
MAX_HEADER_LENGTH: Final = 8190
MAX_HEADER_COUNT: Final = 100

_OUT_OF_SOCKETS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EADDRINUSE}
)


class Dropped(Exception):
    """The connection ended before the head of an answer was complete."""


def fault(exc: Exception, attempt: Attempt, url: URL) -> FetchError:
    """What went wrong, in our words, with all that is known of the attempt."""
    kind, detail = _diagnosis(exc, attempt, url)
    secure = url.scheme == "https"
    return kind(
        detail,
        timing=attempt.timing(secure),
        address=attempt.address,
        response=attempt.response(secure, truncated=True),
    )


def _diagnosis(exc: Exception, attempt: Attempt, url: URL) -> tuple[type[FetchError], str]:
    host = f"{url.raw_host}:{url.port}"
    match exc:
        case _ if attempt.blocked is not None:
            return Blocked, f"{url.raw_host} is {attempt.blocked}, which may not be contacted."
        case FetchError():
            return type(exc), exc.detail
        case aiohttp.ConnectionTimeoutError():
            return ConnectTimeout, f"No connection to {host} within the time allowed."
        case TimeoutError() if attempt.connected is None:
            return ConnectTimeout, f"No connection to {host} within the time allowed."
        case TimeoutError():
            return TimedOut, f"{host} did not answer completely within the time allowed."
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(exc.certificate_error, "verify_message", "") or "it is not valid for this host"
            return TlsFailed, f"The certificate of {host} is not accepted: {reason.rstrip('.')}."
        case aiohttp.ClientConnectorSSLError():
            return TlsFailed, f"The TLS handshake with {host} failed."
        case aiohttp.ClientConnectorError():
            return _refusal(exc.os_error, host)
        case aiohttp.ClientResponseError():
            return _misanswer(exc.__cause__, host)
        case aiohttp.ClientPayloadError() if isinstance(exc.__cause__, TransferEncodingError):
            return BadResponse, f"{host} sent a body with broken chunks."
        case aiohttp.ClientError() | Dropped() if not isinstance(exc, ValueError):
            return Reset, f"{host} closed the connection before its answer was complete."
        case OSError():
            return Reset, f"{host} closed the connection before its answer was complete."
        case _:
            return Unsendable, "The request cannot be sent: its method or a header has a forbidden character."


def _refusal(error: OSError, host: str) -> tuple[type[FetchError], str]:
    if error.errno in _OUT_OF_SOCKETS:
        return LocalFault, "This machine has no free socket or port at the moment."
    if error.errno == errno.ECONNREFUSED:
        return ConnectRefused, f"{host} refused the connection."
    if error.errno == errno.ETIMEDOUT:
        return ConnectTimeout, f"No connection to {host} within the time allowed."
    if isinstance(error, ConnectionError):
        # A plain connection cannot be reset while it is made, so this was the TLS handshake.
        return TlsFailed, f"{host} closed the connection during the TLS handshake."
    return Unreachable, f"{host} cannot be reached from here."


def _misanswer(cause: BaseException | None, host: str) -> tuple[type[FetchError], str]:
    while isinstance(cause, HttpProcessingError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, LineTooLong) or "Too many headers" in getattr(cause, "message", ""):
        return HeadersTooLarge, f"{host} sent more headers than {MAX_HEADER_COUNT}, or a longer one than 8 KB."
    return BadResponse, f"{host} sent an answer that is not HTTP."
