"""Mutations of any file: bytes flipped, set, inserted, deleted, moved, cut off."""

from __future__ import annotations

from random import Random

_NUMBERS = (0, 1, -1, 127, 128, 255, 32767, 65535, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62)


def often(rng: Random, usual: tuple[int, ...], rare: tuple[int, ...]) -> int:
    """Return a small number mostly: reading one large input takes the time of many small ones."""
    return rng.choice(usual if rng.random() < 0.95 else rare)


def flip_bits(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def set_number(rng: Random, data: bytes) -> bytes:
    """Overwrite 1 to 8 bytes by a number that is a limit of some type."""
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(_NUMBERS) % (1 << 8 * width)
    place = rng.randrange(len(data))
    return (
        data[:place] + number.to_bytes(width, rng.choice(("little", "big"))) + data[place + width :]
    )


def insert_bytes(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice((1, 2, 4, 8, 64))) + data[place:]


def delete_bytes(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.choice((1, 2, 4, 8, 64, 512)) :]


def copy_bytes(rng: Random, data: bytes) -> bytes:
    """Write a piece of the file over another place of it, or repeat it there."""
    start, place = rng.randrange(len(data)), rng.randrange(len(data))
    piece = data[start : start + rng.choice((1, 4, 8, 64, 512))]
    return data[:place] + piece + data[place + rng.choice((0, len(piece))) :]


def clear_bytes(rng: Random, data: bytes) -> bytes:
    place, length = rng.randrange(len(data)), rng.choice((4, 8, 64, 512))
    fill = rng.choice((b"\0", b"\xff"))
    return data[:place] + fill * min(length, len(data) - place) + data[place + length :]


def cut_off(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def add_at_end(rng: Random, data: bytes) -> bytes:
    return data + rng.choice((b"\0", rng.randbytes(8), data))


BYTES = (
    flip_bits,
    set_bytes,
    set_number,
    insert_bytes,
    delete_bytes,
    copy_bytes,
    clear_bytes,
    cut_off,
    add_at_end,
)
