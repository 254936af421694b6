"""How secrets are shown without being shown.

A hint (`…9f3a`) is enough to tell secrets apart. Sent back in a list, it stands for the secret that it was made from,
so that a rotation can add a secret beside one that nobody can read any more: `["…9f3a", "whsec_new"]`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from hookbrook.core.credential import Basic, Bearer, Credential
from hookbrook.errors import Invalid

#: In place of a header's value.
HIDDEN: Final = "***"
_ELLIPSIS: Final = "…"
#: Of a shorter secret the last four characters would be a good part.
_SHORTEST_SHOWN: Final = 16

_PRIVATE_HEADER = re.compile(r"auth|cookie|token|secret|key|password|credential|signature", re.IGNORECASE)


def hint(secret: str) -> str:
    """The last four characters, if there are many others."""
    return _ELLIPSIS + (secret[-4:] if len(secret) >= _SHORTEST_SHOWN else "")


def restored(given: Sequence[str], known: Sequence[str], field: str = "secrets") -> tuple[str, ...]:
    """`given` with each hint replaced by the known secret it was made from; raises `Invalid` for one without."""
    # Two secrets may have one hint; each stands in its turn.
    waiting = list(known)
    secrets = []
    for index, text in enumerate(given):
        if text.startswith(_ELLIPSIS):
            meant = next((secret for secret in waiting if hint(secret) == text), None)
            if meant is None:
                raise Invalid.of(f"{field}[{index}]", "is a hint, and no secret fits it")
            waiting.remove(meant)
            secrets.append(meant)
        else:
            secrets.append(text)
    return tuple(secrets)


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with the values hidden whose names say that they are credentials."""
    return {name: HIDDEN if _PRIVATE_HEADER.search(name) else value for name, value in headers.items()}


def restored_headers(given: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """`given` with each hidden value replaced by the known one of that name."""
    return {name: known.get(name, value) if value == HIDDEN else value for name, value in given.items()}


def shown_credential(credential: Credential | None) -> dict[str, str] | None:
    """As the API shows it: its type, and who; never what proves it."""
    if credential is None:
        return None
    if isinstance(credential, Basic):
        return {"type": "basic", "username": credential.username, "password": HIDDEN}
    return {"type": "bearer", "token": HIDDEN}


def restored_credential(given: Credential | None, known: Credential | None) -> Credential | None:
    """`given` with what is hidden replaced by what is known."""
    if isinstance(given, Basic) and isinstance(known, Basic) and given.password == HIDDEN:
        return Basic(username=given.username, password=known.password)
    if isinstance(given, Bearer) and isinstance(known, Bearer) and given.token == HIDDEN:
        return known
    return given
