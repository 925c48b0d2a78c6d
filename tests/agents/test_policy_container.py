import io
import os
import pickle
import signal
import stat
import zipfile

import pytest
import torch
from policy_samples import forge, make_policy, refused, store, zipped

from policykd.agents.files.policy_file import load_policy, read_manifest
from policykd.errors import OutputError


@pytest.fixture
def folder(tmp_path):
    store(tmp_path / "expert")
    return tmp_path / "expert"


def test_run_folder_stands_for_the_policy_in_it(tmp_path):
    written = store(tmp_path / "run" / "policy")
    (tmp_path / "run" / "progress.jsonl").write_text("{}\n")
    assert load_policy(tmp_path / "run").manifest == written


def test_equal_policies_give_equal_zips(tmp_path):
    store(tmp_path / "a.zip")
    store(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_zip_of_the_folder_itself_loads(folder, tmp_path):
    members = [(f"expert/{file.name}", file.read_bytes()) for file in folder.iterdir()]
    load_policy(zipped(tmp_path / "sent.zip", [("expert/", b""), *members]))


def test_missing_path_names_close_siblings(folder):
    refused(folder.with_name("expret"), "no such policy file", "did you mean", "expert")
    refused(folder.with_name("zzz") / "deep", "no such policy file")
    os.mkfifo(folder.with_name("pipe"))
    refused(folder.with_name("pipe"), "neither")


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_pickle_is_never_executed(folder, tmp_path):
    marker = tmp_path / "executed"
    bomb = pickle.dumps(Bomb(marker))
    size = len((folder / "weights.safetensors").read_bytes())
    forge(folder, weights=bomb.ljust(size, b"\0"))
    refused(folder, "not safetensors")
    torch.save({"log_std": Bomb(marker)}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "pickle")
    (tmp_path / "old.pt").write_bytes(bomb)
    refused(tmp_path / "old.pt", "neither")
    (folder / "manifest.json").write_bytes(bomb)
    refused(folder, "JSON")
    members = [("data", "{}"), ("policy.pth", bomb), ("_stable_baselines3_version", "2")]
    refused(zipped(tmp_path / "ppo.zip", members), "stable-baselines3")
    assert not marker.exists()
    pickle.loads(bomb)
    assert marker.exists(), "the bomb works"


@pytest.mark.parametrize("name", ["../manifest.json", "/manifest.json", "a/../../manifest.json", "..\\manifest.json"])
def test_zip_path_escape(folder, tmp_path, name):
    weights = (folder / "weights.safetensors").read_bytes()
    refused(zipped(tmp_path / "p.zip", [(name, "{}"), ("weights.safetensors", weights)]), "out of the archive")


def test_zip_with_a_link(folder, tmp_path):
    link = zipfile.ZipInfo("weights.safetensors")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    refused(zipped(tmp_path / "p.zip", [("manifest.json", "{}"), (link, "/etc/passwd")]), "link")


def test_zip_bomb(folder, tmp_path):
    bomb = zipped(tmp_path / "p.zip", [("manifest.json", b" " * 20_000_000), ("weights.safetensors", b"")])
    assert bomb.stat().st_size < 50_000
    refused(bomb, "20,000,000")


def test_zip_that_lies_about_a_size(folder, tmp_path):
    path = zipped(tmp_path / "p.zip", [("weights.safetensors", b""), ("manifest.json", b" " * 20_000_000)])
    content = path.read_bytes().replace((20_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("names", [[], ["manifest.json"], ["a/manifest.json", "b/weights.safetensors"], ["x", "y"]])
def test_zip_without_the_two_parts(tmp_path, names):
    refused(zipped(tmp_path / "p.zip", [(name, b"") for name in names]), "nothing else")


def test_zip_with_a_member_twice(folder, tmp_path):
    content = (folder / "manifest.json").read_bytes()
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "p.zip", [("manifest.json", content), ("manifest.json", b"{}")])
    refused(path, "nothing else")


def test_truncated_and_garbled_zip(tmp_path):
    store(tmp_path / "p.zip")
    content = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "p.zip").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "p.zip", "neither")
    middle = len(content) // 2
    (tmp_path / "p.zip").write_bytes(content[:middle] + b"\0\1\2" + content[middle + 3 :])
    refused(tmp_path / "p.zip")


