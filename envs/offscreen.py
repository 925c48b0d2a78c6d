"""Drawing without a display; MuJoCo is imported only where it is drawn with."""

from __future__ import annotations

import os
import sys


def prefer_egl() -> None:
    """Select EGL on a machine without a display, unless another OpenGL backend is set.

    MuJoCo has already read MUJOCO_GL when it was imported, so its choice is changed in the module.
    """
    if not sys.platform.startswith("linux") or os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY"):
        return
    os.environ["MUJOCO_GL"] = "egl"  # for child processes
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    from mujoco import egl
    from mujoco.rendering.classic import gl_context

    gl_context.GLContext = egl.GLContext
