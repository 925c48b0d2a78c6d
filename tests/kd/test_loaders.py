"""Loaders read what is on disk, never execute it, and name the file and the bytes that are missing."""

import gzip
import io
import os
import pickle
import struct
import sys

import numpy as np
import pytest
import torch

from policykd.kd.data.arrays import read_npz
from policykd.kd.data.cifar_files import read_binary, read_python
from policykd.kd.data.plain_pickle import UnsafePickleError, read_plain_pickle
from policykd.kd.tasks import DataFileError, load
from policykd.kd.tasks.mnist import read_idx

RNG = np.random.default_rng(0)


def python2_pickle(data: np.ndarray, labels: list[int], key: bytes = b"labels") -> bytes:
    """What Python 2's cPickle writes with protocol 2: byte strings, and an array whose state is a byte string."""

    def string(raw: bytes) -> bytes:
        return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw

    shape = b"".join(b"M" + struct.pack("<H", n) for n in data.shape)
    dtype = (
        b"cnumpy\ndtype\n"
        + string(b"u1")
        + b"K\x00K\x01\x87R"
        + b"(K\x03"
        + string(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87R"
        b"(K\x01" + shape + b"\x86" + dtype + b"\x89" + string(data.tobytes()) + b"tb"
    )
    items = b"".join(b"K" + bytes([label]) for label in labels)
    body = string(b"data") + array + string(key) + b"](" + items + b"e"
    return b"\x80\x02}(" + body + string(b"batch_label") + string(b"batch 1") + b"u."


def cifar_rows(records: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    return RNG.integers(0, 256, (records, 3072), dtype=np.uint8), (np.arange(records) % classes).astype(np.uint8)


def test_the_hand_made_pickle_is_what_python_reads():
    data, labels = cifar_rows(20)
    content = pickle.loads(python2_pickle(data, labels.tolist()), encoding="bytes")
    assert np.array_equal(content[b"data"], data)
    assert content[b"labels"] == labels.tolist()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_pickles_are_read_without_unpickling(protocol):
    data, labels = cifar_rows(20)
    tree = {b"data": data, b"labels": labels.tolist(), b"more": [None, True, 1.5, "text", (1, 2, 3, 4), -7, 2**40]}
    tree[b"f"] = np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3))
    tree[b"big-endian"] = np.arange(4, dtype=">i4")
    got = read_plain_pickle(pickle.dumps(tree, protocol=protocol))
    assert got.keys() == tree.keys()
    assert got[b"more"] == tree[b"more"]
    for key in (b"data", b"f", b"big-endian"):
        assert np.array_equal(got[key], tree[key])
    assert got[b"data"].dtype == np.uint8


def test_arrays_of_objects_become_lists():
    array = np.array([np.arange(3.0), {"a": 1}, "text"], dtype=object)
    got = read_plain_pickle(pickle.dumps([array, np.array({"b": 2}, dtype=object)], protocol=2))
    assert np.array_equal(got[0][0], np.arange(3.0))
    assert got[0][1:] == [{"a": 1}, "text"]
    assert got[1] == [{"b": 2}]
    with pytest.raises(UnsafePickleError, match=r"asks for|uses"):
        read_plain_pickle(pickle.dumps(np.array([Attack("nowhere")], dtype=object), protocol=2))


def test_python2_pickles_are_read_too():
    data, labels = cifar_rows(20)
    got = read_plain_pickle(python2_pickle(data, labels.tolist()))
    assert np.array_equal(got[b"data"], data)
    assert got[b"labels"] == labels.tolist()
    assert got[b"batch_label"] == b"batch 1"


class Attack:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class State:
    def __init__(self):
        self.x = 1


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path, protocol):
    target = tmp_path / "made"
    with pytest.raises(UnsafePickleError, match=r"asks for|uses"):
        read_plain_pickle(pickle.dumps({"data": Attack(target)}, protocol=protocol))
    assert not target.exists()
    pickle.loads(pickle.dumps(Attack(target), protocol=protocol))
    assert target.exists()  # the same bytes do act when they are really unpickled
    with pytest.raises(UnsafePickleError):
        read_plain_pickle(pickle.dumps(State(), protocol=protocol))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(np.array([[{}]], dtype=object), protocol=2), "only a list of its items is read"),
        (pickle.dumps(np.array(["text"]), protocol=2), "array of type 'U4'"),
        (b"\x80\x02cnumpy\ndtype\n.", "a name instead of data"),
        (b"\x80\x02](K\x01", "damaged|no end"),
        (b"\x80\x02]q\x00h\x00a.", "more items than it has bytes|damaged"),
        (
            b"\x80\x02"
            + b"]q\x00"
            + b"".join(b"](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(60))
            + b".",
            "more items",
        ),
        (b"", "damaged|no end"),
        (b"\x80\x02}K\x01b.", "sets the state of something"),
    ],
)
def test_strange_pickles_end_in_an_error(content, message):
    with pytest.raises(UnsafePickleError, match=message):
        read_plain_pickle(content)


