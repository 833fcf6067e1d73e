"""A loss term of your own beside D³'s: a supervised contrastive one (Khosla et al. 2020).

``d3 compare --plugin contrastive:contrastive`` in this folder adds a row to the table.
"""

import torch
import torch.nn.functional as F

from d3_plugin import StepBatch, hookimpl


class Contrastive:
    def __init__(self, weight: float = 0.1, temperature: float = 0.1) -> None:
        self.weight, self.temperature = weight, temperature

    @hookimpl
    def d3_extra_terms(self, batch: StepBatch) -> dict[str, torch.Tensor]:
        """Rows of one class, synthetic or real, are neighbours in the student's embedding."""
        rows = F.normalize(batch.student_embedding)
        same = batch.labels[:, None] == batch.labels
        itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        likely = (rows @ rows.T / self.temperature).masked_fill(itself, -1e9).log_softmax(dim=1)
        partners = (same & ~itself).sum(dim=1)
        of_partners = likely.masked_fill(~same | itself, 0.0).sum(dim=1) / partners.clamp(min=1)
        return {"contrastive": -self.weight * of_partners.mean()}


contrastive = Contrastive()
