"""Mutations of files of arrays: headers of safetensors and npy, datasets of HDF5."""

import io
import json
import struct

import numpy as np
from byte_mutations import ODD_INTEGERS, mutate_bytes
from record_mutations import mutate_tree

ODD_NUMBERS = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45)


def mutate_safetensors(content, rng):
    """Change the header, its length, or some numbers behind it."""
    (length,) = struct.unpack("<Q", content[:8])
    header, body = content[8 : 8 + length], bytearray(content[8 + length :])
    kind = int(rng.integers(4))
    if kind == 0:
        return struct.pack("<Q", ODD_INTEGERS[rng.integers(len(ODD_INTEGERS))] % 2**64) + content[8:]
    if kind == 1 and len(body) >= 4:
        place = 4 * int(rng.integers(len(body) // 4))
        struct.pack_into("<f", body, place, ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))])
    else:
        try:
            header = json.dumps(mutate_tree(json.loads(header), rng)).encode("utf-8", "surrogatepass")
        except ValueError:
            header = mutate_bytes(header, rng)
    return struct.pack("<Q", len(header)) + header + bytes(body)


DTYPES = ("<f4", "<f8", "<i8", "|u1", "|O", "<c16", "|V8", "|S8", "<U4", "[('a', '<f4')]", "<M8[s]", "|b1", "x")


def mutate_npy(content, rng):
    """Change data type, order or shape in the header of an array, or its bytes."""
    if rng.random() < 0.3 or content[:6] != b"\x93NUMPY":
        return mutate_bytes(content, rng)
    array = np.load(io.BytesIO(content), allow_pickle=False)
    shape = list(array.shape) + ([int(ODD_INTEGERS[rng.integers(len(ODD_INTEGERS))])] if rng.random() < 0.4 else [])
    if shape and rng.random() < 0.6:
        shape[rng.integers(len(shape))] = int(ODD_INTEGERS[rng.integers(len(ODD_INTEGERS))]) * int(rng.choice((1, -1)))
    dtype = DTYPES[rng.integers(len(DTYPES))] if rng.random() < 0.5 else array.dtype.str
    text = f"{{'descr': {dtype!r}, 'fortran_order': {rng.random() < 0.5}, 'shape': {tuple(shape)!r}}}"
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) % 65536) + header + array.tobytes()


def mutate_hdf5(content, rng):
    """Remove, rename, retype, cut or spoil a dataset or an attribute of an HDF5 file."""
    import h5py

    if rng.random() < 0.4:
        return mutate_bytes(content, rng)
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        names = []
        file.visit(names.append)
        name = names[rng.integers(len(names))]
        kind = int(rng.integers(7))
        node = file[name]
        if kind == 0:
            del file[name]
        elif kind == 1:
            file.move(name, f"{name}x")
        elif kind == 2 and node.attrs:
            key = sorted(node.attrs)[rng.integers(len(node.attrs))]
            del node.attrs[key]
        elif kind == 3:
            owner = node if node.attrs else file
            keys = sorted(owner.attrs)
            key = keys[rng.integers(len(keys))] if keys else "total_steps"
            owner.attrs[key] = ("x", -1, 10**15, 1e300, b"\xff", "{}", np.zeros(3), float("nan"))[rng.integers(8)]
        elif isinstance(node, h5py.Dataset):
            values = node[()]
            del file[name]
            file[name] = _odd_array(values, rng)
        else:
            file.create_group(f"episode_{int(rng.integers(100))}x")
    return buffer.getvalue()


def _odd_array(values, rng):
    kind = int(rng.integers(6))
    if kind == 0:
        return np.asarray(values)[:0] if np.ndim(values) else np.zeros(0)
    if kind == 1:
        return np.full(np.shape(values), np.nan)
    if kind == 2:
        return np.concatenate([np.atleast_1d(values)] * 3)
    if kind == 3:
        return np.full(np.shape(values), 2**62)
    return b"text" if kind == 4 else np.asarray(values)[None]
