"""Rendering of one simulation: the robot on its whole track with lights, textures and a tracking camera.

These models are never simulated; a state is shown by copying its generalized positions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType, TracebackType

import mujoco
import numpy as np

from policykd.envs.offscreen import prefer_egl
from policykd.envs.robots import ModelRobot, PlanarRobot, Robot
from policykd.envs.robots.mjcf import build_spec
from policykd.envs.terrains import Maps, Tracks
from policykd.envs.terrains.tracks import BASE_THICKNESS, HALF_DEPTH
from policykd.errors import ContractError, MissingDependencyError, UnknownNameError, check_range

CAMERA = "follow"
"""Name of the tracking camera."""
GROUND_MESH = "track"
"""Name of the ground's geom."""
MAX_PIXELS = 3840
"""Largest width and height of an image."""

_TILE = 1.0  # edge of a square of the ground's pattern, m; the pattern makes motion visible
_LEFT_RIGHT = 0.1  # offset of legs and arms from the plane, m, so that an image shows both sides
_EYE = (0.6, -4.6, 0.9)  # camera position relative to the robot's center of mass, m
_WIDER = 2.5  # how much wider the ground is under robots in space, which leave the middle
_CLOSER = 1.3  # distance of the camera from robots in space, relative to their size
_RIGHT, _LEFT, _MIDDLE = [0.85, 0.47, 0.25, 1.0], [0.25, 0.47, 0.75, 1.0], [0.88, 0.84, 0.76, 1.0]
_LOOK = np.array([0.0, 1.0, -0.19])  # direction of view
_MAP_EYE, _MAP_LOOK = (0.5, -3.3, 2.2), np.array([0.0, 1.0, -0.62])  # from above, so that a map shows its extent
VIEWS: Mapping[str, tuple[tuple[float, float, float], np.ndarray]] = MappingProxyType(
    {
        "side": (_EYE, _LOOK),
        "behind": ((-4.2, -1.1, 1.3), np.array([1.0, 0.26, -0.26])),
        "front": ((4.4, -1.2, 1.0), np.array([-1.0, 0.27, -0.2])),
        "above": ((0.8, -1.6, 5.0), np.array([0.0, 0.32, -1.0])),
    }
)
"""Positions of the camera relative to the robot's center of mass, m for a robot of the biped's size, and directions."""


def build_scene(robot: Robot, tracks_row: Tracks | Maps, view: str = "side") -> mujoco.MjModel:
    """Return a model for rendering.

    The ground is one mesh of all segments, cut open toward the camera, so that gaps, steps and slopes show in profile.
    With a box per segment, as in the physics, the thin boxes of slopes would seem to float. Maps are drawn as their
    boxes, from higher above.

    Args:
        robot: the robot.
        tracks_row: one track or map, as returned by :meth:`BatchedEnv.track`.
        view: one of :data:`VIEWS`; from the side, maps are seen from higher above.

    Returns:
        A model with the same generalized positions as the simulated one, a camera named ``follow`` and no collisions.

    Raises:
        ContractError: for any number of tracks but one.
        UnknownNameError: for an unknown view.
    """
    if view not in VIEWS:
        raise UnknownNameError("camera", view, VIEWS)
    rows = len(tracks_row.row) if isinstance(tracks_row, Maps) else len(tracks_row.left)
    if rows != 1:
        raise ContractError(f"a scene shows one track, got {rows}; pass one row, env.track(i)")
    spec = build_spec(robot, boxes=0)
    scale = robot.ground_scale
    # Scale of clipping planes and shadows, m; with the track's own length they would be blurred.
    spec.stat.extent = 4.0 * scale
    vis = spec.visual
    vis.quality.shadowsize = 2048
    vis.headlight.ambient, vis.headlight.diffuse = [0.35, 0.35, 0.35], [0.25, 0.25, 0.25]
    vis.headlight.specular = [0.0, 0.0, 0.0]
    eye, look = (_MAP_EYE, _MAP_LOOK) if isinstance(tracks_row, Maps) and view == "side" else VIEWS[view]
    size = scale * (_CLOSER if robot.spatial else 1.0)
    _add_camera_and_light(spec.worldbody.first_body(), [size * part for part in eye], look)
    if isinstance(robot, ModelRobot):
        return spec.compile()  # its file has ground, textures and colors
    _add_textures(spec)
    if isinstance(tracks_row, Maps):
        _add_map(spec, tracks_row)
    else:
        _add_ground(spec, tracks_row, HALF_DEPTH * scale * (_WIDER if robot.spatial else 1.0))
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    if isinstance(robot, PlanarRobot):
        _spread_limbs(spec, robot)
    else:
        _color_sides(spec)
    return spec.compile()


