"""Session tokens of concurrent answers, joined.

A token is opaque to whoever carries it; one that can't be read here is carried all the same. It is read only so that answers
that come in any order never take a session back: whichever of two has seen more is kept, or both are merged.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

FORMAT = 1
STRONG, EVENTUAL = 1, 2
ROWS_MAX = 1024


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class Token(NamedTuple):
    """What a session has seen."""

    mode: int
    cluster: int
    epoch: int
    position: dict[tuple[int, int], int]
    """By writer and log; in strong mode the one row (0, 0) holds the revision."""

    def covers(self, other: Token) -> bool:
        """Whether it has seen all that the other has."""
        return all(self.position.get(row, 0) >= seq for row, seq in other.position.items())


def merge(old: bytes, new: bytes) -> bytes:
    """The token of a session that has seen both."""
    if old == new or not old:
        return new
    left, right = decode(old), decode(new)
    if left is None or right is None or left[:3] != right[:3] or right.covers(left):
        return new
    if left.covers(right):
        return old
    rows = dict(left.position)
    for row, seq in right.position.items():
        rows[row] = max(seq, rows.get(row, 0))
    # Too wide for one token: the node will say so when it comes to that.
    return encode(left._replace(position=rows)) if len(rows) <= ROWS_MAX else new


def same_epoch(one: bytes, other: bytes) -> bool:
    """Whether two tokens speak of the same data: whoever refuses one for good refuses both."""
    left, right = decode(one), decode(other)
    return one == other or (left is not None and right is not None and left[:3] == right[:3])


def decode(data: bytes) -> Optional[Token]:
    """Reads a token; None if it can't be read here."""
    body, crc = data[:-4], data[-4:]
    if len(body) < 2 or body[0] != FORMAT or crc32c(body).to_bytes(4, "little") != crc:
        return None
    numbers: list[int] = []
    number = shift = 0
    for byte in body[2:]:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    mode = body[1]
    if shift or len(numbers) < 3:
        return None
    cluster, epoch, *rest = numbers
    if mode == STRONG and len(rest) == 1:
        return Token(mode, cluster, epoch, {(0, 0): rest[0]})
    if mode == EVENTUAL and len(rest) == 1 + 3 * rest[0]:
        rows = {(rest[at], rest[at + 1]): rest[at + 2] for at in range(1, len(rest), 3)}
        return Token(mode, cluster, epoch, rows)
    return None


def encode(token: Token) -> bytes:
    """The token as bytes, as a node writes it."""
    numbers = [token.cluster, token.epoch]
    if token.mode == STRONG:
        numbers += token.position.values()
    else:
        numbers.append(len(token.position))
        for (writer, log), seq in sorted(token.position.items()):
            numbers += (writer, log, seq)
    out = bytearray((FORMAT, token.mode))
    for number in numbers:
        while number >= 0x80:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out) + crc32c(bytes(out)).to_bytes(4, "little")
