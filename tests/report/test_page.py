import base64
import html
import json
import random
import re
from dataclasses import replace

import pytest

from policykd.agents.files.policy_file import save_policy
from policykd.agents.policy import Architecture, Policy
from policykd.envs.skills import get_skill
from policykd.errors import OutputError, PolicyFileError
from policykd.evaluation import Evaluation
from policykd.evaluation.results import Episodes
from policykd.report.pages.headlines import _elsewhere
from policykd.report.pages.run import write_page

SKILLS = ("biped/flat", "biped/steps", "biped/gaps")
NAMES = ("flat", "steps", "gaps")
VIDEO = b"\0\0\0\x18ftypmp42 not really"


def cell(rng, rate):
    success = tuple(rng.random() < rate for _ in range(16))
    length = tuple(256 if ok else rng.randint(10, 200) for ok in success)
    total = tuple(steps * rng.uniform(0.7, 0.9) for steps in length)
    return Episodes(total, tuple(t / 256 for t in total), length, tuple(n / 20 for n in length), success)


def make_evaluation(policies=(*NAMES, "student"), experts=True):
    rng = random.Random(0)
    cells = {(p, s): cell(rng, 0.9 if p in s or p == "student" else 0.2) for s in SKILLS for p in policies}
    named = dict(zip(SKILLS, NAMES, strict=True)) if experts else {}
    return Evaluation(policies, SKILLS, 16, 5, False, dict.fromkeys(SKILLS, 256), named, cells)


def make_run(folder, seed, skills, log, result, **options):
    skill = get_skill(skills[0])
    policy = Policy(skill.group_sizes, 11, Architecture((8,), (8,)), generator_seed=seed)
    manifest = save_policy(folder / "policy", policy, robot=skill.robot, skills=skills, seed=5, **options)
    (folder / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    (folder / "config.json").write_text(json.dumps({"train": {"steps": 123456}, "note": "<script>alert(1)</script>"}))
    (folder / "result.json").write_text(json.dumps(result))
    return manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    make_evaluation().save(out / "evaluation.json")
    curve = [{"steps": 1000 * i, "reward_per_step": i / 9, "success": i / 9, "distance": i} for i in range(1, 9)]
    parents = [
        make_run(out / "experts" / n, i, [s], curve, {"steps": 500_000, "seconds": 60}, operation="train").as_parent(n)
        for i, (n, s) in enumerate(zip(NAMES, SKILLS, strict=True))
    ]
    rounds = [{"round": i, "loss": 1 / i, "retention": dict.fromkeys(SKILLS, i / 5)} for i in range(1, 5)]
    result = {"states": 60_000, "seconds": 30}
    make_run(out / "student", 9, list(SKILLS), rounds, result, operation="merge", parents=parents)
    (out / "videos").mkdir()
    for name in NAMES:
        (out / "videos" / f"{name}.mp4").write_bytes(VIDEO)
    (out / "demo.json").write_text('{"seed": 5}')
    write_page(out)
    return out


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "index.html").read_text()


