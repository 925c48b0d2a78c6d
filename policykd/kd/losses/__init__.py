"""The losses as modules: options fixed when built, ``forward`` over tensors, and whatever a loss trains or remembers.

One file per loss, each the twin of the function of the same name in ``policykd.kd.functional``, which holds the
equation.
"""

from policykd.kd.losses.ab import AB
from policykd.kd.losses.at import AT
from policykd.kd.losses.base import GatheredLoss, KDLoss
from policykd.kd.losses.cat_kd import CATKD
from policykd.kd.losses.cc import CC
from policykd.kd.losses.ce import CE
from policykd.kd.losses.crd import CRD
from policykd.kd.losses.cwtm import CWTM
from policykd.kd.losses.dist import DIST
from policykd.kd.losses.dkd import DKD
from policykd.kd.losses.fitnet import FitNet
from policykd.kd.losses.fsp import FSP
from policykd.kd.losses.ft import FT
from policykd.kd.losses.ickd import ICKD
from policykd.kd.losses.jsd import JSD
from policykd.kd.losses.kd import KD
from policykd.kd.losses.lskd import LSKD
from policykd.kd.losses.mlkd import MLKD
from policykd.kd.losses.mse_logits import MSELogits
from policykd.kd.losses.nst import NST
from policykd.kd.losses.ofd import OFD
from policykd.kd.losses.pkt import PKT
from policykd.kd.losses.reviewkd import ReviewKD
from policykd.kd.losses.rkd import RKD
from policykd.kd.losses.sdd import SDD
from policykd.kd.losses.sp import SP
from policykd.kd.losses.tfkd import TFKD
from policykd.kd.losses.vid import VID
from policykd.kd.losses.wsld import WSLD

__all__ = [
    "AB",
    "AT",
    "CATKD",
    "CC",
    "CE",
    "CRD",
    "CWTM",
    "DIST",
    "DKD",
    "FSP",
    "FT",
    "ICKD",
    "JSD",
    "KD",
    "LSKD",
    "MLKD",
    "NST",
    "OFD",
    "PKT",
    "RKD",
    "SDD",
    "SP",
    "TFKD",
    "VID",
    "WSLD",
    "FitNet",
    "GatheredLoss",
    "KDLoss",
    "MSELogits",
    "ReviewKD",
]
