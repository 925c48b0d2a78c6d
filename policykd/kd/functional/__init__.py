"""The losses as plain functions of tensors: student first, teacher second, options by keyword.

Every function makes one value per sample, ``(B,)``, and reduces it by `reduction`. Losses that compare samples of a
batch with one another (SP, CC, RKD, PKT, DIST, MLKD, CWTM) say so in their docstring. Module twins of the same names
are in ``policykd.kd.losses``; they own whatever is trained or remembered.
"""

from policykd.kd.functional.ab import ab
from policykd.kd.functional.at import at
from policykd.kd.functional.cat_kd import cat_kd
from policykd.kd.functional.cc import cc
from policykd.kd.functional.ce import ce
from policykd.kd.functional.crd import crd
from policykd.kd.functional.cwtm import cwtm
from policykd.kd.functional.dist import dist
from policykd.kd.functional.dkd import dkd
from policykd.kd.functional.fitnet import fitnet
from policykd.kd.functional.fsp import fsp
from policykd.kd.functional.ft import ft
from policykd.kd.functional.ickd import ickd
from policykd.kd.functional.jsd import jsd
from policykd.kd.functional.kd import kd
from policykd.kd.functional.lskd import lskd
from policykd.kd.functional.mlkd import mlkd
from policykd.kd.functional.mse_logits import mse_logits
from policykd.kd.functional.nst import nst
from policykd.kd.functional.ofd import ofd, ofd_margin
from policykd.kd.functional.pkt import pkt
from policykd.kd.functional.reviewkd import reviewkd
from policykd.kd.functional.rkd import rkd
from policykd.kd.functional.sdd import sdd
from policykd.kd.functional.sp import sp
from policykd.kd.functional.tfkd import tfkd
from policykd.kd.functional.vid import vid
from policykd.kd.functional.wsld import wsld

__all__ = [
    "ab",
    "at",
    "cat_kd",
    "cc",
    "ce",
    "crd",
    "cwtm",
    "dist",
    "dkd",
    "fitnet",
    "fsp",
    "ft",
    "ickd",
    "jsd",
    "kd",
    "lskd",
    "mlkd",
    "mse_logits",
    "nst",
    "ofd",
    "ofd_margin",
    "pkt",
    "reviewkd",
    "rkd",
    "sdd",
    "sp",
    "tfkd",
    "vid",
    "wsld",
]
