"""Token buckets for many parties at once, in bounded memory.

A bucket is kept as one number, the moment at which it would be full again (the generic cell rate algorithm, ITU-T
I.371: a bucket of `burst` tokens that fills at `rate` is a moment that may run `burst / rate` ahead of the clock). A
bucket that is full again is as good as none, so those are what is forgotten first, and nothing has to run in the
background to fill them.
"""

from collections import OrderedDict

#: Parties that are remembered, in about 3 MB. Who is pushed out begins anew with a full bucket; to push himself out,
#: somebody would need so many names or addresses within the time in which a bucket fills.
MAX_PARTIES = 20_000


class Buckets:
    """One token bucket for each party that takes from it. Moments are seconds of a monotonic clock.

    Args:
        rate: tokens a second.
        burst: tokens that a party may take at once after a pause.
        max_parties: those beyond this are forgotten, the longest silent first.
    """

    def __init__(self, rate: float, burst: int, *, max_parties: int = MAX_PARTIES) -> None:
        self.rate = rate
        self._token_s = 1.0 / rate
        #: How far a moment may run ahead, for one more token to be taken; a nanosecond forgives the sums of floats.
        self._ahead_s = (burst - 1) * self._token_s + 1e-9
        self._max_parties = max_parties
        #: Party -> when its bucket is full again; the longest silent first.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, party: str, now: float, count: int = 1) -> float:
        """Take tokens; returns 0, or the seconds after which one can be had, and then nothing was taken.

        A bucket that has one token left gives as many as are asked for and owes the rest, since a batch cannot be
        split.
        """
        full_at = max(self._full_at.get(party, now), now)
        wait = full_at - now - self._ahead_s
        if wait > 0:
            return wait
        self._full_at[party] = full_at + count * self._token_s
        self._full_at.move_to_end(party)
        if len(self._full_at) > self._max_parties:
            self._full_at.popitem(last=False)
        return 0.0
