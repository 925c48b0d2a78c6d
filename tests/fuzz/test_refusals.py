"""What fuzz runs found: files that ended in errors of other libraries, or loaded with numbers that are not finite."""

import io
import json
import shutil
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_samples
from fuzz_formats import read_foreign, read_minari, read_robot
from record_mutations import YAML_TEXTS

from policykd.agents.files.policy_file import load_policy
from policykd.agents.importing.formats import read_foreign as read_file
from policykd.agents.importing.options import ImportOptions
from policykd.curriculum import load_recipe
from policykd.curriculum.comparison import Comparison
from policykd.errors import ConfigError, DatasetError, OutputError, PolicyFileError, PolicykdError
from policykd.evaluation import Evaluation
from policykd.kd.benchmark import BenchResult
from policykd.kd.data.arrays import read_npz
from policykd.kd.data.files import DataFileError
from policykd.kd.data.source import Source
from policykd.kd.experiments import Result
from policykd.kd.objective.teachers import TeacherError
from policykd.kd.training.checkpoint import CheckpointError, load
from policykd.kd.training.logs import read_records
from policykd.parsing import parse_json, parse_yaml
from policykd.plain import Limits, from_plain
from policykd.runs import RunFolder, read_log
from policykd.storage import read_json

DIGITS = "9" * 5000


def place(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "text", [f'{{"a": {DIGITS}}}', "[" * 100_000, '{"a": 1e400}', '{"a": NaN}', '{"a": "\\ud800"}', "\udcff", "[1]", ""]
)
def test_json_objects(text, tmp_path):
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(OutputError, match=r"x\.json.*delete it to start over"):
        read_json(tmp_path / "x.json")


def test_json_that_is_a_folder_or_missing(tmp_path):
    with pytest.raises(OutputError, match="cannot read"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing.json")
    with pytest.raises(OutputError, match="there is no finished comparison at"):
        Comparison.load(tmp_path / "comparison.json")


def test_numbers_of_json_are_those_that_were_written():
    assert parse_json(b'{"a": [0.1, -1e300, 12345678901234567890]}', "it") == {"a": [0.1, -1e300, 12345678901234567890]}


@pytest.mark.parametrize(
    "text", [t for t in YAML_TEXTS if t not in ("a: !!null x", "a: .inf", "a: 1:99:99.9", "a: 0x")]
)
def test_odd_yaml_is_read_or_refused(text, tmp_path):
    with suppress(ConfigError):
        parse_yaml(text.encode(), "it", ConfigError)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("!!int ''", "string index out of range"),
        ("!!float x", "could not convert string to float"),
        ("!!timestamp x", "NoneType"),
        ("2001-99-99", "month must be in"),
        ("a: " + DIGITS, "4300 digits"),
        ("a: 0b" + "1" * 1001, "more than 1,000 bits"),
        ("{a: &a [*a]}", "unfold to more than 100,000 values"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ("- " * 3000, "recursion"),
    ],
)
def test_yaml_that_is_refused(text, reason, tmp_path):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(OutputError, match=rf"recipe\.yaml is not valid YAML: .*{reason}"):
        load_recipe(tmp_path / "recipe.yaml")


def test_the_line_of_a_mistake_is_named():
    with pytest.raises(ConfigError, match=r"^it is not valid YAML: mapping values are not allowed here in line 2$"):
        parse_yaml(b"a: 1\nb: c: d\n", "it", ConfigError)


def test_yaml_has_limits_and_keeps_what_is_below():
    with pytest.raises(OutputError, match=r"has 200,001 bytes; at most 200,000"):
        parse_yaml(b"#" * 200_001, "it")
    assert parse_yaml(b"a: &x [1, 2]\nb: *x\nc: 0b" + b"1" * 1000, "it") == {"a": [1, 2], "b": [1, 2], "c": 2**1000 - 1}
    assert parse_yaml(b"[" * 100 + b"]" * 100, "it")


def test_numbers_that_no_float_can_hold():
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Config:
        rate: float = 0.0

    with pytest.raises(ConfigError, match=r"rate is 1000.*; it must be a number below 1e308"):
        from_plain(Config, {"rate": 10**400})
    assert Limits().low == -np.inf


