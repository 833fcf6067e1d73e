"""GZSL problems: built-in digits, the field's .mat folders, arrays, validation problems."""

from d3_plugin.data.class_order import attributes_fit, warn_of_order
from d3_plugin.data.dataset import GZSLData
from d3_plugin.data.digits import load_digits_gzsl
from d3_plugin.data.matfolder import load_mat_folder
from d3_plugin.data.sources import digest, load
from d3_plugin.data.validation import pseudo_unseen, without_test_rows

__all__ = [
    "GZSLData",
    "attributes_fit",
    "digest",
    "load",
    "load_digits_gzsl",
    "load_mat_folder",
    "pseudo_unseen",
    "warn_of_order",
    "without_test_rows",
]
