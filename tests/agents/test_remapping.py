"""Remapping by name: a policy acts alike on the same robot whose joints stand in another order."""

from dataclasses import replace

import pytest
import torch

from policykd.agents.acting import Acting
from policykd.agents.architecture import Architecture, Encoder, Latent, Memory, Mixture
from policykd.agents.files.policy_file import check_fits, load_policy, save_policy
from policykd.agents.recurrent_policy import make_policy
from policykd.agents.remapping import find_orders, remap_file, reordered
from policykd.cli.main import main
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.observations import GROUPS, ObservationGroup
from policykd.envs.robots import ROBOTS, get_robot
from policykd.envs.robots.same_body import check_same_body
from policykd.envs.robots.solids import SolidTable
from policykd.envs.skill_records import records_of
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import ConfigError, ContractError

QUADRUPED = get_robot("quadruped")
DOG = replace(QUADRUPED, name="dog")
LEGS = ("RL", "FL", "RR", "FR")
TRUNK, BODIES = QUADRUPED.source.solids[0], QUADRUPED.source.solids[1:]
OTHER = replace(
    QUADRUPED, name="other-dog", source=SolidTable((TRUNK, *(b for leg in LEGS for b in BODIES if b.name[:2] == leg)))
)
ALL = ("imu", "joints", "last_action", "gait", "scan", "joints:3", "command")
SKILL = replace(get_skill("quadruped/flat"), robot=DOG, groups=ALL)
SMALL = {"hidden": (16, 8), "critic_hidden": (12,)}
SHAPES = {
    "mlp": Architecture(**SMALL),
    "linear": Architecture(hidden=(), critic_hidden=()),
    "convolutions": Architecture(**SMALL, encoders=(Encoder("scan", (3,), (4,), (2,), 6),)),
    "encoder": Architecture(**SMALL, encoders=(Encoder("joints", (), (), (), 6, "every"), Encoder("scan", dense=5))),
    "moe": Architecture(**SMALL, mixture=Mixture(3, 7)),
    "gru": Architecture(**SMALL, memory=Memory("gru", 9, dense=11)),
    "lstm": Architecture(**SMALL, memory=Memory("lstm", 9)),
    "latent": Architecture(**SMALL, latent=Latent(4, (10,), ("joints:3",), ("gait", "last_action"))),
}


@pytest.fixture(autouse=True)
def fresh():
    with ROBOTS.scope():
        yield


def random_policy(shape, skill=SKILL, symmetric=False, apart=False):
    """Return a policy whose actions, statistics and noise differ in every column."""
    draws = torch.Generator().manual_seed(1)
    symmetry = mirror_symmetry(skill.groups, skill.robot) if symmetric else None
    policy = make_policy(skill.group_sizes, skill.robot.num_actions, shape, 0, symmetry)
    if apart:
        policy.normalizer.count_apart()
        policy.normalizer.count += torch.arange(policy.observation_size)
    with torch.no_grad():
        for value in policy.parameters():
            value.copy_(0.4 * torch.randn(value.shape, generator=draws))
        policy.normalizer.mean += torch.randn(policy.observation_size, generator=draws)
        policy.normalizer.var *= 0.5 + torch.rand(policy.observation_size, generator=draws)
    return policy.eval()


def by_name(values, names):
    """Return a mapping of names to columns, for names that are all different."""
    assert len(set(names)) == len(names)
    return dict(zip(names, values.unbind(-1), strict=True))


def feature_names(skill):
    """Name every feature of the test's groups in words, without the package's own tables."""
    joints, feet = [s.joint for s in skill.robot.servos], skill.robot.body.foot_names
    both = [f"{what} {joint}" for what in ("angle", "rate") for joint in joints]
    found = {
        "joints": both,
        "last_action": [f"last {joint}" for joint in joints],
        "gait": [*(f"sine {foot}" for foot in feet), *(f"cosine {foot}" for foot in feet), "lowering"],
        "joints:3": [f"{name} {k} steps ago" for k in range(3) for name in both],
    }
    sizes = skill.group_sizes
    return [n for g in skill.groups for n in found.get(g, [f"{g} {i}" for i in range(sizes[g])])]


def actions_along(policy, sequences):
    acting = Acting(policy)
    with torch.no_grad():
        return torch.stack([acting(rows) for rows in sequences])


