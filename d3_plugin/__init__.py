"""The two D³GZSL losses as an add-on for generative zero-shot learning code.

>>> import d3_plugin
>>> sorted(d3_plugin.__all__)[:3]
['D3', 'D3Error', 'D3Settings']
"""

__version__ = "0.1.0"
from d3_plugin.attachment.attach import attach
from d3_plugin.attachment.d3 import D3
from d3_plugin.distillation.settings import D3Settings
from d3_plugin.errors import (
    D3Error,
    D3Warning,
    DataError,
    FailedConditionError,
    HostError,
    InputError,
    MissingExtraError,
    NotFiniteError,
    PluginError,
    StorageError,
)
from d3_plugin.evaluation.protocol import classifier, evaluate
from d3_plugin.hooks.specs import hookimpl
from d3_plugin.hosts.host import Host, HostFamily, StepBatch
from d3_plugin.losses import ID2SDLoss, O2DBDLoss

__all__ = [
    "D3",
    "D3Error",
    "D3Settings",
    "D3Warning",
    "DataError",
    "FailedConditionError",
    "Host",
    "HostError",
    "HostFamily",
    "ID2SDLoss",
    "InputError",
    "MissingExtraError",
    "NotFiniteError",
    "O2DBDLoss",
    "PluginError",
    "StepBatch",
    "StorageError",
    "__version__",
    "attach",
    "classifier",
    "evaluate",
    "hookimpl",
]
