"""``policykd kd data`` lists the data sets without torch and prepares one into a file that the task reads."""

import subprocess
import sys

import numpy as np

from policykd.cli.main import main
from policykd.kd.data.data_set import DATA_SETS
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


def test_the_list_names_every_data_set_and_loads_no_torch():
    code = (
        "import sys; from policykd.cli.main import main; status = main(['kd', 'data']); "
        "print('torch' in sys.modules, status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False 0")
    assert all(name in done.stdout for name in DATA_SETS)
    assert "CC BY-SA 4.0" in done.stdout


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
