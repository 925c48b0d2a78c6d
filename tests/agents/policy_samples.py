import hashlib
import json
import zipfile

import pytest
import torch
from safetensors.torch import save

from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Architecture, Policy
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill
from policykd.errors import PolicyFileError

ROBOT = get_robot("biped")
DEEP = b'{"format_version": 1, "metrics": ' + b"[" * 900 + b"]" * 900 + b"}"
SKILL = get_skill("biped/steps")


def make_policy(seed=0, groups=None):
    groups = SKILL.group_sizes if groups is None else groups
    policy = Policy(groups, 11, Architecture((16, 8), (12,), "tanh", 0.3), generator_seed=seed)
    generator = torch.Generator().manual_seed(seed)
    policy.normalizer.update(torch.randn(50, policy.observation_size, generator=generator) * 3 + 1)
    return policy


def store(path, policy=None, **options):
    provenance = {"robot": ROBOT, "skills": ["biped/steps"], "operation": "train", "seed": 7, **options}
    return save_policy(path, policy or make_policy(), **provenance)


def forge(folder, tensors=None, weights=None, **changes):
    """Rewrite a policy folder as a stranger would who knows the hashes."""
    if tensors is not None:
        weights = save(tensors)
    if weights is not None:
        (folder / "weights.safetensors").write_bytes(weights)
        changes["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    content = {**json.loads((folder / "manifest.json").read_text()), **changes}
    content.pop("content_sha256")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["content_sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(content))


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def refused(path, *words):
    with pytest.raises(PolicyFileError) as caught:
        load_policy(path)
    reason = str(caught.value).removeprefix(f"cannot load {path}")  # a test's name is part of its path
    for word in words:
        assert word in reason
