"""``policykd kd data`` prepares a data set into a file that the task reads; test_light_commands.py lists them."""

import numpy as np

from policykd.cli.main import main
from policykd.kd.tasks import load


def write_folders(root):
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for label in ("cat", "dog"):
            folder = root / part / label
            folder.mkdir(parents=True)
            for k in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return root


def test_a_prepared_folder_is_a_task(tmp_path, capsys):
    root = write_folders(tmp_path / "pictures")
    assert main(["kd", "data", "image_folder", "--root", str(root), "--out", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert "32 samples 3 x 8 x 8, 2 classes, 8 of them its own test part" in out
    assert "license: that of your pictures" in out
    task = load("prepared", path=tmp_path / "data/image_folder.npz")
    assert (len(task.train) + len(task.val), len(task.test)) == (24, 8)


def test_errors_end_in_one_line(tmp_path, capsys):
    assert main(["kd", "data", "emodb"]) == 2
    assert "needs --root" in capsys.readouterr().err
    assert main(["kd", "data", "emodb", "esc50", "--root", str(tmp_path)]) == 2
    assert "one by one" in capsys.readouterr().err
    assert main(["kd", "data", "esc5"]) == 2
    assert "did you mean esc50" in capsys.readouterr().err


def test_a_system_runs_on_prepared_data(tmp_path, capsys):
    rng = np.random.default_rng(0)
    from policykd.kd.data.samples import Samples, write_samples

    y = rng.integers(0, 2, 60)
    x = rng.standard_normal((60, 4, 16)).astype(np.float32)
    samples = Samples(x, y, ("a", "b"), np.repeat(np.arange(3), 20), ("p", "q", "r"), about="x")
    write_samples(tmp_path / "eeg.npz", samples)
    command = ["kd", "run", "sk_kd", "--data", str(tmp_path / "eeg.npz"), "--out", str(tmp_path / "out")]
    settings = ["--seeds", "1", "--workers", "1", "--set", "classes=2", "teacher.epochs=1", "student.epochs=1"]
    assert main([*command, *settings]) == 0
    assert "recorded series" in capsys.readouterr().out
    assert (tmp_path / "out/sk_kd/result.json").exists()
    assert main(["kd", "run", "hinton_kd", "--data", "x.npz"]) == 2
    assert "unknown system with real data" in capsys.readouterr().err
    assert main(["kd", "run", "all", "--data", "x.npz"]) == 2
    assert "name only that system" in capsys.readouterr().err
