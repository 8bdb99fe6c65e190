# SPDX-License-Identifier: MIT
"""One quota for many bots, on any machines, through Redis (extra ``redis``).

.. code-block:: python

    with RedisShare(client.budget, "rediss://user:password@redis.example:6379/0", "desk 1"):
        ...

An account and its subaccounts draw on one quota (docs.pacifica.fi, rate limits) wherever their bots run.
What is left of it is known from the newest reply that any of them got. Less what is under way, and less
the reserve, it is divided between them: each bot holds a part that nobody else may spend, and tops it up
ten times a second, in one atomic script. So no number of orders sent at once by several bots gets into the
reserve, which is for cancels. Those are never held back: their costs count, nothing else.

One thread does all the talking, and nothing that sends ever waits for it. While Redis does not answer, a
bot keeps to the part it has, and takes one of a whole quota when the credits are refreshed: this is what
it would have got, and all bots together stay within the quota. Before Redis has ever answered, a bot takes
itself for one of two. One that was not heard of for 10 s is no longer counted; if it is cut off and not
dead, up to its part may be spent twice, and only the replies tell.

What travels are states and not changes: whatever is lost, repeated or late is put right by the next one.
Times are those of Redis, the order of replies is that of their ``t``. It works with Redis 5 and later.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
import weakref
from contextlib import closing, suppress
from time import monotonic
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from pacifica_fast.credits import WINDOW, Books, Budget
from pacifica_fast.errors import InvalidRequest

try:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry
except ImportError as _error:
    raise ImportError("sharing credits needs redis: pip install 'pacifica-fast[redis]'") from _error

__all__ = ["RedisShare"]

logger: logging.Logger = logging.getLogger("pacifica_fast.credits")

BACKOFF_MAX: Final = 1.0  # s between two attempts to reach a Redis that is gone
_NEW_WINDOW: Final = 1.5  # s; ``rl`` tells whole seconds, so one moment is told up to a second apart
_COST: Final = 1.0  # credits; what the least of a part is good for
_GROUP_MAX: Final = 128

# The hash KEYS[1] holds "born", ms; "told", the newest rl, as stamp, remaining, quota and end of window (ms);
# and of each bot when it was heard of (ms), its count of calls, what it may spend, and what it has under way.
# A call that was overtaken (left in a socket while Redis stood still) changes nothing. When nobody has been
# heard of for a while, Redis was gone, or this is the beginning: each bot then tells how many they were,
# until all have had time to come back. So long nobody who knew the group before ("joined" is its "born" as
# it first was) gets more than it has: the others hold parts that are not in the hash yet. A moment that lies
# ahead was noted before the clock was set back: it counts as now, and gets old from now on.
_SCRIPT: Final = """
local LOST, SETTLING, KEPT = 10000, 3000, 120000
local key, me = KEYS[1], ARGV[1]
local call, held, outstanding = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local reserve, bots, joined = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function numbers(text)
  local found = {}
  for word in string.gmatch(text, '%S+') do found[#found + 1] = tonumber(word) end
  return found
end
local function past(moment) return math.min(moment, now) end
local function exact(number) return string.format('%.17g', number) end
local function put(field, values)
  for i, value in ipairs(values) do values[i] = exact(value) end
  redis.call('HSET', key, field, table.concat(values, ' '))
end

local born, heard, told, claimed, underway, count = now, 0, nil, 0, 0, 1
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local field, values = fields[i], numbers(fields[i + 1])
  if field == 'born' then
    born = past(values[1])
  elseif field == 'told' then
    told = values
  elseif field == me then
    if call <= values[2] then return {} end
    heard = math.max(heard, past(values[1]))
  elseif now - values[1] > LOST then
    redis.call('HDEL', key, field)
  else
    count = count + 1
    heard = math.max(heard, past(values[1]))
    claimed = claimed + values[3] + values[4]
    underway = underway + values[4]
    if values[1] > now then put(field, {now, values[2], values[3], values[4]}) end
  end
end
if now - heard > LOST then born = now end
put('born', {born})
local settling = now - born < SETTLING
if settling then count = math.max(count, bots) end

if ARGV[8] then
  local stamp, remaining = tonumber(ARGV[8]), tonumber(ARGV[9])
  if not told or stamp > told[1] or now >= told[4] then
    told = {stamp, remaining, tonumber(ARGV[10]), now + tonumber(ARGV[11])}
  elseif stamp == told[1] then
    told[2] = math.min(told[2], remaining)
    told[4] = math.min(told[4], now + tonumber(ARGV[11]))
  end
  put('told', {unpack(told)})
end

local reply = {exact(count), exact(born)}
if told then
  local left = now < told[4] and told[2] or told[3]
  local part = math.max(0, left - reserve - underway - outstanding) / count
  local free = left - reserve - claimed - outstanding - held
  local grant = math.max(0, math.min(part - held, free))
  if settling and joined > 0 and joined ~= born then grant = 0 end
  held = held + grant
  for _, value in ipairs({grant, part, left, underway, told[4] - now}) do
    reply[#reply + 1] = exact(value)
  end
end
put(me, {now, call, held, outstanding})
redis.call('PEXPIRE', key, KEPT)
return reply
"""


class _Answer(NamedTuple):
    """What the script returned: credits, but ``rest``, the time to the end of the window, is in ms."""

    bots: float
    born: float
    grant: float
    part: float
    left: float
    underway: float
    rest: float


class RedisShare:
    """Shares ``budget`` with all that name the same ``group``, from now until :meth:`close`.

    ``budget`` is that of a client, asyncio or blocking; the clients of one process that share it are one
    bot here. ``url`` is ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads it; ``group`` names the
    account whose quota it is, and is part of the key: no secret. ``interval`` and ``timeout`` are in s: how
    often Redis is asked, and how long for an answer.

    Raises :class:`InvalidRequest` for wrong arguments, and for a budget that is shared already; never
    because of Redis. Made before a fork, it stays the parent's; a child makes its own. Without
    :meth:`close` its part is kept for it for another 10 s.
    """

    def __init__(
        self, budget: Budget, url: str, group: str, *, interval: float = 0.1, timeout: float = 0.25
    ) -> None:
        if not isinstance(budget, Budget):
            raise InvalidRequest(
                f"budget: expected pacifica_fast.credits.Budget, got {type(budget).__name__}"
            )
        if not isinstance(group, str) or not 0 < len(group) <= _GROUP_MAX or not group.isprintable():
            raise InvalidRequest(f"group: expected a name of at most {_GROUP_MAX} printable characters")
        self._interval = _checked_seconds("interval", interval)
        self._redis = _redis(url, _checked_seconds("timeout", timeout))
        self._timeout = float(timeout)
        self._budget = budget
        self._group = group
        self._key = f"pacifica_fast:credits:{group}"
        self._script = self._redis.register_script(_SCRIPT)
        self._me = uuid.uuid4().hex
        self._calls = 0
        self._bots = 2
        self._joined = 0.0
        self._window_end = 0.0
        self._window_guessed = False
        self._failures = 0
        self._connected = False
        self._complained = False
        self._stop = threading.Event()
        self._pid = os.getpid()
        with _lock:
            if budget in _shared:
                raise InvalidRequest("budget: it is shared through Redis already")
            _shared.add(budget)
        self._thread = threading.Thread(target=self._run, name="pacifica_fast credits", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """True if Redis answered the last time it was asked."""
        return self._connected and self._pid == os.getpid() and not self._stop.is_set()

    @property
    def bots(self) -> int:
        """Among how many the quota is divided, as last known."""
        return self._bots

    def close(self) -> None:
        """Leave the group; others may use the part at once. The budget is this process's own again.

        Waits for Redis no longer than ``timeout`` a few times over. Idempotent; nothing happens in a
        forked child.
        """
        if self._pid != os.getpid():
            return
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(8 * self._timeout)  # name resolution knows no timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RedisShare of {self._group!r} at {self._where()}>"

    # The thread.

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
                self._stop.wait(self._pause())
        finally:
            self._leave()

    def _pause(self) -> float:
        return max(self._interval, min(BACKOFF_MAX, self._interval * 2.0 ** min(self._failures, 16)))

    def _turn(self) -> None:
        books = self._budget.books()
        try:
            answer = self._ask(books, monotonic())
        except (RedisError, OSError, ValueError, TypeError) as error:
            self._failed(error)
            self._alone(self._budget.books(), monotonic())
        else:
            self._answered(answer, books, monotonic())

    def _ask(self, books: Books, now: float) -> _Answer | None:
        self._calls += 1
        args: list[str | float] = [
            self._me,
            self._calls,
            max(0.0, books.allowance or 0.0),
            books.outstanding,
            self._budget.reserve,
            self._bots,
            self._joined,
        ]
        if books.remaining is not None and books.quota is not None:
            rest = int((books.refresh_at - now) * 1000)
            args += [books.stamp, books.remaining, books.quota, rest]
        answer: Any = self._script(keys=[self._key], args=args)
        numbers = [float(number) for number in answer]
        if numbers:
            self._bots = int(numbers[0])
            self._joined = self._joined or numbers[1]
        return _Answer(*numbers) if len(numbers) == len(_Answer._fields) else None

    def _answered(self, answer: _Answer | None, books: Books, now: float) -> None:
        if self._complained:
            logger.info("Redis at %s answers again", self._where())
        self._failures, self._connected, self._complained = 0, True, False
        if answer is None:  # no bot has had a reply yet
            return
        held = max(0.0, books.allowance or 0.0)
        # What is more than the part is given back here first, and told next time: no credit is held twice.
        allowance = min(held + answer.grant, answer.part)
        self._budget.allow(
            allowance,
            books,
            elsewhere=_elsewhere(answer, books, now),
            wait=self._interval if answer.part >= _COST else None,
        )
        self._window_guessed = answer.rest <= 0
        self._window_end = now + (WINDOW if self._window_guessed else answer.rest / 1000)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._connected = False
        if not self._complained and not self._stop.is_set():
            self._complained = True
            # Only the error's name: a server may quote what it was sent, a password say.
            logger.warning(
                "Redis at %s fails (%s): this bot keeps to its part of the credits, one of %d",
                self._where(),
                type(error).__name__,
                self._bots,
            )

    def _alone(self, books: Books, now: float) -> None:
        """Take this bot's part of what is left, once in each window and at the beginning."""
        if books.remaining is None or books.quota is None:
            return
        known = now < books.refresh_at
        if self._window_guessed and known:  # the first reply of a window of which this bot has its part
            self._window_end, self._window_guessed = books.refresh_at, False
        refreshed = now >= self._window_end or books.refresh_at > self._window_end + _NEW_WINDOW
        if books.allowance is not None and not refreshed:
            self._budget.allow(books.allowance, books, elsewhere=self._budget.elsewhere)
            return
        left = (books.remaining if known else books.quota) - self._budget.reserve - books.outstanding
        self._budget.allow(max(0.0, left) / self._bots, books)
        self._window_guessed = not known
        self._window_end = books.refresh_at if known else now + WINDOW

    def _leave(self) -> None:
        try:
            # If it fails, the part stays ours for a while (see _SCRIPT, LOST); the socket is closed anyway.
            with suppress(RedisError, OSError), closing(self._redis):
                if self._connected:
                    self._redis.hdel(self._key, self._me)
        finally:
            self._budget.allow(None, self._budget.books())
            with _lock:
                _shared.discard(self._budget)

    def _where(self) -> str:
        """The address without the credentials."""
        to = self._redis.connection_pool.connection_kwargs
        return str(
            to.get("path") or f"{to.get('host', 'localhost')}:{to.get('port', 6379)}/{to.get('db', 0)}"
        )


_shared: weakref.WeakSet[Budget] = weakref.WeakSet()
_lock = threading.Lock()


def _elsewhere(answer: _Answer, books: Books, now: float) -> float:
    """By how much less is left than this process's own replies tell."""
    if books.remaining is None or books.quota is None:
        return 0.0
    left = books.remaining if now < books.refresh_at else books.quota
    return max(0.0, left - answer.left) + answer.underway


def _redis(url: str, timeout: float) -> Redis:
    if not isinstance(url, str):
        raise InvalidRequest(f"url: expected str, got {type(url).__name__}")
    # The error is dropped, not chained: its text may quote the password.
    with suppress(ValueError, TypeError):
        redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        pool = redis.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # opens nothing; refuses unknown ?options
        return redis
    raise InvalidRequest("url: expected redis://, rediss:// or unix://, as redis-py reads them")


def _checked_seconds(field: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 60:
        raise InvalidRequest(f"{field}: expected a positive number of seconds, at most 60")
    return float(value)


def _start_afresh() -> None:
    """In a forked child: its parent's shares are not its own, nor their lock."""
    global _lock
    _lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_start_afresh)
