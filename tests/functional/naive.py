"""The formulas once more, as loops over scalars; shares no code with the package.

Every number is a 0-dim float64 tensor on the CPU, so that autograd gives reference gradients too.
"""

from __future__ import annotations

import torch
from torch import Tensor

Scalars = list[Tensor]


def scalars(vector: Tensor) -> Scalars:
    return list(vector.double().cpu().unbind())


def matrix(x: Tensor) -> list[Scalars]:
    return [scalars(row) for row in x]


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def total(values: Scalars) -> Tensor:
    result = zero()
    for value in values:
        result = result + value
    return result


def logsumexp(values: Scalars) -> Tensor:
    largest = max(value.item() for value in values)
    return largest + total([(value - largest).exp() for value in values]).log()


def log_softmax(values: Scalars) -> Scalars:
    normaliser = logsumexp(values)
    return [value - normaliser for value in values]


def softmax(values: Scalars) -> Scalars:
    return [log_p.exp() for log_p in log_softmax(values)]


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


# --- scores


def id_score_of_row(logits: Scalars, kind: str, temperature: float) -> Tensor:
    u = [v / temperature for v in logits]
    log_p = log_softmax(u)
    if kind == "max_softmax":
        return max(log_p).exp()
    if kind == "log_max_softmax":
        return max(log_p)
    if kind == "max_logit":
        return max(u)
    if kind == "energy":
        return temperature * logsumexp(u)
    assert kind == "entropy"
    return total([x.exp() * x for x in log_p])


def id_score(logits: Tensor, kind: str = "max_softmax", temperature: float = 1.0) -> Tensor:
    return torch.stack([id_score_of_row(row, kind, temperature) for row in matrix(logits)])


def id_confidence_of(score: Tensor, weight: Tensor, offset: Tensor) -> Scalars:
    ((w,), (b,)) = scalars(weight), scalars(offset)
    c = sigmoid(w * (score + b))
    return [c, 1 - c]


def id_confidence(score: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    return torch.stack([torch.stack(id_confidence_of(s, weight, offset)) for s in scalars(score)])


# --- relations


def cosine(a: Scalars, b: Scalars) -> Tensor:
    square_a, square_b = total([x * x for x in a]), total([x * x for x in b])
    if square_a == 0 or square_b == 0:
        return zero()
    dot = total([x * y for x, y in zip(a, b, strict=True)])
    return dot / (square_a.sqrt() * square_b.sqrt())


def cosine_rows(rows: list[Scalars], columns: list[Scalars]) -> list[Scalars]:
    return [[cosine(row, column) for column in columns] for row in rows]


def cosine_matrix(rows: Tensor, columns: Tensor) -> Tensor:
    return torch.stack([torch.stack(r) for r in cosine_rows(matrix(rows), matrix(columns))])


def contrastive(cosines: list[Scalars], same: list[list[bool]], temperature: float) -> Tensor:
    per_row = []
    for row, relation in zip(cosines, same, strict=True):
        log_p = log_softmax([c / temperature for c in row])
        positive = [x for x, belongs in zip(log_p, relation, strict=True) if belongs]
        if positive:
            per_row.append(-total(positive) / len(positive))
    return total(per_row) / len(per_row) if per_row else zero()


def bce(cosines: list[Scalars], same: list[list[bool]], rescale: bool) -> Tensor:
    costs = []
    for row, relation in zip(cosines, same, strict=True):
        for c, belongs in zip(row, relation, strict=True):
            p = (1 + c) / 2 if rescale else c
            if not 1e-6 <= p.item() <= 1 - 1e-6:
                p = zero() + min(max(p.item(), 1e-6), 1 - 1e-6)
            costs.append(-p.log() if belongs else -(1 - p).log())
    return total(costs) / len(costs)


def bce_with_logits(cosines: list[Scalars], same: list[list[bool]], rescale: bool) -> Tensor:
    costs = []
    for row, relation in zip(cosines, same, strict=True):
        for c, belongs in zip(row, relation, strict=True):
            logit = (1 + c) / 2 if rescale else c
            costs.append(-sigmoid(logit).log() if belongs else -sigmoid(-logit).log())
    return total(costs) / len(costs)


def relation_of(
    rows: list[Scalars],
    columns: list[Scalars],
    same: list[list[bool]],
    form: str,
    temperature: float,
    rescale: bool,
) -> Tensor:
    cosines = cosine_rows(rows, columns)
    if form == "contrastive":
        return contrastive(cosines, same, temperature)
    return {"bce": bce, "bce_with_logits": bce_with_logits}[form](cosines, same, rescale)


def relation_loss(
    rows: Tensor,
    columns: Tensor,
    same: Tensor,
    form: str = "contrastive",
    temperature: float = 0.1,
    rescale: bool = True,
) -> Tensor:
    return relation_of(matrix(rows), matrix(columns), same.tolist(), form, temperature, rescale)


# --- label space


def label_space_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    seen_classes: Tensor,
    temperature: float = 1.0,
    form: str = "logits",
) -> Tensor:
    per_row = []
    for teacher, student in zip(matrix(teacher_logits), matrix(student_logits), strict=True):
        student_seen = [student[c] for c in seen_classes.tolist()]
        if form == "double_softmax":
            teacher, student_seen = softmax(teacher), softmax(student_seen)
        log_p = log_softmax([v / temperature for v in teacher])
        log_q = log_softmax([v / temperature for v in student_seen])
        per_row.append(total([p.exp() * (p - q) for p, q in zip(log_p, log_q, strict=True)]))
    return temperature**2 * total(per_row) / len(per_row)


