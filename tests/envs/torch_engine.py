"""An engine in torch alone, with masks: not physics, but every call that an environment makes, as on a CUDA device.

Joints move to their targets, the base slides along x with them and sinks with its pitch, so that episodes end by
falls and by time. What it does can be recorded, which the CPU engine's compiled loops cannot.
"""

import torch

from policykd.envs.physics.protocol import Engine, MaskEngine


class TorchEngine(Engine, MaskEngine):
    def __init__(self, model, num_sims, boxes, decimation):
        self._n, self._base = num_sims, model.nq - model.nu
        self._fields = {
            "qpos": torch.zeros(num_sims, model.nq), "qvel": torch.zeros(num_sims, model.nv),
            "actuator_force": torch.zeros(num_sims, model.nu), "geom_xpos": torch.zeros(num_sims, model.ngeom, 3),
        }  # fmt: skip
        self._targets, self._failed = torch.zeros(num_sims, model.nu), torch.zeros(num_sims, dtype=torch.bool)
        self.boxes = {"center": torch.zeros(num_sims, boxes, 3), "half": torch.zeros(num_sims, boxes, 3)}

    num_sims = property(lambda self: self._n)
    device = torch.device("cpu")
    failed = property(lambda self: self._failed)

    def field(self, name):
        return self._fields[name]

    def aim(self, targets):
        self._targets.copy_(targets)

    def advance(self):
        qpos, qvel, force, geoms = self._fields.values()
        moved = 0.5 * (self._targets - qpos[:, self._base :])
        qvel[:, -moved.shape[1] :] = 30.0 * moved
        qpos[:, self._base :] += moved
        qvel[:, 0] = 4.0 * moved.mean(dim=1)
        qpos[:, 0] += 0.1 + qvel[:, 0] / 30.0
        up = 1 if self._base == 3 else 2
        qpos[:, up] -= 0.1 * moved.abs().amax(dim=1)
        force.copy_(moved)
        geoms.copy_(geoms * 0.5 + qpos[:, :1, None])
        self._failed.copy_(moved[:, 0] > 0.45)

    def step(self, targets):
        self.aim(targets)
        self.advance()
        return self._failed.clone()

    def reset(self, ids, qpos, qvel):
        self._fields["qpos"][ids], self._fields["qvel"][ids] = qpos.float(), qvel.float()

    def reset_where(self, mask, qpos, qvel):
        for name, value in (("qpos", qpos), ("qvel", qvel)):
            self._put(mask, value, self._fields[name])

    def set_ground(self, ids, pose, half, lane=None):
        self.boxes["center"][ids] = pose

    def set_ground_where(self, mask, pose, half, lane=None):
        self._put(mask, pose, self.boxes["center"])

    def set_boxes(self, ids, center, turn, half):
        self.boxes["center"][ids], self.boxes["half"][ids] = center, half

    def set_boxes_where(self, mask, center, turn, half):
        self._put(mask, center, self.boxes["center"])
        self._put(mask, half, self.boxes["half"])

    @staticmethod
    def _put(mask, value, target):
        rows = mask.view(-1, *(1,) * (target.ndim - 1))
        target.copy_(torch.where(rows, value.to(target), target))

    def snapshot(self):
        kept = {**self._fields, **self.boxes, "failed": self._failed}
        return {name: value.clone() for name, value in kept.items()}

    def restore(self, snapshot):
        for name, value in {**self._fields, **self.boxes, "failed": self._failed}.items():
            value.copy_(snapshot[name])

    def check_overflow(self):
        pass