def run(folder):
    return RunFolder(folder / "run", fuzz_samples.CONFIG, resume=True)


@pytest.mark.parametrize("line", [b"{1}", b"\xff", b"[1]", b'{"a": NaN}'])
def test_damaged_logs_of_runs(line, tmp_path):
    place(tmp_path, fuzz_samples.run_folder())
    log = tmp_path / "run" / "progress.jsonl"
    log.write_bytes(log.read_bytes() + line + b"\n")
    with pytest.raises(OutputError, match=r"a line of .*progress\.jsonl"):
        run(tmp_path).log()
    assert read_log(log) == [{"steps": 1, "reward": 0.5}]
    (tmp_path / "records.jsonl").write_bytes(b'{"step": 1}\n\xff\n{"step": 2}\n')
    assert read_records(tmp_path / "records.jsonl") == [{"step": 1}]


def test_damaged_checkpoints_of_runs(tmp_path):
    files = fuzz_samples.run_folder()
    content = files["run/checkpoint.pt"]
    spot = content.index(torch.arange(6.0).numpy().tobytes()) + 6
    flipped = content[:spot] + bytes([content[spot] ^ 64]) + content[spot + 1 :]
    others = [fuzz_samples.saved(tree) for tree in ([1], {"format": 2}, {"format": 2, "log_rows": "1"})]
    for damaged in (flipped, content[:-30], *others):
        place(tmp_path, {**files, "run/checkpoint.pt": damaged})
        with pytest.raises(OutputError, match=r"checkpoint\.pt .*(delete it to start over)"):
            run(tmp_path).load_checkpoint()
    place(tmp_path, files)
    assert torch.equal(run(tmp_path).load_checkpoint()["weights"], torch.arange(6.0))


