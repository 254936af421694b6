"""One open stream, as limits and lists see it."""

from typing import Literal

import msgspec


class Connection(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One open stream: who opened it, by what right, and from where.

    A Struct, because there is one for each stream: it is made faster than a dataclass, and takes less.
    """

    id: str
    tenant: str
    kind: Literal["key", "token", "dev", "anonymous"]
    #: The key's id or the token's `sub`; "" for anybody.
    subject: str
    #: Ids of what the right to listen rests on: the key, or the token and the key that minted it.
    rests_on: tuple[str, ...] = ()
    address: str
    #: Microseconds.
    since: int
    #: The same for all tabs of one browser at one origin of ours, as far as can be told; None if it is no browser.
    browser: int | None = None

    @property
    def owner(self) -> str:
        """Whose count it goes into: a subject, or for want of one an address."""
        return owner(self.kind, self.tenant, self.subject, self.address)


def owner(kind: str, tenant: str, subject: str, address: str) -> str:
    return f"{kind}:{tenant}:{subject}" if subject else f"address:{address}"
