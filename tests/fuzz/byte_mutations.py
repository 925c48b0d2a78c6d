"""Mutations of files as bytes: flipped bits, cut and repeated parts, length fields that lie."""

import io
import struct
import zipfile

ODD_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def flip_bits(content, rng):
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncate(content, rng):
    return content[: rng.integers(len(content))]


def overwrite(content, rng):
    start = int(rng.integers(len(content)))
    count = int(rng.integers(1, 33))
    return content[:start] + rng.bytes(count) + content[start + count :]


def write_length(content, rng):
    """Put an odd integer of 1, 2, 4 or 8 bytes somewhere, where it may be a length, a count or an offset."""
    width = int(rng.choice((1, 2, 4, 8)))
    start = int(rng.integers(max(1, min(len(content), 4096) if rng.random() < 0.5 else len(content))))
    number = ODD_INTEGERS[rng.integers(len(ODD_INTEGERS))] % (1 << 8 * width)
    order = "little" if rng.random() < 0.8 else "big"
    return content[:start] + number.to_bytes(width, order) + content[start + width :]


def swap_parts(content, rng):
    a, b, c = sorted(int(rng.integers(len(content) + 1)) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def remove_part(content, rng):
    a, b = sorted(int(rng.integers(len(content) + 1)) for _ in range(2))
    return content[:a] + content[min(b, a + 64) :]


def repeat_part(content, rng):
    a, b = sorted(int(rng.integers(len(content) + 1)) for _ in range(2))
    b = min(b, a + 256)
    return content[:b] + content[a:b] * int(rng.integers(1, 20)) + content[b:]


def append(content, rng):
    return content + rng.bytes(int(rng.integers(1, 200)))


BYTES = (
    flip_bits,
    flip_bits,
    truncate,
    overwrite,
    write_length,
    write_length,
    swap_parts,
    remove_part,
    repeat_part,
    append,
)


def mutate_bytes(content, rng):
    if not content:
        return rng.bytes(8)
    return BYTES[rng.integers(len(BYTES))](content, rng)


def mutate_zip(content, rng, mutate_member):
    """Change a zip: a member is removed, renamed, doubled, exchanged, emptied, or changed by its own format."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    i, j = int(rng.integers(len(members))), int(rng.integers(len(members)))
    (name, body), kind = members[i], int(rng.integers(12))
    if kind == 0:
        del members[i]
    elif kind == 1:
        members[i] = (ODD_NAMES[rng.integers(len(ODD_NAMES))] if rng.random() < 0.5 else members[j][0] + "x", body)
    elif kind == 2:
        members.insert(j, (name, body if rng.random() < 0.5 else mutate_bytes(body, rng)))
    elif kind == 3:
        members[i], members[j] = (name, members[j][1]), (members[j][0], body)
    elif kind == 4:
        members[i] = (name, b"")
    elif kind == 5:
        return _lie_about_size(_zipped(members), rng)
    elif kind == 6:
        members[i] = (name, bytes(3_000_000))
        return _zipped(members, zipfile.ZIP_DEFLATED)
    else:
        members[i] = (name, mutate_member(name, body, rng))
    return _zipped(members)


ODD_NAMES = (
    "../../outside",
    "/absolute",
    "a\\b",
    "",
    "data.pkl",
    "x/data.pkl",
    "\u00fc\u4e2d",
    "n" * 3000,
    "con:",
    ".",
)


def _zipped(members, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, body in members:
            info = zipfile.ZipInfo(name or "x")
            info.compress_type = method
            archive.NameToInfo.pop(info.filename, None)  # a second member of one name is wanted, without a warning
            archive.writestr(info, body)
    return buffer.getvalue()


def _lie_about_size(content, rng):
    """Write another size, method or offset into an entry of the central directory."""
    changed = bytearray(content)
    entries = [i for i in range(len(content) - 46) if content[i : i + 4] == b"PK\x01\x02"]
    entry = entries[rng.integers(len(entries))]
    offset, width = ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (42, 4))[rng.integers(7)]
    number = ODD_INTEGERS[rng.integers(len(ODD_INTEGERS))] % (1 << 8 * width)
    struct.pack_into("<H" if width == 2 else "<I", changed, entry + offset, number)
    return bytes(changed)
