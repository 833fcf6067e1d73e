"""The two D³GZSL losses as an add-on for generative zero-shot learning code.

>>> import d3_plugin
>>> sorted(d3_plugin.__all__)[:3]
['D3', 'D3Error', 'D3Settings']
"""

from d3_plugin._version import __version__
from d3_plugin.attach import attach
from d3_plugin.errors import (
    D3Error,
    D3Warning,
    DataError,
    HostError,
    InputError,
    MissingExtraError,
    PluginError,
    StorageError,
)
from d3_plugin.evaluation.baseline import evaluate
from d3_plugin.hookspecs import hookimpl
from d3_plugin.host import Host, HostFamily, StepBatch
from d3_plugin.losses import ID2SDLoss, O2DBDLoss
from d3_plugin.settings import D3Settings
from d3_plugin.wrapper import D3

__all__ = [
    "D3",
    "D3Error",
    "D3Settings",
    "D3Warning",
    "DataError",
    "Host",
    "HostError",
    "HostFamily",
    "ID2SDLoss",
    "InputError",
    "MissingExtraError",
    "O2DBDLoss",
    "PluginError",
    "StepBatch",
    "StorageError",
    "__version__",
    "attach",
    "evaluate",
    "hookimpl",
]
