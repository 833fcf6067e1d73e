"""Which rows of a step each term of D³ is of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from d3_plugin import D3Settings
from d3_plugin.distillation.distiller import Distiller
from d3_plugin.distillation.networks import EmbeddingClassifier
from d3_plugin.functional import label_space_kl, relation_loss

SEEN, UNSEEN = torch.tensor([0, 2, 3]), torch.tensor([1, 4])


def test_id2sd_is_of_the_real_rows_and_the_other_terms_of_all() -> None:
    torch.manual_seed(0)
    settings = D3Settings(embedding_dim=6, cls_weight=2.0, kl_weight=3.0, student_start="random")
    teacher = EmbeddingClassifier(4, 6, len(SEEN)).requires_grad_(False)
    distiller = Distiller(teacher, 5, SEEN, settings, torch.randn(9, len(SEEN)))
    synthetic, real = torch.rand(4, 4), torch.rand(7, 4)
    of_synthetic = UNSEEN[torch.randint(2, (4,))]
    of_real = SEEN[torch.randint(3, (7,))]
    labels = torch.cat([of_synthetic, of_real])
    terms = distiller.terms(distiller.batch(synthetic, real, labels))
    rows = torch.cat([synthetic, real])
    (of_teacher, z_teacher), (of_student, z_student) = (
        net(real) for net in (teacher, distiller.student)
    )
    same = of_real[:, None] == of_real
    expected = {
        "cls": 2 * F.cross_entropy(distiller.student(rows)[0], labels),
        "kl": 3 * label_space_kl(of_teacher, of_student, SEEN, settings.temperature),
        "be": relation_loss(z_teacher, z_student, same, temperature=settings.relation_temperature),
        "od": settings.od_weight
        * distiller.o2dbd(teacher(rows)[0], distiller.student(rows)[0], labels),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
