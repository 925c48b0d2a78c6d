"""Mutations of robot models: MJCF and URDF with attributes, elements and numbers changed."""

import xml.etree.ElementTree as Xml

ODD_TEXTS = (
    "",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1",
    "0",
    "1e-320",
    "x",
    "1 2 3 4 5 6 7 8 9 10 11 12",
    "1 1",
    "0 0 0",
    "nan nan nan",
    "1e30 1e30 1e30",
    "-1 -1 -1",
    "true",
    "free",
    "hinge",
    "ball",
    "mesh",
    "hfield",
    "plane",
    "world",
    "99999999999999",
    "a" * 5000,
    "../../x",
    "/dev/zero",
    "\u00fc",
    "%s%n",
    "$(x)",
    "1,2,3",
)
EXTRA = (
    "<include file='robot.xml'/>",
    "<include file='/dev/null'/>",
    "<body/>",
    "<freejoint/>",
    "<joint type='ball'/>",
    "<geom/>",
    "<compiler angle='radian' autolimits='false'/>",
    "<option timestep='0'/>",
    "<size memory='999G'/>",
    "<size nuserdata='-4'/>",
    "<inertial pos='0 0 0' mass='-1' diaginertia='1 1 1'/>",
    "<replicate count='5'><geom size='.1'/></replicate>",
    "<composite/>",
    "<frame euler='nan 0 0'/>",
    "<default class='x'/>",
    "<asset><mesh name='m' vertex='0 0 0'/></asset>",
    "<x/>",
    "<geom type='mesh' mesh='m'/>",
    "<asset><hfield name='h' nrow='1000' ncol='1000' size='1 1 1 1'/></asset>",
    "<worldbody/>",
    "<attach model='x' body='y' prefix='z'/>",
)


def mutate_xml(content, rng):
    root = Xml.fromstring(content)
    for _ in range(int(rng.integers(1, 4))):
        nodes = list(root.iter())
        parents = {child: parent for parent in nodes for child in parent}
        node, other = (nodes[rng.integers(len(nodes))] for _ in range(2))
        kind, names = int(rng.integers(8)), sorted(node.attrib)
        name = names[rng.integers(len(names))] if names else "name"
        if kind == 0 and node in parents:
            parents[node].remove(node)
        elif kind == 1 and node in parents:
            parents[node].insert(0, node)
        elif kind == 2:
            node.attrib.pop(name, None)
        elif kind == 3:
            node.set(f"{name}x", "1")
        elif kind == 4:
            node.tag = other.tag
        elif kind == 5:
            node.append(Xml.fromstring(EXTRA[rng.integers(len(EXTRA))]))
        else:
            node.set(name, ODD_TEXTS[rng.integers(len(ODD_TEXTS))])
        if len(list(root.iter())) > 3000:
            break
    return Xml.tostring(root)