def _spread_limbs(spec: mujoco.MjSpec, robot: PlanarRobot) -> None:
    for link in robot.links:
        side = {"right": -1.0, "left": 1.0}.get(link.name.split("_")[0], 0.0)
        geom = spec.geom(link.name)
        geom.fromto[1], geom.fromto[4] = side * _LEFT_RIGHT, side * _LEFT_RIGHT


def _color_sides(spec: mujoco.MjSpec) -> None:
    """Color the parts of a robot in space by their side in the zero pose."""
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for geom in spec.geoms:
        if not geom.name.startswith(GROUND_MESH):
            y = data.geom(geom.name).xpos[1]
            geom.rgba = _MIDDLE if abs(y) < 1e-3 else _RIGHT if y < 0 else _LEFT


def _add_textures(spec: mujoco.MjSpec) -> None:
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.55, 0.71, 0.88], rgb2=[0.95, 0.96, 0.98], width=256, height=256 * 6,
    )  # fmt: skip
    spec.add_texture(
        name="tiles", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        mark=mujoco.mjtMark.mjMARK_EDGE, rgb1=[0.44, 0.49, 0.44], rgb2=[0.52, 0.57, 0.51],
        markrgb=[0.34, 0.38, 0.34], width=512, height=512,
    )  # fmt: skip
    material = spec.add_material(name="tiles", specular=0.0, shininess=0.0)
    material.textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = "tiles"
    # On boxes the pattern is repeated in meters, whatever the size of a face.
    material = spec.add_material(name="boxes", specular=0.0, shininess=0.0, texuniform=True, texrepeat=[1.5, 1.5])
    material.textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = "tiles"


def _add_camera_and_light(root: mujoco.MjsBody, eye: list[float], look: np.ndarray) -> None:
    forward = look / np.linalg.norm(look)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(-forward, right), -forward], axis=1)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, frame.ravel())
    root.add_camera(name=CAMERA, mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM, pos=eye, quat=quat, fovy=34.0)
    root.add_light(
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM, type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[-1.0, -1.5, 4.0], dir=[0.25, 0.35, -1.0], diffuse=[0.65, 0.63, 0.6], specular=[0.1, 0.1, 0.1],
    )  # fmt: skip


def _add_ground(spec: mujoco.MjSpec, track: Tracks, half_depth: float) -> None:
    quads, normals = _surface(track, half_depth)
    corners = quads.reshape(-1, 3)
    across = np.where(np.abs(normals[:, 1]) > 0.5, 2, 1)  # front faces carry the pattern along z, the others along y
    depth = np.take_along_axis(quads, across[:, None, None].repeat(4, axis=1), axis=2).ravel()
    index = np.arange(len(corners)).reshape(-1, 4)
    spec.add_mesh(
        name=GROUND_MESH,
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,  # the mesh is open, so it has no volume
        uservert=corners.ravel(),
        usernormal=normals.repeat(4, axis=0).ravel(),
        usertexcoord=np.stack([corners[:, 0], depth], axis=1).ravel() / (2 * _TILE),  # a texture holds 2 x 2 tiles
        userface=np.concatenate([index[:, [0, 1, 2]], index[:, [0, 2, 3]]]).ravel(),
    )
    spec.worldbody.add_geom(
        name=GROUND_MESH, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=GROUND_MESH, material="tiles",
        contype=0, conaffinity=0,
    )  # fmt: skip


def _add_map(spec: mujoco.MjSpec, ground: Maps) -> None:
    """Add the boxes of a map, and its floor."""
    row = int(ground.row[0])
    boxes, floor = ground.boxes[row, : int(ground.used[row])].cpu().numpy(), float(ground.floor[row])
    end = float(boxes[:, 0].max(initial=0.0)) + 10.0
    floor_box = [end / 2 - 5.0, 0.0, floor - 0.05, end / 2 + 5.0, 10.0, 0.05, 1.0, 0.0, 1.0, 0.0, floor]
    for k, box in enumerate([*boxes.tolist(), floor_box]):
        box[2] -= k % 16 * 1e-4  # faces in one plane would flicker
        yaw, pitch = np.arctan2(box[7], box[6]) / 2, np.arctan2(box[9], box[8]) / 2
        turn = [np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.sin(pitch), -np.cos(yaw) * np.sin(pitch),
                np.sin(yaw) * np.cos(pitch)]  # fmt: skip
        spec.worldbody.add_geom(
            name=f"{GROUND_MESH}{k}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=box[:3], quat=turn, size=box[3:6],
            material="boxes", contype=0, conaffinity=0,
        )  # fmt: skip