# --- the two losses


def id2sd(
    teacher_logits: Tensor,
    student_logits: Tensor,
    teacher_embedding: Tensor,
    student_embedding: Tensor,
    labels: Tensor,
    seen_classes: Tensor,
    *,
    kl_weight: float = 1.0,
    be_weight: float = 1.0,
    kl_form: str = "logits",
    temperature: float = 1.0,
    relation: str = "contrastive",
    relation_temperature: float = 0.1,
) -> Tensor:
    kl = label_space_kl(teacher_logits, student_logits, seen_classes, temperature, kl_form)
    ids = labels.tolist()
    same = [[a == b for b in ids] for a in ids]
    be = relation_of(
        matrix(teacher_embedding),
        matrix(student_embedding),
        same,
        relation,
        relation_temperature,
        rescale=True,
    )
    return kl_weight * kl + be_weight * be


def id2sd_released(*inputs: Tensor) -> Tensor:
    return id2sd(*inputs, kl_form="double_softmax", relation="bce_with_logits")


def student_pair(logits: Scalars, weight: Tensor, bias: Tensor) -> Scalars:
    log_p = log_softmax(logits)
    outputs = []
    for w, b in zip(matrix(weight), scalars(bias), strict=True):
        outputs.append(total([x * y for x, y in zip(w, log_p, strict=True)]) + b)
    return softmax(outputs)


def o2dbd(
    teacher_logits: Tensor,
    student_logits: Tensor,
    labels: Tensor,
    seen_classes: Tensor,
    *,
    confidence_weight: Tensor,
    confidence_offset: Tensor,
    head_weight: Tensor,
    head_bias: Tensor,
    score: str = "max_softmax",
    score_temperature: float = 1.0,
    score_mean: float = 0.0,
    score_std: float = 1.0,
    target: str = "domain",
    relation: str = "bce",
    relation_temperature: float = 0.1,
    rescale: bool = False,
    softmax_confidence: bool = False,
) -> Tensor:
    confidences = []
    for row in matrix(teacher_logits):
        s = (id_score_of_row(row, score, score_temperature) - score_mean) / score_std
        pair = id_confidence_of(s, confidence_weight, confidence_offset)
        confidences.append(softmax(pair) if softmax_confidence else pair)
    students = [student_pair(row, head_weight, head_bias) for row in matrix(student_logits)]
    ids, seen = labels.tolist(), set(seen_classes.tolist())
    if target == "class":
        same = [[a == b for b in ids] for a in ids]
    else:
        same = [[(a in seen) == (b in seen) for b in ids] for a in ids]
    return relation_of(students, confidences, same, relation, relation_temperature, rescale)


RELEASED_O2DBD = {
    "score": "log_max_softmax",
    "target": "class",
    "relation": "bce_with_logits",
    "rescale": True,
    "softmax_confidence": True,
}


def o2dbd_released(*inputs: Tensor, **parameters: Tensor) -> Tensor:
    return o2dbd(*inputs, **parameters, **RELEASED_O2DBD)
