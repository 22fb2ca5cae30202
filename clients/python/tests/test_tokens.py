"""Tokens of concurrent answers, joined; and what a session numbers."""

from __future__ import annotations

from quorumor import tokens
from quorumor.session import ANSWERS_MAX, Numbers
from quorumor.tokens import EVENTUAL, STRONG, Token


def strong(revision: int) -> bytes:
    return tokens.encode(Token(STRONG, 7, 1, {(0, 0): revision}))


def eventual(rows: dict[tuple[int, int], int]) -> bytes:
    return tokens.encode(Token(EVENTUAL, 7, 1, rows))


def test_the_checksum_is_castagnolis() -> None:
    assert tokens.crc32c(b"123456789") == 0xE3069283


def test_a_token_is_read_as_it_was_written() -> None:
    wide = Token(EVENTUAL, 2**64 - 1, 300, {(1, 2**63): 9, (3, 4): 128})
    assert tokens.decode(tokens.encode(wide)) == wide
    assert tokens.decode(strong(5)[:-1]) is None and tokens.decode(b"") is None


def test_a_late_answer_never_takes_the_token_back() -> None:
    assert tokens.merge(strong(9), strong(5)) == strong(9)
    assert tokens.merge(strong(5), strong(9)) == strong(9)


def test_concurrent_vectors_are_merged() -> None:
    both = tokens.merge(eventual({(1, 1): 4}), eventual({(2, 1): 7}))
    assert both == eventual({(1, 1): 4, (2, 1): 7})


def test_what_cannot_be_read_is_carried_all_the_same() -> None:
    assert tokens.merge(strong(9), b"later format") == b"later format"
    other_epoch = tokens.encode(Token(STRONG, 7, 2, {(0, 0): 1}))
    assert tokens.merge(strong(9), other_epoch) == other_epoch


def test_no_more_numbers_are_open_than_the_cluster_keeps_answers() -> None:
    numbers = Numbers(9)
    taken = [numbers.take() for _ in range(ANSWERS_MAX)]
    assert numbers.take() is None
    second = taken[1]
    assert second is not None and second.acked_through == 0
    second.done()
    assert numbers.take() is None, "what counts is the oldest"
    first = taken[0]
    assert first is not None
    first.done()
    last = numbers.take()
    assert last is not None and last.seq == ANSWERS_MAX + 1 and last.acked_through == 2
