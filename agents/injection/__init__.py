"""Injection: more inputs for a trained policy, and wider layers, without forgetting what it does.

    sighted = inject(blind, ["terrain"], robot=get_robot("biped"))  # the same actions and values, to float precision
    report = inject_file(Path("experts/incline"), Path("sighted"), ["terrain"], encoder=Encoder("terrain"))

PLAID injects terrain once, between incline and steps (Berseth et al., Progressive Reinforcement Learning with
Distillation for Multi-Skilled Motion Control, 2018). Its paper sets the weights from new features to zero, which keeps
every output (``exact``); its released code to a hundredth of a fresh initialization (``scaled``), which moves the
outputs a little and lets gradients reach an encoder one update earlier. ``random`` keeps the fresh initialization, for
comparison. New features get separate statistics in the normalizer, which begin from nothing.

``operations`` works on policies and optimizer states, ``geometry`` maps old weights into the new networks, ``files``
works on policy files and measures the change of the outputs.
"""

from policykd.lazy import lazy_exports

_HOME = {
    "InjectionReport": "files",
    "MODES": "operations",
    "grow": "operations",
    "inject": "operations",
    "inject_file": "files",
    "inject_optimizer_state": "operations",
    "largest_difference": "operations",
    "on_policy_observations": "files",
    "random_observations": "files",
}
__getattr__ = lazy_exports(__name__, _HOME)
__all__ = [
    "MODES",
    "InjectionReport",
    "grow",
    "inject",
    "inject_file",
    "inject_optimizer_state",
    "largest_difference",
    "on_policy_observations",
    "random_observations",
]
