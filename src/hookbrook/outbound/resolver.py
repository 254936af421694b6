"""Finding the addresses of a receiver's name, and judging them all before any is contacted."""

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from threading import Thread
from time import monotonic
from typing import Any, Final, Protocol

from aiohappyeyeballs import AddrInfoType

from hookbrook.core.addresses import Rule, judge
from hookbrook.core.fetch import Blocked, DnsFailed, FetchError

DNS_TIMEOUT_S: Final = 5.0
#: The system's resolver blocks a thread for up to half a minute when name servers are silent. A thread that waits costs
#: little; too few, and one customer's dead domain delays everybody's first look-up.
MAX_LOOKUPS: Final = 64
#: A name's addresses are used this long before they are asked for again.
DNS_CACHE_S: Final = 10.0
#: Names whose addresses are kept.
MAX_KNOWN: Final = 4096


class Resolver(Protocol):
    """Finds the addresses of a name. It MUST NOT block the loop; its answer is judged by the client."""

    async def resolve(self, host: str) -> Sequence[str]:
        """All addresses of the name, as text. Raises `OSError` if it has none or nobody answers."""
        ...


class SystemResolver:
    """The operating system's resolver, in threads.

    They are daemon threads and not an executor's, because an executor is joined at exit, and a silent name server
    would then hold the process for half a minute.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    async def resolve(self, host: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def settle(found: list[str] | OSError) -> None:
            self._slots.release()
            if answer.done():  # nobody waits any more
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found = _look_up(host)
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle, found)

        # A slot belongs to the thread, not to the caller, who may stop waiting earlier.
        await self._slots.acquire()
        Thread(target=look_up, name="hookbrook-dns", daemon=True).start()
        return await answer


def _look_up(host: str) -> list[str] | OSError:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except OSError as exc:
        return exc
    except UnicodeError:
        return OSError(errno.EINVAL, "no host name")
    return [with_zone(info[4]) for info in infos]


class Lookups:
    """Addresses of names, all judged, kept for a moment. Who asks for the same name at the same time waits for one
    answer."""

    def __init__(self, resolver: Resolver, allowed: Sequence[Rule], denied: Sequence[Rule]) -> None:
        self._resolver = resolver
        self._allowed = allowed
        self._denied = denied
        #: (host, port) -> until when, and its addresses; the port belongs to the judgement.
        self._known: OrderedDict[tuple[str, int], tuple[float, list[AddrInfoType]]] = OrderedDict()
        self._pending: dict[tuple[str, int], asyncio.Task[list[AddrInfoType]]] = {}

    async def find(self, host: str, port: int) -> list[AddrInfoType]:
        """The addresses to try, in turn another one first. Raises `Blocked` or `DnsFailed`, an own one each time."""
        key = (host, port)
        until, found = self._known.get(key, (0.0, []))
        if until <= monotonic():
            try:
                # Shielded: who stops waiting does not take the answer from the others.
                found = await asyncio.shield(self._pending.get(key) or self._ask(key))
            except FetchError as exc:
                raise type(exc)(exc.detail) from None
        found.append(found.pop(0))
        return found[:]

    def close(self) -> None:
        for task in self._pending.values():
            task.cancel()

    def _ask(self, key: tuple[str, int]) -> asyncio.Task[list[AddrInfoType]]:
        def done(task: asyncio.Task[list[AddrInfoType]]) -> None:
            del self._pending[key]
            if not task.cancelled() and task.exception() is None:
                self._known[key] = (monotonic() + DNS_CACHE_S, task.result())
                self._known.move_to_end(key)
                if len(self._known) > MAX_KNOWN:
                    self._known.popitem(last=False)

        task = asyncio.create_task(self._resolve(*key), name="hookbrook lookup")
        self._pending[key] = task
        task.add_done_callback(done)
        return task

    async def _resolve(self, host: str, port: int) -> list[AddrInfoType]:
        try:
            async with asyncio.timeout(DNS_TIMEOUT_S):
                addresses = await self._resolver.resolve(host)
        except TimeoutError:
            raise DnsFailed(f"The name {host} was not resolved within {DNS_TIMEOUT_S:g} s.") from None
        except OSError as exc:
            raise DnsFailed(f"The name {host} does not resolve.") from exc
        if not addresses:
            raise DnsFailed(f"The name {host} has no address.")
        for address in addresses:
            verdict = judge(address, self._allowed, self._denied, port=port)
            if not verdict.ok:
                # The address itself is not told: tenants would learn what internal names stand for.
                raise Blocked(f"{host} leads to {verdict.reason}, which may not be contacted.")
        return [address_info(address, port) for address in dict.fromkeys(addresses)]


def with_zone(address: tuple[Any, ...]) -> str:
    """The address of a socket as text. An IPv6 one has four members, the last its zone (0: none)."""
    host = str(address[0])
    return f"{host}%{address[3]}" if len(address) > 3 and address[3] and "%" not in host else host


def address_info(address: str, port: int) -> AddrInfoType:
    """As `socket.getaddrinfo` has it; `address` is one that was judged."""
    if isinstance(ip_address(address), IPv6Address):
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