def text_of(page):
    return html.unescape(re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<style.*?</style>", "", page)))


def table_rows(page):
    """Cells as text of every row of the tables of figures."""
    rows = re.findall(r'(?s)<tr class="(?:expert|student)?(?: first)?">(.*?)</tr>', page)
    return [[" ".join(text_of(c).split()) for c in re.findall(r"(?s)<td.*?>(.*?)</td>", row)] for row in rows]


def expected(interval, digits):
    if interval is None:
        return "\N{EN DASH}"
    estimate, low, high = (
        f"{interval[k]:.{digits}f}".replace("-", "\N{MINUS SIGN}") for k in ("estimate", "low", "high")
    )
    return f"{estimate} {low} to {high}" if interval["high"] > interval["low"] else estimate


def test_every_number_of_the_evaluation_is_there(folder, page):
    content = json.loads((folder / "evaluation.json").read_text())
    rows = table_rows(page)
    assert len(rows) == 2 * len(content["cells"])
    first, second = rows[: len(content["cells"])], rows[len(content["cells"]) :]
    by_skill = {(c["skill"], c["policy"]): c["summary"] for c in content["cells"]}
    order = [(s, p) for s in content["skills"] for p in content["policies"]]
    for key, one, two in zip(order, first, second, strict=True):
        s = by_skill[key]
        assert one[2:] == [
            expected(s["success"], 2),
            expected(s["reward_per_step"], 3),
            expected(s["retention"], 3),
            expected(s["distance"], 1),
        ]
        assert two[2:] == [
            expected(s["shortfall"], 3),
            expected(s["reward_while_up"], 3),
            expected(s["length"], 1),
        ]
        assert one[1].split()[0] == key[1]
    data = re.search(r'download="evaluation.json" href="data:application/json;base64,([^"]*)"', page)[1]
    assert json.loads(base64.b64decode(data)) == content


def test_nothing_outside_is_referenced(folder, page):
    references = re.findall(r'(?:src|href|poster|data|action|srcset)="([^"]*)"', page) + re.findall(
        r"url\(([^)]*)\)", page
    )
    assert len(references) > 8
    for reference in references:
        inside = reference.startswith(("data:", "#")) or (folder / reference).is_file()
        assert inside, reference[:80]
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r"https?:|//\w+\.\w|@import|<script|<link|<iframe", without_namespaces)


def test_clips_are_embedded_in_the_order_of_the_skills(page):
    assert page.count(f"data:video/mp4;base64,{base64.b64encode(VIDEO).decode()}") == 3
    assert re.findall(r'<a href="videos/(\w+)\.mp4">', page) == list(NAMES)


def test_clips_and_strips_of_presets_and_difficulties_follow_the_order_of_the_skills(tmp_path):
    evaluation = make_evaluation(("a",), experts=False)
    skills = ("biped/steps:hard@0.4", "biped/flat+hop", "biped/flat")
    cells = {("a", skill): evaluation.cells["a", SKILLS[0]] for skill in skills}
    Evaluation(("a",), skills, 16, 5, False, dict.fromkeys(skills, 256), {}, cells).save(tmp_path / "evaluation.json")
    (tmp_path / "videos").mkdir()
    names = ["steps-hard-0.4", "flat+hop", "flat"]
    for name in [*reversed(names), "extra"]:
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(VIDEO)
        (tmp_path / "videos" / f"{name}-strip.png").write_bytes(b"picture")
    (tmp_path / "videos" / ".flat.mp4.0123abcd.tmp.mp4").write_bytes(VIDEO)  # what a killed process had begun
    page = write_page(tmp_path).read_text()
    assert re.findall(r'<a href="videos/([^"]*)\.mp4">', page) == [*names, "extra"]
    assert re.findall(r'<a href="videos/([^"]*)-strip\.png">', page) == [*names, "extra"]


def test_headlines_are_the_evaluations(folder, page):
    summaries = Evaluation.load(folder / "evaluation.json").summaries
    text = text_of(page)
    worst = min(summaries["student", s].retention.estimate for s in SKILLS)
    assert f"keeps at least {100 * worst:.1f}\N{NARROW NO-BREAK SPACE}% of the reward of each expert" in text
    away = max(min(summaries[n, s].success.estimate for s in SKILLS if n not in s) for n in NAMES)
    assert f"{100 * away:.1f}\N{NARROW NO-BREAK SPACE}% or less" in text
    assert "1.56 M" in text
    assert "3.5 min" in text
    assert "3 → 1" in text


