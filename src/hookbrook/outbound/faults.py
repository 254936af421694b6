"""What goes wrong outside of this process, told in our words: the kind of the fault, and one sentence without secrets.

The sentences name host and port, never the path, the query or a header.
"""

import errno
import ssl
from typing import Final

from hookbrook.core.fetch import (
    BadResponse,
    Blocked,
    ConnectRefused,
    ConnectTimeout,
    FetchError,
    HeadersTooLarge,
    LocalFault,
    ProxyFailed,
    Reset,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from hookbrook.outbound.attempt import Attempt
from hookbrook.outbound.wire import MAX_HEADER_COUNT, Dropped, HeadTooLarge

_OUT_OF_SOCKETS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EADDRINUSE}
)


def told(error: FetchError, attempt: Attempt) -> FetchError:
    """The same error with all that is known of the attempt."""
    return type(error)(
        error.detail,
        timing=attempt.timing(),
        address=attempt.address,
        response=attempt.response(truncated=True),
    )


def late(peer: str, attempt: Attempt) -> FetchError:
    """The time is over."""
    if attempt.at_proxy:
        return ProxyFailed("No connection to the proxy within the time allowed.")
    if attempt.ready is not None:
        return TimedOut(f"{peer} did not answer completely within the time allowed.")
    return ConnectTimeout(f"No connection to {peer} within the time allowed.")


def refusal(error: OSError | RuntimeError, attempt: Attempt, peer: str) -> FetchError:
    """Why there is no connection."""
    code = getattr(error, "errno", None)
    if attempt.blocked is not None:
        return Blocked(f"{peer.rpartition(':')[0]} is {attempt.blocked}, which may not be contacted.")
    if code in _OUT_OF_SOCKETS:
        return LocalFault("This machine has no free socket or port at the moment.")
    if code == errno.ECONNREFUSED:
        return ConnectRefused(f"{peer} refused the connection.")
    if code == errno.ETIMEDOUT:
        return ConnectTimeout(f"No connection to {peer} within the time allowed.")
    return Unreachable(f"{peer} cannot be reached from here.")


def tls_failure(error: OSError, peer: str) -> FetchError:
    """Why the connection that there was does not speak TLS with us. `ssl.SSLError` is an `OSError`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or "it is not valid for this host"
        return TlsFailed(f"The certificate of {peer} is not accepted: {reason.rstrip('.')}.")
    if isinstance(error, ssl.SSLError):
        return TlsFailed(f"The TLS handshake with {peer} failed.")
    return TlsFailed(f"{peer} closed the connection during the TLS handshake.")


def misanswer(error: Exception, peer: str) -> FetchError:
    """What a `Wire` raises."""
    if isinstance(error, Dropped):
        return Reset(f"{peer} closed the connection before its answer was complete.")
    if isinstance(error, HeadTooLarge):
        return HeadersTooLarge(f"{peer} sent more headers than {MAX_HEADER_COUNT}, or a longer one than 8 KB.")
    return BadResponse(f"{peer} sent an answer that is not HTTP.")
