"""Time of one action of a policy on this machine, as a robot computes it: the C header, one observation at a time."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from policykd.agents.export.c_writer import c_header
from policykd.agents.export.program import policy_program
from policykd.agents.export.runtime import c_runtime
from policykd.agents.files.manifest import Action
from policykd.agents.latent_policy import LatentPolicy, without_encoder
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy

_ACTIONS, _REPETITIONS = 1000, 11


def measure_latency(policy: Policy, actions: tuple[Action, ...]) -> float:
    """Return the time of one action in the compiled C header, us: the median of 11 repetitions of 1000 actions.

    The time does not depend on the weights. It is processor time of one thread, so that other work on the machine
    hardly counts.

    Args:
        policy: the policy.
        actions: mapping of its actions.

    Raises:
        ConfigError: without a C compiler.
        ContractError: for a policy that has no exported form.
    """
    policy = deployed(policy)
    draws = np.random.default_rng(0)
    inputs = [draws.normal(size=(_ACTIONS, policy.observation_size)).astype(np.float32)]
    if isinstance(policy, RecurrentPolicy):
        inputs.append(np.zeros((_ACTIONS, policy.state_size), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder) / "policy.h"
        header.write_text(c_header(policy_program(policy, actions), "policy", "a measurement"))
        run = c_runtime(header, policy.groups, per_group=False)
        times = []
        for _ in range(_REPETITIONS):
            began = time.process_time()
            run(*inputs)
            times.append(time.process_time() - began)
    return 1e6 * statistics.median(times) / _ACTIONS


def deployed(policy: Policy) -> Policy:
    """Return the policy as a robot runs it: one with a latent leaves its encoder behind."""
    return without_encoder(policy) if isinstance(policy, LatentPolicy) else policy
