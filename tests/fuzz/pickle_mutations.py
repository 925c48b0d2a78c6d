"""Mutations of pickles: opcodes removed, doubled and exchanged, and hostile ones put between them."""

import io
import pickletools
import struct

HOSTILE = (
    b"cos\nsystem\n(S'echo hostile'\ntR",  # a call of os.system
    b"c__builtin__\neval\n(S'1/0'\ntR",
    b"\x8c\x08builtins\x8c\x04exec\x93\x8c\x041/0 \x85R",
    b"cbuiltins\nbytearray\n(I99999999999\ntR",
    b"ccollections\nOrderedDict\n(I7\ntR",
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tc_codecs\nencode\n(X\x01\x00\x00\x00bX\x06\x00\x00\x00latin1tRtR",
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR",
    b"cnumpy\ndtype\n)R",
    b"cnumpy.core.multiarray\nscalar\n)R",
    b"c_codecs\nencode\n(X\x02\x00\x00\x00\xc4\x80tR",
    b"(" * 300,
    b"]" * 300,
    b"}(" * 100,
    b"]" + b"q\x00h\x00a" * 40,  # a list that holds itself
    b"]2a" * 60,
    b"(l" + b"(2l" * 60,
    b"(I1\nI2\nl" + b"(h\xfeh\xfel\x94" * 30,
    b"X\xff\xff\xff\x7fabc",
    b"\x8d" + struct.pack("<Q", 2**62) + b"a",
    b"B\xff\xff\xff\xffa",
    b"\x8e" + b"\xff" * 8,
    b"\x8b" + struct.pack("<i", -5),
    b"\x8a\xff" + b"\x01" * 255,
    b"I" + b"9" * 5000 + b"\n",
    b"L" + b"9" * 4400 + b"L\n",
    b"F1e400\n",
    b"G\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"G\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"Pabc\n",
    b"Q",
    b"\x82\x01",
    b"\x84\xff\xff\xff\x7f",
    b"j\xff\xff\xff\xff",
    b"r\xff\xff\xff\x7f",
    b"0",
    b"1",
    b"2",
    b"R",
    b"b",
    b"o",
    b"i os\nsystem\n",
    b"\x81",
    b"\x92",
    b"\x90",
    b"\x91",
    b"s",
    b"u",
    b"a",
    b"e",
    b"t",
    b"d",
    b"l",
    b".",
    b"}N}s",
    b"}]Ns",
    b"S'unclosed\n",
    b"V\\ud800\n",
    b"X\x03\x00\x00\x00\xed\xa0\x80",
    b"\x96" + struct.pack("<Q", 2**40) + b"x",
    b"\x97",
    b"\x98",
    b"N}b",
    b"N(b",
    b"\x80\x09",
    b"\x95" + struct.pack("<Q", 2**50),
)


def mutate_pickle(content, rng):
    """Return a pickle that differs in one to three opcodes."""
    try:
        starts = [place for _, _, place in pickletools.genops(io.BytesIO(content))]
    except ValueError:
        return content
    parts = [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    for _ in range(int(rng.integers(1, 4))):
        i, j, kind = int(rng.integers(len(parts))), int(rng.integers(len(parts))), int(rng.integers(6))
        if kind == 0 and len(parts) > 1:
            del parts[i]
        elif kind == 1:
            parts.insert(i, parts[i] * int(rng.integers(1, 50)))
        elif kind == 2:
            parts[i], parts[j] = parts[j], parts[i]
        elif kind == 3:
            parts[i] = parts[j]
        else:
            parts.insert(i, HOSTILE[rng.integers(len(HOSTILE))])
    return b"".join(parts)