def test_checkpoints_that_unpack_to_more_than_their_size(tmp_path):
    place(tmp_path, fuzz_samples.run_folder())
    with zipfile.ZipFile(tmp_path / "run" / "checkpoint.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(3_000_000))
    with pytest.raises(OutputError, match="unpack to more than twice its size"):
        run(tmp_path).load_checkpoint()


def test_results_of_runs_hold_numbers(tmp_path):
    from policykd.report.run_files import ResultsFolder

    place(tmp_path, fuzz_samples.results_folder())
    assert [r.steps for r in ResultsFolder.read(tmp_path).runs] == [20, 20]
    (tmp_path / "expert" / "result.json").write_text('{"steps": "many"}')
    with pytest.raises(OutputError, match=r"result\.json: steps is 'many'; it must be a number"):
        ResultsFolder.read(tmp_path)


def changed(name, change):
    content = json.loads((fuzz_samples.STORED / name).read_text())
    change(content)
    return content


def test_episodes_of_an_evaluation_have_equal_numbers_of_figures():
    for change in (lambda c: c["cells"][0]["length"].append(3), lambda c: c["cells"][0]["length"].__setitem__(0, 0)):
        with pytest.raises(OutputError, match="have different numbers of figures"):
            Evaluation.from_json(changed("evaluation.json", change))


def test_comparisons_of_an_experiment_fit_its_values():
    for change in (lambda c: c["values"].pop("CE"), lambda c: c["values"]["SP"].clear()):
        with pytest.raises(OutputError, match="its comparisons do not fit its values"):
            Result.from_json(changed("kd-run.json", change))


def test_values_of_a_benchmark_are_numbers():
    def nest(content):
        cell = next(iter(content["cells"].values()))[0]
        cell["test"]["accuracy"] = [cell["test"]["accuracy"]]

    with pytest.raises(OutputError, match="not valid"):
        BenchResult.from_json(changed("kd-bench.json", nest))


def npz(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967295,)}\n") + b"12345678",
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}\n"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}\n"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n") + b"12345678",
        header("{'descr': "),
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
def test_arrays_whose_header_lies(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(npz({"x.npy": content}))
    with pytest.raises(DataFileError, match=rf"'x' is damaged, expected {len(content)} bytes"):
        read_npz(tmp_path / "a.npz")


def test_archives_of_arrays_and_nothing_else(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(6.0).reshape(2, 3), y=np.array("text"), z=np.asfortranarray(np.eye(3)))
    found = read_npz(path)
    assert np.array_equal(found["x"], np.arange(6.0).reshape(2, 3))
    assert str(found["y"]) == "text"
    assert np.array_equal(found["z"], np.eye(3))
    path.write_bytes(npz({"x.txt": b"hello"}))
    with pytest.raises(DataFileError, match=r"holds 'x\.txt', which is not an array"):
        read_npz(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataFileError, match=r"\(4 bytes\) is not a complete \.npz archive"):
        read_npz(path)


def test_errors_of_kd_belong_to_the_family(tmp_path):
    assert issubclass(CheckpointError, PolicykdError)
    assert issubclass(TeacherError, PolicykdError)
    from safetensors.torch import save_file

    for text in (
        "{",
        "[1]",
        "[" * 100_000,
        '{"format": 1, "tree": {"tensor": "x"}}',
        '{"format": 1, "tree": {"dict": 3}}',
    ):
        save_file({"a": torch.zeros(1)}, tmp_path / "c.safetensors", metadata={"policykd": text})
        with pytest.raises(CheckpointError):
            load(tmp_path / "c.safetensors")


def test_names_in_robot_models_are_text(tmp_path):
    from policykd.envs.robots.description import read_robot

    files = fuzz_samples.robot_mjcf()
    place(tmp_path, {**files, "walker.xml": files["walker.xml"].replace(b"FL_hip", b"FL_h\xff")})
    with pytest.raises(ConfigError, match=r"walker\.xml is not valid MJCF or URDF: 'utf-8'"):
        _ = read_robot(tmp_path / "walker.yaml").body


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"obs_normalizer._mean": torch.full((1, 5), 1e300, dtype=torch.float64)}, "the normalizer holds means"),
        ({"obs_normalizer._std": torch.full((1, 5), 1e30)}, "the normalizer holds means"),
        ({"mlp.0.weight": torch.full((4, 5), 1e300, dtype=torch.float64)}, "actor layer 0 holds NaN or infinity"),
        (
            {"distribution.std_param": torch.full((2,), float("nan"))},
            "the spread of the actions is not 2 finite numbers",
        ),
    ],
)
def test_numbers_that_single_precision_cannot_hold(change, words, tmp_path):
    tree = torch.load(io.BytesIO(fuzz_samples.rsl_rl_new()["model_1.pt"]), weights_only=True)
    tree["actor_state_dict"] |= change
    torch.save(tree, tmp_path / "model_1.pt")
    with pytest.raises(PolicyFileError, match=words):
        read_file(tmp_path / "model_1.pt", ImportOptions(activation="elu"))


def test_names_of_members_that_are_not_text(tmp_path):
    """The member's own header says that its name is UTF-8, and holds other bytes."""
    content = bytearray(fuzz_samples.zipped_policy()["policy.zip"])
    content[6:8] = (0x800).to_bytes(2, "little")
    content[30] = 0xFF
    (tmp_path / "policy.zip").write_bytes(bytes(content))
    with pytest.raises(PolicyFileError, match="nor a readable zip"):
        load_policy(tmp_path / "policy.zip")