def test_links_and_pipes_inside_a_folder(folder, tmp_path):
    (folder / "weights.safetensors").rename(tmp_path / "elsewhere")
    (folder / "weights.safetensors").symlink_to(tmp_path / "elsewhere")
    refused(folder, "link")
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")
    refused(folder, "regular")
    (folder / "weights.safetensors").unlink()
    refused(folder, "no weights.safetensors")


def test_oversized_parts_are_refused_unread(folder):
    with (folder / "weights.safetensors").open("ab") as file:
        file.truncate(10**11)  # sparse
    refused(folder, "100,000,000,000")


def test_saving_never_replaces_anything_but_a_policy(folder, tmp_path):
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not a policy"):
        store(folder)
    (tmp_path / "note").write_text("x")
    with pytest.raises(OutputError, match="not a policy"):
        store(tmp_path / "note")
    with pytest.raises(OutputError, match="cannot write"):
        store(tmp_path / "note" / "below")
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_saving_leaves_nothing_else_behind(folder):
    written = store(folder, make_policy(1))
    assert load_policy(folder).manifest == written
    assert {path.name for path in folder.parent.rglob("*")} == {"expert", "manifest.json", "weights.safetensors"}


def _killed_save(path, policy, event_number):
    """Save in a child process that kills itself at its n-th file operation; whether it was killed."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event, arguments):
            nonlocal seen
            if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
                seen += 1
                if seen == event_number:
                    os.kill(os.getpid(), signal.SIGKILL)

        import sys

        sys.addaudithook(hook)
        store(path, policy)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["expert", "expert.zip"])
def test_kill_at_any_file_operation_leaves_the_old_or_the_new_policy(tmp_path, name):
    path = tmp_path / name
    old, new = make_policy(0), make_policy(1)
    old_hash, new_hash = store(path, old).weights_sha256, store(tmp_path / "other", new).weights_sha256
    results, event_number = [], 1
    while _killed_save(path, new, event_number):
        results.append(load_policy(path).manifest.weights_sha256)
        store(path, old)
        assert load_policy(path).manifest.weights_sha256 == old_hash
        event_number += 1
    assert load_policy(path).manifest.weights_sha256 == new_hash
    assert results[0] == old_hash
    assert set(results) <= {old_hash, new_hash}
    assert len(results) >= 2 if name.endswith(".zip") else len(results) >= 8
    leftovers = {entry.name for entry in tmp_path.iterdir()} - {name, "other"}
    assert not {entry for entry in leftovers if not entry.endswith(".tmp")}


def test_folder_replaced_while_it_is_read(folder, monkeypatch):
    """A reader that meets the old manifest and the new weights reads again."""
    from policykd.agents.files import container

    original, calls = container._read, []

    def read(path, limit):
        content = original(path, limit)
        calls.append(path.name)
        if len(calls) == 1:
            store(folder, make_policy(1))
        return content

    monkeypatch.setattr(container, "_read", read)
    assert load_policy(folder).manifest == read_manifest(folder)
    assert len(calls) >= 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_reader_beside_a_busy_writer(folder):
    policies = [make_policy(seed) for seed in (0, 1)]
    hashes = {store(folder, policy).weights_sha256 for policy in policies}
    child = os.fork()
    if child == 0:
        while True:
            for policy in policies:
                store(folder, policy)
    try:
        seen = {load_policy(folder).manifest.weights_sha256 for _ in range(120)}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert seen == hashes


def test_zip_of_stdlib_default_compression_is_read(folder, tmp_path):
    members = [(file.name, file.read_bytes()) for file in folder.iterdir()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in members:
            archive.writestr(name, content)
    (tmp_path / "p.zip").write_bytes(buffer.getvalue())
    load_policy(tmp_path / "p.zip")
