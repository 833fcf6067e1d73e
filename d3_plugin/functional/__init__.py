"""The formulas as pure functions: tensors in, a tensor out, no state.

Rows are samples and columns classes or embedding dimensions, always (N, K). Half precision
and autocast are computed in float32; float64 stays float64.
"""

from d3_plugin.functional.label_space import label_space_kl
from d3_plugin.functional.relations import cosine_matrix, relation_loss
from d3_plugin.functional.scores import id_confidence, id_score

__all__ = ["cosine_matrix", "id_confidence", "id_score", "label_space_kl", "relation_loss"]