def test_the_robot_has_the_joints_in_the_order_of_its_legs():
    assert [servo.joint[:2] for servo in OTHER.servos[::3]] == list(LEGS)
    assert [foot[:2] for foot in OTHER.body.foot_names] == list(LEGS)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_actions_and_values_are_equal_by_name(name, apart):
    policy, there = random_policy(SHAPES[name], apart=apart), replace(SKILL, robot=OTHER)
    after = reordered(policy, find_orders(ALL, DOG, OTHER))
    rows = torch.randn(4, 6, policy.observation_size, generator=torch.Generator().manual_seed(2))
    named = by_name(rows, feature_names(SKILL))
    moved = torch.stack([named[feature] for feature in feature_names(there)], dim=-1)
    assert not torch.equal(moved, rows)
    mine = by_name(actions_along(policy, rows), [s.joint for s in DOG.servos])
    theirs = by_name(actions_along(after, moved), [s.joint for s in OTHER.servos])
    for joint, action in mine.items():
        torch.testing.assert_close(theirs[joint], action, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after.value(moved[0]), policy.value(rows[0]), rtol=1e-5, atol=1e-5)
    noises = (by_name(p.log_std, [s.joint for s in r.servos]) for p, r in ((policy, DOG), (after, OTHER)))
    assert next(noises) == next(noises)
    if apart:
        counts = by_name(after.normalizer.count, feature_names(there))
        assert counts == by_name(policy.normalizer.count, feature_names(SKILL))


def test_a_symmetric_policy_keeps_the_pair_that_leads():
    groups = ("imu", "joints", "last_action", "scan")
    here = replace(SKILL, groups=groups)
    policy = random_policy(SHAPES["mlp"], here, symmetric=True)
    after = reordered(policy, find_orders(groups, DOG, OTHER))
    own = mirror_symmetry(groups, OTHER)
    assert after.symmetry.exchanges_like(own)
    assert after.symmetry.lead != own.lead
    names = feature_names(replace(here, robot=OTHER))
    assert [names[i] for i in after.symmetry.lead] == [feature_names(here)[i] for i in policy.symmetry.lead]
    rows = torch.randn(20, policy.observation_size, generator=torch.Generator().manual_seed(3))
    moved = torch.stack([by_name(rows, feature_names(here))[n] for n in names], dim=-1)
    mine, theirs = (by_name(p(x), [s.joint for s in r.servos]) for p, x, r in
                    ((policy, rows, DOG), (after, moved, OTHER)))  # fmt: skip
    for joint, action in mine.items():
        torch.testing.assert_close(theirs[joint], action, rtol=1e-5, atol=1e-5)


def saved(path, policy, skill):
    save_policy(path, policy, robot=skill.robot, skills=[skill.id], operation="train", seed=0,
                skill_records=records_of([skill]))  # fmt: skip
    return path


def test_a_file_is_remapped_and_moves_the_robot_alike(tmp_path):
    here = replace(SKILL, groups=("imu", "joints", "last_action", "gait", "scan"))
    there = replace(here, robot=OTHER)
    path = saved(tmp_path / "policy", random_policy(SHAPES["gru"], here), here)
    with pytest.raises(
        ContractError,
        match=r"other-dog has the same joints in another order.*policykd remap POLICY --robot ROBOT --out NEW",
    ):
        check_fits(load_policy(path).manifest, there)
    report = remap_file(path, OTHER, tmp_path / "new")
    policy, after = load_policy(path), load_policy(tmp_path / "new")
    assert report.largest_difference == after.manifest.metrics["largest_difference"] <= 1e-5
    assert after.manifest.operation == "remap"
    assert [parent.weights_sha256 for parent in after.manifest.parents] == [policy.manifest.weights_sha256]
    check_fits(after.manifest, after.manifest.skill("other-dog/flat"))
    with pytest.raises(ContractError):
        check_fits(after.manifest, here)
    config = EnvConfig(tracks=4, joint_noise=0.0)
    envs = [BatchedEnv([skill], 4, seed=5, config=config, threads=1) for skill in (here, there)]
    acting = [Acting(policy.policy), Acting(after.policy)]
    flat = [torch.cat(list(env.reset().values()), dim=-1) for env in envs]
    orders = [[s.joint for s in r.servos] for r in (DOG, OTHER)]
    for _ in range(8):
        with torch.no_grad():
            actions = [one(rows) for one, rows in zip(acting, flat, strict=True)]
        mine, theirs = (by_name(a, names) for a, names in zip(actions, orders, strict=True))
        for joint, action in mine.items():
            torch.testing.assert_close(theirs[joint], action, rtol=2e-3, atol=2e-3)
        steps = [env.step(a) for env, a in zip(envs, actions, strict=True)]
        torch.testing.assert_close(steps[0].reward, steps[1].reward, rtol=1e-3, atol=1e-3)
        flat = [step.flat for step in steps]
    assert max(float(a.abs().max()) for a in mine.values()) > 0.1


