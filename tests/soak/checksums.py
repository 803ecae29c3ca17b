"""The checksums inside an HDF5 file, so that a stranger's changes can carry the right ones."""

import re

import numba
import numpy as np

SIGNATURES = re.compile(rb"\x89HDF|OHDR|OCHK|FRHP|FHIB|BTHD|BTLF|BTIN")
_MASK = 0xFFFFFFFF


@numba.njit(cache=True)
def _turned(x, k):
    return ((x << k) | (x >> (32 - k))) & _MASK


@numba.njit(cache=True)
def lookup3(key, start, length):
    """Return Jenkins's lookup3 of ``key[start : start + length]``, which HDF5 puts after its metadata."""
    a = b = c = (0xDEADBEEF + length) & _MASK
    place, left = start, length
    while left > 12:
        for i in range(4):
            a += np.int64(key[place + i]) << (8 * i)
            b += np.int64(key[place + 4 + i]) << (8 * i)
            c += np.int64(key[place + 8 + i]) << (8 * i)
        a, b, c = a & _MASK, b & _MASK, c & _MASK
        a = ((a - c) & _MASK) ^ _turned(c, 4)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _turned(a, 6)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _turned(b, 8)
        b = (b + a) & _MASK
        a = ((a - c) & _MASK) ^ _turned(c, 16)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _turned(a, 19)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _turned(b, 4)
        b = (b + a) & _MASK
        place, left = place + 12, left - 12
    if left == 0:
        return c
    for i in range(left):
        value = np.int64(key[place + i]) << (8 * (i % 4))
        if i < 4:
            a = (a + value) & _MASK
        elif i < 8:
            b = (b + value) & _MASK
        else:
            c = (c + value) & _MASK
    c = ((c ^ b) - _turned(b, 14)) & _MASK
    a = ((a ^ c) - _turned(c, 11)) & _MASK
    b = ((b ^ a) - _turned(a, 25)) & _MASK
    c = ((c ^ b) - _turned(b, 16)) & _MASK
    a = ((a ^ c) - _turned(c, 4)) & _MASK
    b = ((b ^ a) - _turned(a, 14)) & _MASK
    return ((c ^ b) - _turned(b, 24)) & _MASK


@numba.njit(cache=True)
def _length(key, start, most):
    """Return the length of what the checksum right after it belongs to, or 0."""
    for length in range(8, most + 1):
        end = start + length
        if end + 4 > key.size:
            return 0
        stored = np.int64(0)
        for i in range(4):
            stored |= np.int64(key[end + i]) << (8 * i)
        if lookup3(key, start, length) == stored:
            return length
    return 0


def blocks(content, most=8192):
    """Return (start, length) of the parts of a file that a checksum of four bytes follows."""
    key = np.frombuffer(content, np.uint8)
    found = [(match.start(), _length(key, match.start(), most)) for match in SIGNATURES.finditer(content)]
    return [(start, length) for start, length in found if length]


def seal(content, start, length):
    """Write the checksum that belongs after a part of a ``bytearray``."""
    key = np.frombuffer(bytes(content), np.uint8)
    content[start + length : start + length + 4] = int(lookup3(key, start, length)).to_bytes(4, "little")
