# SPDX-License-Identifier: MIT
"""Private keys: where they come from, and where they never go.

A key lives in one slot of private pages: locked in RAM where the limit allows, kept out
of core dumps, empty in a forked child, wiped by ``close()`` and at interpreter exit.
Python never gets it back out: there is no accessor, and repr, pickle, copy and the
errors of this module do not contain it.

What cannot be wiped is what the caller holds: the string, bytes or environment variable
that the key came from. The ways around leave nothing: ``from_fd`` and ``from_file`` read
into memory that is wiped, and ``wipe=True`` wipes the ``bytearray`` that was handed over.
"""

from __future__ import annotations

import errno
import os
import weakref
from types import TracebackType
from typing import Any, NoReturn, TypeGuard

from pacifica_fast._sodium import LONG_INPUT, ffi, lib
from pacifica_fast.base58 import b58decode
from pacifica_fast.errors import InvalidRequest, KeyClosed

__all__ = ["Keypair"]

SEED_SIZE = 32
PAIR_SIZE = 64  # seed, then public key
SIGNATURE_SIZE = 64

# Base58 of 32 bytes has 32 to 44 characters, of 64 bytes 64 to 88: the length tells which.
_BASE58_SIZES = ((range(32, 45), SEED_SIZE), (range(64, 89), PAIR_SIZE))

_EXPECTED = "expected base58 of a 64-byte Solana secret key (seed and public key) or of a 32-byte seed"

_NOT_NUMBERS = "expected the array of 64 numbers of a Solana id.json"
_FILE_MAX = 4096  # bytes; 64 numbers need a tenth of that


_WHITE_SPACE = b" \t\r\n"


def _wipe(secret: bytearray | memoryview) -> None:
    view = ffi.from_buffer(secret)
    lib.pf_wipe_bytes(view, len(view))


def _can_be_wiped(secret: object) -> TypeGuard[bytearray | memoryview]:
    if isinstance(secret, memoryview):
        return secret.c_contiguous and not secret.readonly
    return isinstance(secret, bytearray)


def _wipeable(text: str) -> bytearray:
    """ASCII text as bytes that can be wiped, and no other copy: ``encode`` would leave one."""
    out = bytearray(len(text))
    for index, character in enumerate(text):
        out[index] = ord(character)
    return out


def _may_be_a_key(name: str) -> bool:
    """Whether a name is as long as a key and looks like one: what was handed over by mistake, perhaps."""
    text = name.strip()
    return len(text) >= SEED_SIZE and (text.isalnum() or text.startswith("["))