def test_an_expert_that_began_from_another_is_not_the_student(tmp_path):
    """The quadruped's demo said "1 -> 1": it took the expert that started from the flat one for the student."""
    make_evaluation().save(tmp_path / "evaluation.json")
    parents, train = [], {"operation": "train"}
    for i, (name, skill) in enumerate(zip(NAMES, SKILLS, strict=True)):
        options = {**train, "parents": parents[:1]} if parents else train
        parents.append(make_run(tmp_path / "experts" / name, i, [skill], [], {}, **options).as_parent(name))
    make_run(tmp_path / "student", 9, list(SKILLS), [], {}, operation="merge", parents=parents)
    assert "3 → 1" in text_of(write_page(tmp_path).read_text())


def test_a_success_of_zero_has_nothing_below_it(tmp_path):
    evaluation = make_evaluation()
    fallen = {key: replace(value, success=(False,) * 16) for key, value in evaluation.cells.items() if key[0] in NAMES}
    replace(evaluation, cells={**evaluation.cells, **fallen}).save(tmp_path / "evaluation.json")
    text = text_of(write_page(tmp_path).read_text())
    assert "falls to a success of 0 % on at least one other skill" in text


@pytest.mark.parametrize(
    ("away", "words"),
    [
        ([0.5, 0.0, 0.25], "Every expert falls to a success of 50.0 % or less on at least one other skill."),
        ([0.0, 1.0], "1 of 2 experts falls to a success of 0 % on at least one other skill."),
        ([0.95, 0.9, 1.0], "Every expert succeeds on at least 90.0 % of the tracks of all other skills, too."),
    ],
)
def test_what_experts_lack_is_said_only_of_those_that_lack_it(away, words):
    assert _elsewhere(away).replace("\N{NARROW NO-BREAK SPACE}", " ") == f" {words}"


def test_lineage_and_commands(page):
    text = " ".join(text_of(page).split()).replace(" ,", ",")
    assert "experts/flat, experts/steps, experts/gaps" in text
    for command in (
        "policykd demo --skills biped/flat biped/steps biped/gaps --episodes 16 --seed 5",
        "policykd train biped/steps --steps 123456 --seed 5 --out experts",
        "policykd merge experts/flat experts/steps experts/gaps --seed 5 --out student",
        "policykd evaluate experts/flat experts/steps experts/gaps student --skills biped/flat biped/steps biped/gaps",
    ):
        assert command in text


def test_content_from_files_is_escaped(page):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_plots_are_there_and_kept(folder, page):
    assert page.count("<svg") == 4
    assert sorted(path.name for path in (folder / "plots").iterdir()) == [
        "learning.svg",
        "merge-student.svg",
        "scores.svg",
    ]
    assert "retention of each expert" in page


def test_evaluation_alone_makes_a_page(tmp_path):
    make_evaluation(("a", "b"), experts=False).save(tmp_path / "evaluation.json")
    page = write_page(tmp_path).read_text()
    assert "keeps at least" not in page
    assert page.count("<svg") == 2
    assert len(table_rows(page)) == 12


def test_unknown_skill_takes_the_runs_picture(tmp_path):
    evaluation = make_evaluation()
    renamed = {(p, s.replace("gaps", "lava")): c for (p, s), c in evaluation.cells.items()}
    skills = tuple(s.replace("gaps", "lava") for s in SKILLS)
    Evaluation(evaluation.policies, skills, 16, 5, False, dict.fromkeys(skills, 256), {}, renamed).save(
        tmp_path / "evaluation.json"
    )
    (tmp_path / "terrains.png").write_bytes(b"picture")
    assert base64.b64encode(b"picture").decode() in write_page(tmp_path).read_text()


def test_bad_folders(tmp_path, folder):
    with pytest.raises(OutputError, match="should hold an evaluation"):
        write_page(tmp_path)
    make_evaluation().save(tmp_path / "evaluation.json")
    (tmp_path / "student" / "policy").mkdir(parents=True)
    (tmp_path / "student" / "policy" / "manifest.json").write_text("{}")
    with pytest.raises(PolicyFileError, match="student"):
        write_page(tmp_path)
