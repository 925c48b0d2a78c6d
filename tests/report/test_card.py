"""The card of a policy: figures of its evaluation, its inputs and hashes, and a folder that loads as the policy."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from policykd.agents.files.policy_file import load_policy
from policykd.cli.main import main
from policykd.errors import ConfigError, MissingDependencyError, OutputError
from policykd.evaluation import evaluate
from policykd.report.hub import check_repository, push_folder
from policykd.report.pages.card import CardOptions, write_card

STORED = Path(__file__).parents[1] / "data" / "flat-expert"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    policy, manifest = load_policy(STORED)
    skill = manifest.skill("biped/flat", tuple(policy.groups))
    found = evaluate({"student": policy, "expert": policy}, [skill], episodes=4, experts={"biped/flat": "expert"})
    path = tmp_path_factory.mktemp("evaluation") / "evaluation.json"
    found.save(path)
    return path, found


def test_the_folder_is_the_policy(tmp_path):
    out = tmp_path / "card"
    assert write_card(STORED, out) == out / "index.html"
    (first, one), (second, two) = load_policy(STORED), load_policy(out)
    assert one == two
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "index.html", "policy"]


def test_it_says_what_the_file_and_the_evaluation_hold(tmp_path, evaluation):
    path, found = evaluation
    out = tmp_path / "card"
    write_card(STORED, out, CardOptions(title="Walks | flat", license="mit", evaluation=path))
    text, page = (out / "README.md").read_text(), (out / "index.html").read_text()
    manifest = load_policy(STORED).manifest
    assert text.startswith("---\nlibrary_name: policykd\nlicense: mit\ntags:\n- robotics\n")
    assert "# Walks \\| flat" in text
    success = found.summaries["student", "biped/flat"].success
    figures = f"{success.estimate:.2f} \\[{success.low:.2f}, {success.high:.2f}\\]"
    assert f"| biped/flat | {figures} |" in text
    assert "1.000" in text.split(f"| biped/flat | {figures} |")[1].splitlines()[0], "the retention of the expert's twin"
    for each in (text, page):
        assert manifest.weights_sha256 in each
        assert manifest.content_sha256 in each
        assert "49-98" in each
        assert "right_shank" in each.replace("\\", "")
        assert "-3 to 0" in each
        assert "train biped/flat" in each, "its lineage"
        assert "mit" in each
    assert "30" in text.split("| actions per second |")[1].splitlines()[0]


def test_pages_have_a_form_for_phones_and_for_paper(tmp_path):
    page = write_card(STORED, tmp_path).read_text()
    phone, paper = page.partition("@media (max-width: 40rem)")[2], page.partition("@media print")[2]
    assert "td small { display: block" in phone
    assert ".scroll { overflow: visible" in paper


def test_without_a_license_it_says_so(tmp_path):
    write_card(STORED, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| license | not stated |" in text
    assert "\nlicense:" not in text
    assert "What it can do" not in text


def test_texts_of_strangers_are_escaped(tmp_path):
    write_card(STORED, tmp_path, CardOptions(title="<script>alert(1)</script> [x](y)"))
    for name in ("README.md", "index.html"):
        assert "<script>alert" not in (tmp_path / name).read_text()
    assert "\\[x\\](y)" in (tmp_path / "README.md").read_text()


def test_the_policy_must_be_told_from_others(tmp_path, evaluation):
    path, _ = evaluation
    with pytest.raises(ConfigError, match="has the policies student, expert; choose this one with --name"):
        write_card(STORED, tmp_path, CardOptions(evaluation=path, name="unknown"))
    write_card(STORED, tmp_path, CardOptions(evaluation=path, name="expert"))
    assert "| biped/flat |" in (tmp_path / "README.md").read_text()


class Client:
    """A hub that notes what it is asked."""

    calls: list

    def __init__(self, error=None):
        self.calls, self.error = [], error
        self.HfApi = lambda: SimpleNamespace(create_repo=self.create, upload_folder=self.upload)

    def create(self, name, exist_ok):
        self.calls.append(("create", name, exist_ok))

    def upload(self, repo_id, folder_path):
        if self.error:
            raise self.error
        self.calls.append(("upload", repo_id, sorted(p.name for p in Path(folder_path).iterdir())))
        return f"hub/{repo_id}"


def test_the_hubs_client_gets_the_folder(tmp_path, monkeypatch, capsys):
    client = Client()
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    assert main(["card", str(STORED), "--out", str(tmp_path / "card"), "--push", "me/walker"]) == 0
    assert client.calls == [
        ("create", "me/walker", True),
        ("upload", "me/walker", ["README.md", "index.html", "policy"]),
    ]
    assert "uploaded: hub/me/walker" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "huggingface_hub", Client(OSError("offline")))
    with pytest.raises(OutputError, match=r"cannot upload .*offline; log in"):
        push_folder(tmp_path, "me/walker")


def test_an_upload_that_cannot_work_is_refused_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"policykd\[hub\]"):
        check_repository("me/walker")
    for name in ("walker", "me/walker/x", "me/"):
        with pytest.raises(ConfigError, match="write it as <owner>/<name>"):
            check_repository(name)
    assert main(["card", str(STORED), "--out", str(tmp_path / "card"), "--push", "walker"]) == 2
    assert not (tmp_path / "card").exists()
