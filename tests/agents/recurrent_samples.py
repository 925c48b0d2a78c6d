"""Recurrent policies for tests: torch's own modules, as other libraries write them to files."""

import functools

import torch
from torch import nn


class Deployed(nn.Module):
    """A deployed recurrent policy: a memory, then dense layers."""

    def __init__(self, memory, actor):
        super().__init__()
        self.memory, self.actor = memory, actor
        self.register_buffer("hidden_state", torch.zeros(1, 1, memory.hidden_size))

    def forward(self, x):
        out, _ = self.memory(x[None])
        return self.actor(out.squeeze(0))


def random_module(kind, inputs, actions, hidden=8, seed=3):
    """Return a module whose actions depend strongly on what came before."""
    torch.manual_seed(seed)
    memory, actor = kind(inputs, hidden), nn.Sequential(nn.Linear(hidden, 16), nn.ELU(), nn.Linear(16, actions))
    with torch.no_grad():
        for weight in (memory.weight_hh_l0, memory.weight_ih_l0, *actor.parameters()):
            weight.mul_(2.0)
    return Deployed(memory, actor)


@torch.no_grad()
def steering_module(goal, gain=3.0, hidden=4):
    """Return a GRU whose action is about ``gain * (goal - x)``, x an exponential mean of the first of two features.

    A candidate of tanh(0.1 x) is linear enough; the update gate keeps a third of the old state.
    """
    torch.manual_seed(0)
    memory = nn.GRU(2, hidden)
    for parameter in memory.parameters():
        parameter.zero_()
    memory.bias_ih_l0[hidden : 2 * hidden] = torch.tensor(1 / 3).logit()
    memory.weight_ih_l0[2 * hidden, 0] = 0.1
    output = nn.Linear(hidden, 1)
    output.weight.zero_()
    output.weight[0, 0] = -10.0 * gain
    output.bias.fill_(gain * goal)
    return Deployed(memory, nn.Sequential(output))


def save_script(module, path):
    """Write a module as a TorchScript archive, and return its path."""
    scripts, shape = _scripts(), repr(module)
    if shape not in scripts:
        scripts[shape] = torch.jit.script(module)
    scripts[shape].load_state_dict(module.state_dict())
    scripts[shape].save(str(path))
    return path


@functools.cache
def _scripts():
    """Return the modules scripted so far, by their shape: scripting one takes torch half a second."""
    return {}


@torch.no_grad()
def outputs_of(module, rows, ended):
    """Return (steps, n, actions) the outputs of torch's own modules, run afresh over every episode.

    Args:
        module: the deployed policy.
        rows: (steps, n, inputs) observations.
        ended: (steps, n) whether an episode ended with that step.
    """
    found = torch.zeros(*rows.shape[:2], module.actor[-1].out_features)
    for i in range(rows.shape[1]):
        start = 0
        for last in [*torch.nonzero(ended[:, i]).flatten().tolist(), len(rows) - 1]:
            if start <= last:
                found[start : last + 1, i] = module.actor(module.memory(rows[start : last + 1, i, None])[0][:, 0])
            start = last + 1
    return found
