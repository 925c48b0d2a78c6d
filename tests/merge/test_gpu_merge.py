"""On a CUDA device: a merge collects, labels, fits and validates there, and its student loads anywhere."""

from dataclasses import replace

import pytest
from teacher_samples import TINY, make_teacher

from policykd.agents.files.policy_file import load_policy
from policykd.envs.devices import missing_for_cuda
from policykd.merge import merge_experts

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(missing_for_cuda()), reason="; ".join(missing_for_cuda()))]


@pytest.mark.parametrize("options", [{}, {"noise_model": "dart", "critic": "td", "batched_teachers": True}])
def test_the_student_learns_on_the_device(options, tmp_path):
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)]
    config = replace(TINY, envs=64, updates=200, minibatch=256, device="cuda", **options)
    result = merge_experts(teachers, tmp_path, config)
    assert result.states == 2 * 64 * 24 * config.rounds
    policy = load_policy(result.policy_path).policy
    assert {p.device.type for p in policy.parameters()} == {"cpu"}
    assert min(result.retention.values()) > 0.5
