"""Drawing without a display; MuJoCo is imported only where it is drawn with."""

from __future__ import annotations

import os
import sys


def prefer_egl() -> None:
    """Select EGL on a machine without a display, unless another OpenGL backend is set.

    MuJoCo has already read MUJOCO_GL when it was imported, so its choice is changed in the module.

    Raises:
        ImportError, AttributeError, OSError, ctypes.ArgumentError: as PyOpenGL does where a library is missing. The
            environment variables are then as before.
    """
    if not sys.platform.startswith("linux") or os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY"):
        return
    before = os.environ.get("PYOPENGL_PLATFORM")
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    try:
        from mujoco import egl
        from mujoco.rendering.classic import gl_context
    except BaseException:  # child processes could not import MuJoCo with a choice that fails
        if before is None:
            del os.environ["PYOPENGL_PLATFORM"]
        raise
    os.environ["MUJOCO_GL"] = "egl"  # for child processes
    gl_context.GLContext = egl.GLContext
