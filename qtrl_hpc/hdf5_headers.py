"""What an HDF5 file is made of, looked at before HDF5 reads it.

HDF5's C code crashes, loops for ever or asks for gigabytes where the B-trees and heaps of its larger structures are not
what it wrote, and a stranger can give them valid checksums. Our files need none of them: their parts stand in object
headers, which are lists of messages. Whatever is not such a list of the few messages that we write is refused unread.
"""

import struct
from collections.abc import Iterator

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1
MOST_MESSAGES = 4096

# Types of messages (HDF5 File Format Specification, IV.A.2).
_LINK_INFO, _DATA_TYPE, _LINK, _LAYOUT, _ATTRIBUTE, _CONTINUATION, _ATTRIBUTE_INFO = 2, 3, 6, 8, 12, 16, 21
_HARMLESS = {0: "padding", 1: "data space", 5: "fill value", 10: "group info", 18: "time", 22: "reference count"}
_WHOLE_NUMBER, _FLOAT, _TEXT = 0, 1, 3
_CONTIGUOUS = 1
_HARD = 0


class HeapError(ValueError):
    """Names or attributes are kept in a heap, as in checkpoints that were written before headers were looked at."""


def check_headers(content: bytes) -> None:
    """Refuse a file that is more than groups, arrays in one piece and small attributes.

    Args:
        content: of the whole file.

    Raises:
        ValueError: saying what it holds that our files do not.
    """
    if content[:8] != SIGNATURE:
        raise ValueError("it does not begin as an HDF5 file does")
    version, sizes = _bytes(content, 8, 1)[0], _bytes(content, 9, 2)
    if version not in (2, 3) or sizes != b"\x08\x08":
        raise ValueError("its superblock is of another version")
    base, extension, _, root = struct.unpack("<4Q", _bytes(content, 12, 32))
    if base != 0 or extension != UNDEFINED:
        raise ValueError("its superblock points elsewhere")
    messages, seen, headers = 0, {root}, [("", root)]
    while headers:
        path, address = headers.pop()
        for kind, body in _messages(content, path, address):
            messages += 1
            if messages > MOST_MESSAGES:
                raise ValueError(f"it has more than {MOST_MESSAGES} messages")
            if kind == _LINK:
                name, target = _link(path, body)
                if target is not None and target not in seen:
                    seen.add(target)
                    headers.append((name, target))
            elif kind != _CONTINUATION:
                _check_message(content, path, kind, body)


def _messages(content: bytes, path: str, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each message of an object header, also of those that say where it goes on.

    A header may go on in a circle: whoever asks must stop somewhere.
    """
    chunks = [_first_chunk(content, address)]
    tracked = bool(content[address + 5] & 0x04)  # the order in which attributes were made
    while chunks:
        place, end = chunks.pop()
        while place + 4 <= end:
            kind, size, flags = struct.unpack("<BHB", _bytes(content, place, 4))
            place += 6 if tracked else 4
            if place + size > end:
                raise ValueError(f"a message of {path or '/'} is longer than its header")
            if flags & 0x02:
                raise ValueError(f"{path or '/'} shares a message")
            body = content[place : place + size]
            place += size
            if kind == _CONTINUATION:
                chunks.append(_next_chunk(content, body))
            yield kind, body


def _first_chunk(content: bytes, address: int) -> tuple[int, int]:
    """Return where the messages of an object header begin and end (version 2)."""
    head = _bytes(content, address, 6)
    if head[:5] != b"OHDR\x02":
        raise ValueError("an object header is of another version")
    flags = head[5]
    place = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 0x03)
    size = int.from_bytes(_bytes(content, place, width), "little")
    return _inside(content, place + width, size)


def _next_chunk(content: bytes, body: bytes) -> tuple[int, int]:
    address, length = struct.unpack("<2Q", _bytes(body, 0, 16))
    if _bytes(content, address, 4) != b"OCHK" or length < 8:
        raise ValueError("an object header goes on nowhere")
    return _inside(content, address + 4, length - 8)


def _link(path: str, body: bytes) -> tuple[str, int | None]:
    """Return a link's name, and the address of what a hard link names; other links are for others to refuse."""
    flags = _bytes(body, 1, 1)[0]
    place, kind = 2, _HARD
    if flags & 0x08:
        kind, place = _bytes(body, place, 1)[0], place + 1
    place += (8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0)
    width = 1 << (flags & 0x03)
    length = int.from_bytes(_bytes(body, place, width), "little")
    place += width
    name = f"{path}/{_bytes(body, place, length).decode()}"
    return name, int.from_bytes(_bytes(body, place + length, 8), "little") if kind == _HARD else None


def _check_message(content: bytes, path: str, kind: int, body: bytes) -> None:
    if kind in (_LINK_INFO, _ATTRIBUTE_INFO):
        width = 8 if kind == _LINK_INFO else 2
        heap = _bytes(body, 2 + (width if _bytes(body, 1, 1)[0] & 0x01 else 0), 8)
        if int.from_bytes(heap, "little") != UNDEFINED:
            is_heap = content[int.from_bytes(heap, "little") :][:4] == b"FRHP"  # else the address is damaged
            words = f"{path or '/'} keeps its {'names' if kind == _LINK_INFO else 'attributes'} in a heap"
            raise HeapError(words) if is_heap else ValueError(words)
    elif kind == _DATA_TYPE:
        if _bytes(body, 0, 1)[0] & 0x0F != _FLOAT:
            raise ValueError(f"{path} is no float64 array")
    elif kind == _LAYOUT:
        if _bytes(body, 0, 1)[0] < 3 or _bytes(body, 1, 1)[0] != _CONTIGUOUS:
            raise ValueError(f"{path} is not stored as one piece")
    elif kind == _ATTRIBUTE:
        _check_attribute(body)
    elif kind not in _HARMLESS:
        raise ValueError(f"{path or '/'} holds a message of type {kind}")


def _check_attribute(body: bytes) -> None:
    version, flags, name_length = struct.unpack("<BBH", _bytes(body, 0, 4))
    if version != 3 or flags:
        raise ValueError("an attribute is of another version")
    name = _bytes(body, 9, name_length).rstrip(b"\0").decode()
    if _bytes(body, 9 + name_length, 1)[0] & 0x0F not in (_WHOLE_NUMBER, _TEXT):
        raise ValueError(f"attribute {name} is neither text nor a whole number")


def _inside(content: bytes, start: int, size: int) -> tuple[int, int]:
    if start + size > len(content):
        raise ValueError("an object header is longer than the file")
    return start, start + size


def _bytes(content: bytes, start: int, size: int) -> bytes:
    found = content[start : start + size]
    if len(found) < size:
        raise ValueError("it ends too early")
    return found