def _surface(track: Tracks, half_depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Return corners (q, 4, 3), counter-clockwise from outside, and normals (q, 3) of the ground's visible faces."""
    edges, left, grade = (t[0].cpu().numpy() for t in (track.edges, track.left, track.grade))
    real = np.diff(edges) > 0
    x0, x1, z0 = edges[:-1][real], edges[1:][real], left[real]
    z1 = z0 + grade[real] * (x1 - x0)
    base = np.full_like(x0, min(z0.min(), z1.min()) - BASE_THICKNESS)
    near, far, nothing = np.full_like(x0, -half_depth), np.full_like(x0, half_depth), np.zeros_like(x0)
    top = _quads((x0, near, z0), (x1, near, z1), (x1, far, z1), (x0, far, z0))
    top_normal = np.stack([-grade[real], nothing, nothing + 1], axis=1)
    front = _quads((x0, near, base), (x1, near, base), (x1, near, z1), (x0, near, z0))
    front_normal = np.stack([nothing, nothing - 1, nothing], axis=1)
    x, below, above = x1[:-1], z1[:-1], z0[1:]
    up = above > below  # the face of a step up looks backward, that of a step down forward
    near, far = np.where(up, half_depth, -half_depth), np.where(up, -half_depth, half_depth)
    low, high = np.minimum(below, above), np.maximum(below, above)
    wall = _quads((x, near, low), (x, far, low), (x, far, high), (x, near, high))
    wall_normal = np.stack([np.where(up, -1.0, 1.0), 0 * x, 0 * x], axis=1)
    stands = high - low > 1e-9
    normals = np.concatenate([top_normal, front_normal, wall_normal[stands]])
    return (
        np.concatenate([top, front, wall[stands]]),
        normals / np.linalg.norm(normals, axis=1, keepdims=True),
    )


def _quads(*corners: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    return np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)


_ARROW_WIDTH = 0.006  # of an arrow, as a share of the scene's extent
_ARROW = np.array([0.85, 0.05, 0.6, 1.0], np.float32)  # color of contact forces


class SceneRenderer:
    """Off-screen renderer of one scene. Use it as a context manager, or call :meth:`close`.

    Args:
        model: model from :func:`build_scene`; its off-screen buffer gets the size of an image.
        width: width of an image, pixels.
        height: height of an image, pixels.

    Raises:
        ConfigError: for a size outside [1, MAX_PIXELS].
        MissingDependencyError: naming the Debian packages, if no OpenGL library can be used.
    """

    def __init__(self, model: mujoco.MjModel, width: int = 640, height: int = 360) -> None:
        check_range("width", width, 1, MAX_PIXELS, "pixels")
        check_range("height", height, 1, MAX_PIXELS, "pixels")
        self._model, self._data = model, mujoco.MjData(model)
        # OpenGL reserves the whole off-screen buffer, four samples per pixel, however small the images are.
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        try:
            prefer_egl()
            self._renderer = mujoco.Renderer(model, height, width)
        except (ImportError, AttributeError, ctypes.ArgumentError, OSError, RuntimeError, mujoco.FatalError) as error:
            # PyOpenGL raises AttributeError without libEGL and ArgumentError without libOpenGL, MuJoCo RuntimeError
            # without a driver.
            raise MissingDependencyError(
                f"cannot render without a display: no OpenGL library found ({error}); "
                "on Debian: apt-get install libegl1 libopengl0 libgl1-mesa-dri, then set MUJOCO_GL=egl"
            ) from error

    def frame(self, qpos: np.ndarray, arrows: np.ndarray | None = None) -> np.ndarray:
        """Return the (height, width, 3) uint8 image of a state.

        Args:
            qpos: (nq,) generalized positions.
            arrows: (m, 6) where arrows begin, and how far they lead from there, m.
        """
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, camera=CAMERA)
        for arrow in () if arrows is None else arrows:
            self._add_arrow(arrow[:3], arrow[:3] + arrow[3:])
        return self._renderer.render()

    def _add_arrow(self, begin: np.ndarray, end: np.ndarray) -> None:
        scene = self._renderer.scene
        if scene.ngeom >= scene.maxgeom:
            return
        geom, arrow = scene.geoms[scene.ngeom], mujoco.mjtGeom.mjGEOM_ARROW
        mujoco.mjv_initGeom(geom, arrow, np.zeros(3), np.zeros(3), np.eye(3).ravel(), _ARROW)
        mujoco.mjv_connector(geom, arrow, self._model.stat.extent * _ARROW_WIDTH, begin, end)
        scene.ngeom += 1

    def close(self) -> None:
        """Release the OpenGL context."""
        self._renderer.close()

    def __enter__(self) -> SceneRenderer:
        """Return the renderer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the OpenGL context."""
        self.close()