def test_members_that_do_not_inflate(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("file.txt", b"text " * 100)
    content = bytearray((tmp_path / "data.whl").read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "data.whl").write_bytes(bytes(content))
    with pytest.raises(DataFileError, match=r"file\.txt cannot be read"):
        Source(tmp_path / "data.whl").read("file.txt", limit=10_000)


def test_encrypted_members_and_odd_settings_of_a_zip(tmp_path):
    content = bytearray(fuzz_samples.cleanrl()["ppo.pt"])
    for start in [i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"]:
        content[start + 8] |= 1  # the flag of encryption
    (tmp_path / "ppo.pt").write_bytes(bytes(content))
    with pytest.raises(PolicyFileError):
        read_foreign("ppo.pt", normalized=False)(tmp_path)
    pytest.importorskip("stable_baselines3")
    place(tmp_path, fuzz_samples.sb3_zip())
    for text in (b"2001-99-99", b"- a: !!timestamp x", b"3"):
        with pytest.raises(PolicyFileError, match=r"config\.yml is not"):
            read_file(place(tmp_path, {"config.yml": text}) / "Walker-v1.zip")


def test_damaged_minari_folders(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    pytest.importorskip("h5py")
    files = fuzz_samples.minari_folder()
    data = next(name for name in files if name.endswith(".hdf5"))
    metadata = next(name for name in files if name.endswith("data/metadata.json"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    many = json.dumps({**json.loads(files[metadata]), "total_episodes": 10**9}).encode()
    for change in ({data: files[data][:9000]}, {metadata: b"{"}, {metadata: b"{}"}, {data: b""}, {metadata: many}):
        shutil.rmtree(tmp_path / "sets", ignore_errors=True)
        with pytest.raises(DatasetError, match=r"damaged|not on this machine"):
            read_minari(place(tmp_path, {**files, **change}))
    shutil.rmtree(tmp_path / "sets")
    assert len(read_minari(place(tmp_path, files))) == 1


def test_arrays_of_minari_that_do_not_fit_their_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    from policykd.merge.data.minari_files import check_sizes

    data = tmp_path / "data"
    data.mkdir()
    (data / "metadata.json").write_text('{"total_episodes": 1}')
    with h5py.File(data / "main_data.hdf5", "w") as file:
        file["episode_0/rewards"] = np.zeros(3)
    check_sizes(tmp_path)
    for count in (2, -1, None, True, 1.0):
        (data / "metadata.json").write_text(json.dumps({"total_episodes": count}))
        with pytest.raises(DatasetError, match=rf"names {count} episodes; the dataset holds 1"):
            check_sizes(tmp_path)
    (data / "metadata.json").write_text('{"total_episodes": 1}')
    with h5py.File(data / "main_data.hdf5", "a") as file:
        file["episode_0/infos"] = file["episode_0"]  # a group within itself
    with pytest.raises(DatasetError, match="an object has several names"):
        check_sizes(tmp_path)
    for link in (h5py.SoftLink("/episode_0"), h5py.ExternalLink("elsewhere.hdf5", "/")):
        with h5py.File(data / "main_data.hdf5", "a") as file:
            del file["episode_0/infos"]
            file["episode_0/infos"] = link
        with pytest.raises(DatasetError, match="/episode_0/infos links to another place"):
            check_sizes(tmp_path)
    with h5py.File(data / "main_data.hdf5", "a") as file:
        del file["episode_0/infos"]
    check_sizes(tmp_path)
    with h5py.File(data / "main_data.hdf5", "a") as file:
        file.create_dataset("episode_0/observations", (10**9,), "f8", chunks=(1000,))  # nothing is stored
    with pytest.raises(DatasetError, match=r"episode_0/observations has shape \(1000000000,\)"):
        check_sizes(tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("walker.yaml", "model: walker.xml", 'model: "walker\\0.xml"', "is not a path: .*embedded null"),
        ("walker.yaml", "model: walker.xml", f"model: {'w' * 5000}.xml", "is not a path: .*File name too long"),
        ("walker.yaml", "stiffness: 40", "stiffness: .inf", r"'\.\*' must have a number within 1e\+30, got inf"),
        ("walker.yaml", "_knee: 9}", "_knee: 1.0e+31}", r"'\.\*_knee' must have a number within 1e\+30, got 1e\+31"),
    ],
)
def test_robots_that_no_float_or_path_can_hold(file, old, new, message, tmp_path):
    place(tmp_path, fuzz_samples.robot_mjcf())
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_robot(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('<sphere radius="0.03"/>', '<sphere radius="inf"/>', "geom_size"),
        ('<axis xyz="0 1 0"/>', '<axis xyz="nan nan nan"/>', "jnt_axis"),
        ('<origin xyz="0 0 -0.3"/>', '<origin xyz="0 0 -inf"/>', "body_pos"),
    ],
)
def test_shapes_and_axes_of_robots_are_finite(old, new, field, tmp_path):
    place(tmp_path, fuzz_samples.robot_urdf())
    text = (tmp_path / "walker.urdf").read_text()
    assert old in text
    (tmp_path / "walker.urdf").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=f"{field} of its compiled model is not finite"):
        read_robot(tmp_path)