def write_cifar(root, kind: str, classes: int, records: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"] if classes == 10 else ["train", "test"]
    everything = []
    for part in parts:
        count = records * 5 if part == "train" else records
        data, labels = cifar_rows(count, classes)
        everything.append((data, labels))
        if kind == "bin":
            coarse = [np.full((count, 1), 99, np.uint8)] if classes == 100 else []
            np.concatenate([*coarse, labels[:, None], data], 1).tofile(root / f"{part}.bin")
        else:
            key = b"labels" if classes == 10 else b"fine_labels"
            (root / part).write_bytes(python2_pickle(data, labels.tolist(), key))
    return everything[-1]


@pytest.mark.parametrize("kind", ["bin", "py"])
@pytest.mark.parametrize(("classes", "records"), [(10, 20), (100, 200)])
def test_cifar_from_either_version(tmp_path, kind, classes, records):
    folder = tmp_path / f"cifar-{classes}-batches-{kind}"
    folder.mkdir()
    data, labels = write_cifar(folder, kind, classes, records)
    task = load(f"cifar{classes}", root=tmp_path, records=records)
    assert len(task.train) + len(task.val) == 5 * records
    assert torch.equal(task.test.y, torch.from_numpy(labels.astype(np.int64)))
    assert task.input_shape == (3, 32, 32)
    pixels = torch.from_numpy(data.reshape(-1, 3, 32, 32)).float() / 255
    flat, given = task.test.x.transpose(0, 1).flatten(1), pixels.transpose(0, 1).flatten(1)
    for channel in range(3):  # normalized per channel: an affine function of the pixels
        slope, offset = np.polyfit(given[channel].numpy(), flat[channel].numpy(), 1)
        assert 3 < slope < 5
        torch.testing.assert_close(flat[channel], given[channel] * slope + offset, atol=1e-4, rtol=0)


def test_damaged_cifar_files_are_named_with_the_bytes_expected(tmp_path):
    write_cifar(tmp_path, "bin", 10, 20)
    file = tmp_path / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        DataFileError, match=r"data_batch_3.bin has 61360 bytes, expected 61460 \(20 records of 3073 bytes\)"
    ):
        load("cifar10", root=tmp_path, records=20)
    with pytest.raises(DataFileError, match="expected 30730000"):
        load("cifar10", root=tmp_path)
    file.unlink()
    with pytest.raises(DataFileError, match=r"none of these exists: .*data_batch_3"):
        load("cifar10", root=tmp_path, records=20)
    good = python2_pickle(*cifar_rows(20))
    (tmp_path / "p").write_bytes(good[:-500])
    with pytest.raises(DataFileError, match=r"p: the pickle .* \(expected 61440 bytes of pixels\)"):
        read_python(tmp_path / "p", records=20, key="labels")
    (tmp_path / "p").write_bytes(good)
    with pytest.raises(DataFileError, match=r"expected 92160 bytes \(30 images\)"):
        read_python(tmp_path / "p", records=30, key="labels")
    with pytest.raises(DataFileError, match="no 'data' and 'fine_labels'; it has"):
        read_python(tmp_path / "p", records=20, key="fine_labels")
    with pytest.raises(DataFileError, match="cannot be read"):
        read_binary(tmp_path / "absent.bin", records=1, label_bytes=1)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_from_plain_and_gzipped_files(tmp_path, name):
    images, labels = RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8), (np.arange(40) % 4).astype(np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx(images[:8]))
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(idx(labels[:8]))
    task = load(name, root=tmp_path)
    torch.testing.assert_close(task.test.x[:, 0], torch.from_numpy(images[:8]).float() / 255)
    assert len(task.train) == 36
    assert len(task.val) == 4
    assert task.student().eval()(task.test.x[:2]).shape == (2, 10)


def test_damaged_idx_files_are_named_with_the_bytes_expected(tmp_path):
    file, content = tmp_path / "a-idx3-ubyte", idx(np.zeros((3, 4, 5), np.uint8))
    file.write_bytes(content[:-1])
    with pytest.raises(DataFileError, match=r"a-idx3-ubyte has 75 bytes, expected 76 \(header and 3 x 4 x 5 bytes\)"):
        read_idx(file)
    file.write_bytes(content[:9])
    with pytest.raises(DataFileError, match="expected at least 16"):
        read_idx(file)
    file.write_bytes(b"PNG")
    with pytest.raises(DataFileError, match="not an idx file"):
        read_idx(file)
    packed = tmp_path / "b.gz"
    packed.write_bytes(gzip.compress(content)[:-6])
    with pytest.raises(DataFileError, match=r"b.gz \(\d+ bytes\) cannot be read"):
        read_idx(packed)


def write_har(root, persons: int = 4) -> None:
    for part, count in (("train", 12), ("test", 6)):
        folder = root / "UCI HAR Dataset" / part / "Inertial Signals"
        folder.mkdir(parents=True)
        np.savetxt(folder.parent / f"y_{part}.txt", np.arange(count) % 6 + 1, fmt="%d")
        np.savetxt(folder.parent / f"subject_{part}.txt", np.arange(count) % persons + 1, fmt="%d")
        for signal in (f"{k}_{a}" for k in ("body_acc", "body_gyro", "total_acc") for a in "xyz"):
            values = RNG.normal(size=(count, 128)) + 5.0 * np.arange(count)[:, None]
            np.savetxt(folder / f"{signal}_{part}.txt", values, fmt="%.6e")


