"""The two D³GZSL losses as modules, usable without ``attach``, hooks or adapters."""

from d3_plugin.losses.id2sd import ID2SDLoss
from d3_plugin.losses.o2dbd import O2DBDLoss

__all__ = ["ID2SDLoss", "O2DBDLoss"]