def test_a_planar_robot_and_the_command(tmp_path, capsys, monkeypatch):
    biped = get_robot("biped")
    left = [link for link in biped.links if link.name.startswith("left_")]
    other = replace(biped, name="swapped", links=tuple([link for link in biped.links if link not in left] + left))
    (tmp_path / "my_swapped_robots.py").write_text("SWAPPED = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_swapped_robots

    my_swapped_robots.SWAPPED = other
    here = get_skill("biped/flat")
    path = saved(tmp_path / "policy", random_policy(SHAPES["mlp"], here, symmetric=True), here)
    command = ["remap", str(path), "--robot", "my_swapped_robots:SWAPPED", "--out", str(tmp_path / "new")]
    assert main(command) == 0
    assert "reordered actions and proprio: largest difference" in capsys.readouterr().out
    after = load_policy(tmp_path / "new")
    joints = [action.joint for action in after.manifest.actions]
    assert joints == [servo.joint for servo in other.servos]
    assert joints != [servo.joint for servo in biped.servos]
    rows = torch.randn(9, 99, generator=torch.Generator().manual_seed(0))

    def named(robot):
        links = [link.name for link in robot.links]
        body = [f"{what} {link} {axis}" for what in ("place", "speed") for link in links for axis in "xz"]
        return ["height", *body, *(f"terrain {i}" for i in range(50))]

    moved = torch.stack([by_name(rows, named(biped))[name] for name in named(other)], dim=-1)
    mine = by_name(load_policy(path).policy(rows), [servo.joint for servo in biped.servos])
    theirs = by_name(after.policy(moved), joints)
    for joint, action in mine.items():
        torch.testing.assert_close(theirs[joint], action, rtol=1e-5, atol=1e-5)
    assert main(command) == 2
    assert "exists; choose another --out" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="same order; there is nothing to remap"):
        remap_file(path, replace(biped, name="same"), tmp_path / "same")


def test_another_body_is_refused_by_its_part(tmp_path):
    heavier = [replace(b, mass=0.2) if b.name == "RL_calf" else b for b in OTHER.source.solids]
    turned = [replace(b, axis=(0.0, -1.0, 0.0)) if b.name == "RL_calf" else b for b in OTHER.source.solids]
    fewer = [b for b in OTHER.source.solids if b.name != "RL_calf"]
    for solids, text in (
        (heavier, "mass of body RL_calf is 0.195862 in dog and 0.2 in other-dog"),
        (turned, r"axis of joint RL_calf_joint is \[0.0, 1.0, 0.0\] in dog"),
        (fewer, "only dog has body RL_calf"),
    ):
        with pytest.raises(ContractError, match=text):
            check_same_body(DOG, replace(OTHER, source=SolidTable(tuple(solids))))
    with pytest.raises(ContractError, match=r"friction of robot is 0.8 in dog and 0.5 in other-dog"):
        check_same_body(DOG, replace(OTHER, friction=0.5))
    with pytest.raises(ContractError, match=r"stiffness of servo FR_hip_joint is 35.0 in dog and 30.0 in other-dog"):
        check_same_body(DOG, replace(OTHER, stiffness=((".*", 30.0),)))
    with pytest.raises(ContractError, match="cannot be compared by the names of their parts"):
        check_same_body(DOG, get_robot("ant"))
    check_same_body(DOG, OTHER)
    other = replace(OTHER, action_scale=((".*", 0.5),))
    with pytest.raises(ContractError, match=r"scale of servo FR_hip_joint is 0.6 in dog and 0.5 in other-dog"):
        check_same_body(DOG, other)


def test_what_cannot_be_reordered_is_refused_by_name():
    orders = find_orders(ALL, DOG, OTHER)
    convolved = Architecture(**SMALL, encoders=(Encoder("joints", (3,), (4,), (1,), 6),))
    with pytest.raises(ContractError, match="convolutions over observation group joints"):
        reordered(random_policy(convolved), orders)
    stacked = Architecture(hidden=(8,), critic_hidden=(8,), memory=Memory("frame-stack", 2))
    with pytest.raises(ContractError, match="memory of kind frame-stack"):
        reordered(random_policy(stacked), orders)
    with GROUPS.scope():
        GROUPS.register("mine", ObservationGroup("mine", lambda robot: 2, "rad", lambda state, around: state))
        with pytest.raises(ContractError, match="observation group mine does not say which joint"):
            find_orders(("imu", "mine"), DOG, OTHER)
    with pytest.raises(ContractError, match="the joints of dog and humanoid cannot be matched by name: '"):
        find_orders(("imu",), DOG, get_robot("humanoid"))


def test_the_parts_of_every_group_fit_its_size():
    for name, group in GROUPS.items():
        for robot in (DOG, get_robot("biped"), get_robot("humanoid")):
            if group.fits(robot):
                assert len(group.parts(robot)) == group.size(robot), name


def test_a_careless_change_of_the_weights_is_noticed(tmp_path, monkeypatch):
    from policykd.agents.remapping import files

    def careless(policy, orders):
        after = reordered(policy, orders)
        after.actor[-1].bias.data[0] += 0.01
        return after

    monkeypatch.setattr(files, "reordered", careless)
    here = replace(SKILL, groups=("imu", "joints"))
    path = saved(tmp_path / "policy", random_policy(SHAPES["mlp"], here), here)
    with pytest.raises(ContractError, match=r"remapping changed the actions by 0.01"):
        remap_file(path, OTHER, tmp_path / "new")
    assert not (tmp_path / "new").exists()
