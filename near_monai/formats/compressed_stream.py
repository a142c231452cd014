"""Compressed bytes as a stream that is read once, forward, with little memory."""

from __future__ import annotations

import io
import zlib
from typing import Any, BinaryIO

CHUNK = 1 << 18
GZIP_MAGIC = b"\x1f\x8b"
#: Window bits of zlib: gzip alone, or gzip and zlib as the first bytes say.
GZIP, EITHER = 31, 47


class Unpacked(io.RawIOBase):
    """What a gzip or zlib stream holds.

    Several gzip members one after the other are one stream; bytes behind the last one that begin no other are no part
    of it. Every checksum is checked when it is reached. It can go back to the beginning, at the cost of a new start.

    Args:
        file: the compressed bytes from where it stands on; its owner closes it.
        bits: :data:`GZIP` or :data:`EITHER`.
    """

    def __init__(self, file: BinaryIO, bits: int = GZIP) -> None:
        self._file, self._bits, self._begin = file, bits, file.tell()
        self._restart()

    def _restart(self) -> None:
        self._file.seek(self._begin)
        self._unpack, self._fed, self._place = zlib.decompressobj(self._bits), b"", 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be moved in, best forward."""
        return True

    def tell(self) -> int:
        """Bytes read so far."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to byte ``offset`` from the beginning; what lies between is read."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the beginning")
        if offset < self._place:
            self._restart()
        while self._place < offset and self.read(min(offset - self._place, CHUNK)):
            pass
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a part of ``buffer``; 0 at the end.

        Raises:
            EOFError: the stream is cut short.
            zlib.error: it is damaged.
        """
        view = memoryview(buffer).cast("B")
        plain = self._some(len(view)) if len(view) else b""
        view[: len(plain)] = plain
        self._place += len(plain)
        return len(plain)

    def _some(self, most: int) -> bytes:
        """At least one byte, unless it is at the end."""
        while True:
            if self._unpack.eof:
                self._fed = self._unpack.unused_data or self._file.read(CHUNK)
                if not self._fed.startswith(GZIP_MAGIC):
                    return b""
                self._unpack = zlib.decompressobj(self._bits)
            fed = self._fed or self._file.read(CHUNK)
            plain = self._unpack.decompress(fed, most)
            self._fed = self._unpack.unconsumed_tail
            if plain:
                return plain
            if not fed and not self._unpack.eof:
                raise EOFError("its compressed bytes are cut short")