def test_uci_har_holds_out_whole_persons(tmp_path):
    write_har(tmp_path)
    task = load("uci-har", root=tmp_path)
    assert task.input_shape == (9, 128)
    assert (len(task.train), len(task.val), len(task.test)) == (9, 3, 6)
    # a window's level tells its number, and its number modulo 4 the person: one person was held out
    levels = torch.cat([task.train.x.mean((1, 2)), task.val.x.mean((1, 2))])
    numbers = levels.argsort().argsort()
    assert len({int(n) % 4 for n in numbers[9:]}) == 1
    torch.testing.assert_close(task.train.x.mean((0, 2)), torch.zeros(9), atol=1e-5, rtol=0)


def test_damaged_uci_har_files_are_named(tmp_path):
    write_har(tmp_path)
    file = tmp_path / "UCI HAR Dataset" / "train" / "Inertial Signals" / "body_acc_y_train.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]))
    with pytest.raises(DataFileError, match=r"body_acc_y_train.txt has 11 rows, expected 12, one per label"):
        load("uci-har", root=tmp_path)
    file.write_text("\n".join(" ".join(line.split()[:100]) for line in lines))
    with pytest.raises(DataFileError, match=r"body_acc_y_train.txt \(\d+ bytes\) has rows of 100 values, expected 128"):
        load("uci-har", root=tmp_path)
    file.write_text("a b c\n")
    with pytest.raises(DataFileError, match="is damaged"):
        load("uci-har", root=tmp_path)
    with pytest.raises(DataFileError, match="does not exist"):
        load("uci-har", root=tmp_path / "UCI HAR Dataset" / "train")


@pytest.mark.parametrize("shape", [(7,), (3, 32), (3, 16, 16)])
def test_npz_with_and_without_its_own_splits(tmp_path, shape):
    x, y = RNG.normal(size=(60, *shape)), np.arange(60) % 3
    np.savez(tmp_path / "one.npz", x=x, y=y)
    task = load("npz", path=tmp_path / "one.npz")
    assert (len(task.train), len(task.val), len(task.test)) == (36, 12, 12)
    assert task.classes == 3
    assert task.student().eval()(task.test.x[:2]).shape == (2, 3)
    np.savez_compressed(tmp_path / "two.npz", x_train=x, y_train=y, x_test=x[:6], y_test=y[:6])
    task = load("npz", path=tmp_path / "two.npz", classes=4)
    assert (len(task.train), len(task.val), len(task.test), task.classes) == (54, 6, 6, 4)


def test_bad_npz_files_are_refused(tmp_path):
    file = tmp_path / "d.npz"
    np.savez(file, x=np.zeros((4, 2)), y=np.array([{}] * 4, dtype=object))
    with pytest.raises(
        DataFileError, match=r"d.npz: 'y' is damaged, expected \d+ bytes: its header says object \(4,\)"
    ):
        read_npz(file)
    np.savez(file, x=np.zeros((4, 2)), y=np.zeros(4, np.int64))
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    with pytest.raises(DataFileError, match=rf"d.npz \({len(whole) - 30} bytes\) is not a complete .npz archive"):
        read_npz(file)
    flipped = bytearray(whole)
    flipped[whole.index(b"\x93NUMPY") + 130] ^= 0xFF
    file.write_bytes(bytes(flipped))
    with pytest.raises(DataFileError, match="'x' is damaged, expected 192 bytes"):
        read_npz(file)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    file.write_bytes(buffer.getvalue())
    with pytest.raises(DataFileError, match=r"is not a complete \.npz archive"):
        read_npz(file)
    np.savez(file, x=np.full((4, 2), np.nan), y=np.zeros(4, np.int64))
    with pytest.raises(DataFileError, match="must hold finite numbers"):
        load("npz", path=file)
    np.savez(file, x=np.zeros((4, 2)), y=np.zeros(3, np.int64))
    with pytest.raises(DataFileError, match="do not fit"):
        load("npz", path=file)
    with pytest.raises(DataFileError, match="does not exist"):
        load("npz", path=tmp_path / "none.npz")


@pytest.mark.parametrize("order", ["<", ">"])
def test_text_with_a_number_that_is_no_character_is_refused(tmp_path, order):
    good = np.array(["left", "right"]).astype(f"{order}U5")
    broken = np.frombuffer(good.tobytes(), f"{order}u4").copy()
    broken[3] = sys.maxunicode
    np.savez(tmp_path / "last.npz", classes=broken.view(f"{order}U5"))
    assert read_npz(tmp_path / "last.npz")["classes"][0].endswith(chr(sys.maxunicode))
    broken[3] = sys.maxunicode + 1
    np.savez(tmp_path / "beyond.npz", classes=broken.view(f"{order}U5"))
    with pytest.raises(DataFileError, match=r"'classes' is damaged.*1,114,112, which is not a character"):
        read_npz(tmp_path / "beyond.npz")
