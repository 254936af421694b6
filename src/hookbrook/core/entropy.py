"""Random bytes by the block: one call of the operating system for hundreds of ids.

A call for ten bytes costs a microsecond, but it also gives up the interpreter lock, and beside a busy writer thread
winning that back costs fifty. No byte is given out twice.
"""

from collections.abc import Callable

BLOCK_BYTES = 4096


class Entropy:
    """Callable like its source (`os.urandom`): so many bytes, fresh each time. For one event loop."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._block = b""
        self._used = 0

    def __call__(self, count: int) -> bytes:
        end = self._used + count
        if end > len(self._block):
            self._block = self._source(max(BLOCK_BYTES, count))
            end = count
        taken = self._block[end - count : end]
        self._used = end
        return taken