def _wrong_path(path: object) -> Exception | None:
    """What is wrong with a path, without the path where that may be a key."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        return InvalidRequest(f"path: expected str or a path of str, got {type(path).__name__}")
    if _may_be_a_key(text) and not os.path.exists(text):
        return FileNotFoundError(errno.ENOENT, "path: no such file; not shown, as it may be the key itself")
    return None


def _read(source: str | os.PathLike[str] | int, content: bytearray) -> int:
    """Fill ``content``, and nothing else, from a file or pipe; how many bytes there were.

    A descriptor stays open: it is the caller's, who also wipes ``content``, whatever happens.
    """
    size = 0
    with open(source, "rb", buffering=0, closefd=not isinstance(source, int)) as file:
        while size < len(content) and (got := file.readinto(memoryview(content)[size:])) != 0:
            if got is None:
                raise BlockingIOError(errno.EAGAIN, "it does not block, and has no more bytes yet")
            size += got
    return size


def _read_numbers(content: bytearray, size: int, secret: bytearray) -> int:
    """Fill ``secret`` from a JSON array of bytes; how many there are, 0 if it is anything else.

    Byte by byte, because ``json.loads`` or ``split`` would leave copies behind.
    """
    count = number = 0
    expected = "["
    if size >= _FILE_MAX:  # there is more of it
        return 0
    for c in memoryview(content)[:size]:
        if 0x30 <= c <= 0x39 and expected in ("number", "digit"):
            number = number * 10 + c - 0x30
            if number > 255 or count == len(secret):
                return 0
            expected = "digit"
        elif c in b" \t\r\n":
            expected = "comma" if expected == "digit" else expected
        elif c == 0x5B and expected == "[":
            expected = "number"
        elif c in b",]" and expected in ("digit", "comma"):
            secret[count] = number
            count, number = count + 1, 0
            expected = "number" if c == 0x2C else "end"
        else:
            return 0
    return count if expected == "end" else 0


class Keypair:
    """An Ed25519 key pair (RFC 8032) whose private half does not leave the C core.

    Made by one of the ``from_`` class methods or by :meth:`generate`. It is a context
    manager; leaving it closes the key. It may be used from any thread, and belongs to the
    process that made it: in a forked child every use raises :class:`KeyClosed`.
    """

    __slots__ = ("__weakref__", "_end", "_key", "_pid", "_pubkey")

    _key: Any
    _pubkey: str
    _pid: int
    _end: weakref.finalize[Any, Any]

    def __init__(self) -> None:
        raise TypeError("a Keypair is made by Keypair.from_base58_string, .from_env, .generate, ...")

    @classmethod
    def from_base58_string(cls, s: str) -> Keypair:
        """From base58: a 64-byte Solana secret key, its public half compared, or a 32-byte seed.

        Raises :class:`InvalidRequest` without the string.
        """
        result = cls._from_text(s) if isinstance(s, str) else f"expected str, got {type(s).__name__}"
        del s
        return cls._or_raise("private key", result)

    @classmethod
    def from_bytes(cls, b: bytes | bytearray | memoryview, *, wipe: bool = False) -> Keypair:
        """From 64 bytes, seed and public key, the public half compared; or from a 32-byte seed.

        With ``wipe`` the caller's memory, a ``bytearray`` or a writable ``memoryview``, holds
        zeros afterwards, whether it made a key or not. Raises :class:`InvalidRequest`.
        """
        result = cls._from_callers(b, (SEED_SIZE, PAIR_SIZE), wipe)
        del b
        return cls._or_raise("private key", result)

    @classmethod
    def from_seed(cls, b: bytes | bytearray | memoryview, *, wipe: bool = False) -> Keypair:
        """From the 32-byte seed of RFC 8032, section 5.1.5. ``wipe`` as in :meth:`from_bytes`."""
        result = cls._from_callers(b, (SEED_SIZE,), wipe)
        del b
        return cls._or_raise("seed", result)

    @classmethod
    def from_fd(cls, fd: int) -> Keypair:
        """From a file descriptor, up to its end: a Solana ``id.json``, or base58.

        The way to be handed a key by another process: a pipe whose other end a keeper of keys
        holds, say. Nothing is left of what was read. The descriptor stays open, and is the
        caller's. Raises :class:`InvalidRequest` if neither came, ``OSError`` if it cannot be
        read, or does not block and has no more bytes yet.
        """
        if type(fd) is not int or fd < 0:
            got = type(fd).__name__
            del fd  # it may be the key itself, by mistake
            raise InvalidRequest(f"fd: expected the number of a file descriptor, got {got}")
        return cls._from_source(fd, f"file descriptor {fd}")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Keypair:
        """From a file: a Solana ``id.json``, an array of 64 (or 32) numbers; or base58.

        It may be a pipe, and is read once. Raises :class:`InvalidRequest` if it holds
        neither, ``OSError`` if it cannot be read.
        """
        if (wrong := _wrong_path(path)) is not None:
            del path
            raise wrong
        return cls._from_source(path, os.fspath(path))

    @classmethod
    def from_json_file(cls, path: str | os.PathLike[str]) -> Keypair:
        """From a Solana ``id.json``: an array of 64 (or 32) numbers.

        Raises :class:`InvalidRequest` if that is not what the file holds, ``OSError`` if it
        cannot be read.
        """
        if (wrong := _wrong_path(path)) is not None:
            del path
            raise wrong
        content = bytearray(_FILE_MAX)
        try:
            result = cls._from_numbers(content, _read(path, content))
        finally:
            _wipe(content)
        return cls._or_raise(os.fspath(path), result)

    @classmethod
    def from_env(cls, name: str = "PACIFICA_PRIVATE_KEY") -> Keypair:
        """From an environment variable: base58, or the array of a Solana ``id.json``.

        The variable stays in the environment, where child processes and
        ``/proc/PID/environ`` show it; a file does not have that trouble. Raises
        :class:`InvalidRequest` if it holds neither, or is not set.
        """
        if not isinstance(name, str):
            got = type(name).__name__
            del name
            raise InvalidRequest(f"name: expected that of an environment variable, got {got}")
        if name not in os.environ:
            wrong = f"{name}: no such environment variable"
            if _may_be_a_key(name):
                wrong = "name: no such environment variable; not shown, as it may be the key itself"
            del name
            raise InvalidRequest(wrong)
        text = os.environ[name]
        result = cls._from_content(_wipeable(text), len(text)) if text.isascii() else _EXPECTED
        del text
        return cls._or_raise(name, result)

    @classmethod
    def generate(cls) -> Keypair:
        """A new key from libsodium's random generator. It can sign; it cannot be read out."""
        return cls._or_raise("key", cls._opened(None))

    @classmethod
    def _from_source(cls, source: str | os.PathLike[str] | int, name: str) -> Keypair:
        content = bytearray(_FILE_MAX)
        try:
            size = _read(source, content)
            if size == _FILE_MAX:  # there is more of it
                raise InvalidRequest(f"{name}: {_EXPECTED}, got {_FILE_MAX} bytes or more")
            result = cls._from_content(content, size)
        finally:
            _wipe(content)
        return cls._or_raise(name, result)

    # The readers below return what is wrong instead of raising it: an error raised here
    # would carry the secret in the locals of its traceback.

    @classmethod
    def _or_raise(cls, source: str, result: Keypair | str | MemoryError) -> Keypair:
        if isinstance(result, Keypair):
            return result
        if isinstance(result, MemoryError):
            raise result
        raise InvalidRequest(f"{source}: {result}")

    @classmethod
    def _from_text(cls, text: str) -> Keypair | str | MemoryError:
        if not text.isascii():
            return _EXPECTED
        content = _wipeable(text)
        return cls._from_base58(content, 0, len(content))

    @classmethod
    def _from_content(cls, content: bytearray, size: int) -> Keypair | str | MemoryError:
        """From the first ``size`` bytes, an ``id.json`` or base58 with white space around; wiped."""
        start, end = 0, size
        while start < end and content[start] in _WHITE_SPACE:
            start += 1
        while start < end and content[end - 1] in _WHITE_SPACE:
            end -= 1
        if start < end and content[start] == ord("["):
            return cls._from_numbers(content, size)
        return cls._from_base58(content, start, end)

    @classmethod
    def _from_base58(cls, content: bytearray, start: int, end: int) -> Keypair | str | MemoryError:
        """From the base58 between ``start`` and ``end``; all of ``content`` is wiped."""
        secret = bytearray(PAIR_SIZE)
        try:
            for lengths, size in _BASE58_SIZES:
                if end - start in lengths:
                    out = ffi.from_buffer(secret)
                    if lib.pf_b58decode_exact(out, size, ffi.from_buffer(content) + start, end - start) != 0:
                        return "not base58 of the right length"
                    return cls._from_buffer(memoryview(secret)[:size], (size,))
            return f"{_EXPECTED}, got {end - start} characters"
        finally:
            _wipe(content)
            _wipe(secret)

    @classmethod
    def _from_numbers(cls, content: bytearray, size: int) -> Keypair | str | MemoryError:
        """From the first ``size`` bytes of an ``id.json``, which are wiped."""
        secret = bytearray(PAIR_SIZE)
        try:
            count = _read_numbers(content, size, secret)
            if not count:
                return _NOT_NUMBERS
            return cls._from_buffer(memoryview(secret)[:count], (SEED_SIZE, PAIR_SIZE))
        finally:
            _wipe(content)
            _wipe(secret)

    @classmethod
    def _from_callers(
        cls, secret: bytes | bytearray | memoryview, sizes: tuple[int, ...], wipe: bool
    ) -> Keypair | str | MemoryError:
        """As :meth:`_from_buffer`; then the caller's memory is wiped, if that was asked for."""
        if not wipe:
            return cls._from_buffer(secret, sizes)
        if not _can_be_wiped(secret):
            return f"wipe: expected a bytearray or a writable memoryview, got {type(secret).__name__}"
        try:
            return cls._from_buffer(secret, sizes)
        finally:
            _wipe(secret)

    @classmethod
    def _from_buffer(
        cls, secret: bytes | bytearray | memoryview, sizes: tuple[int, ...]
    ) -> Keypair | str | MemoryError:
        if not isinstance(secret, bytes | bytearray | memoryview):
            return f"expected bytes, got {type(secret).__name__}"
        expected = " or ".join(map(str, sizes))
        if isinstance(secret, memoryview) and not secret.c_contiguous:
            return f"expected {expected} contiguous bytes"
        view = ffi.from_buffer(secret)
        if len(view) not in sizes:
            return f"expected {expected} bytes, got {len(view)}"
        keypair = cls._opened(view)
        if isinstance(keypair, MemoryError):
            return keypair
        # Compared where it stands: in what is no pair of the two, the second half is secret as well.
        if len(view) == PAIR_SIZE and ffi.buffer(view + SEED_SIZE, 32) != b58decode(keypair._pubkey):
            keypair.close()
            return "its public half does not belong to its seed"
        return keypair

    @classmethod
    def _opened(cls, seed: Any) -> Keypair | MemoryError:
        """A key in a slot of its own; ``seed`` is C memory, or None for a random one."""
        key = ffi.new("pf_key *")
        self = object.__new__(cls)
        # Before there is a key: whatever comes after that, Ctrl-C too, finds somebody who ends it. Also
        # runs when the Keypair is forgotten, and at interpreter exit.
        self._end = weakref.finalize(self, lib.pf_key_end_detached, key)
        raw_pubkey = ffi.new("char[32]")
        if seed is None:
            code = lib.pf_key_generate(key, raw_pubkey)
        else:
            code = lib.pf_key_open_seed(key, raw_pubkey, seed)
        del seed  # the error below is raised by others, whose frames may be kept
        if code != 0:
            return MemoryError(f"no room for the key: {ffi.string(lib.pf_error_text(code)).decode()}")
        text = ffi.new("char[44]")
        length = lib.pf_b58encode(text, 44, raw_pubkey, 32)
        self._key = key
        self._pubkey = bytes(ffi.buffer(text, length)).decode()
        self._pid = os.getpid()
        return self

    def pubkey(self) -> str:
        """The public key in base58, 32 to 44 characters: the account, or the agent wallet."""
        return self._pubkey

    def sign_message(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message`` (RFC 8032, section 5.1.6), in about 27 µs.

        Messages over 16 KiB are signed without the GIL. Raises ``TypeError`` for anything
        but bytes and :class:`KeyClosed` after :meth:`close`.
        """
        if type(message) is not bytes:
            if not isinstance(message, bytes | bytearray | memoryview):
                raise TypeError(f"message: expected bytes, got {type(message).__name__}")
            # C reads it without the GIL: nobody else may change it. bytes() would ask a subclass
            # for what it is, and may get it back, with a length of its own.
            message = memoryview(message).tobytes()
        out = ffi.new("char[64]")
        sign = lib.pf_key_sign_bytes if len(message) <= LONG_INPUT else lib.pf_key_sign_bytes_detached
        code = sign(out, SIGNATURE_SIZE, self._key, message, len(message))
        if code < 0:
            self._fail(code)
        return bytes(ffi.buffer(out))

    def _fail(self, code: int) -> NoReturn:
        """Raise what a negative code of a signing call means."""
        if code in (lib.PF_ERR_CLOSED, lib.PF_ERR_FORKED) and os.getpid() != self._pid:
            raise KeyClosed(
                f"the key {self._pubkey} belongs to process {self._pid} and does not cross a fork: "
                "load it again in this process"
            )
        if code == lib.PF_ERR_CLOSED:
            raise KeyClosed(f"the key {self._pubkey} is closed")
        if code == lib.PF_ERR_MEMORY:
            raise MemoryError("no memory to sign")
        raise RuntimeError(f"signing failed: {ffi.string(lib.pf_error_text(code)).decode()}")

    @property
    def closed(self) -> bool:
        """True once :meth:`close` was called, and in a forked child."""
        return not self._end.alive or os.getpid() != self._pid

    def close(self) -> None:
        """Wait for calls in flight in other threads, then wipe the key. Idempotent."""
        self._end()
        lib.pf_key_end_detached(self._key)  # whoever comes second waits as well

    def __enter__(self) -> Keypair:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Keypair {self._pubkey}{' (closed)' if self.closed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keypair cannot be pickled or copied: its private key stays where it is")

    def __copy__(self) -> NoReturn:
        self.__reduce__()

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        self.__reduce__()
