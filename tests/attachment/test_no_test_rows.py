"""Teacher and student learn nothing from test rows."""

from __future__ import annotations

import torch

from d3_plugin.data import GZSLData, without_test_rows
from tests.toys import ScriptHost, assert_equal, attach


def test_other_test_rows_change_nothing(toy_data: GZSLData) -> None:
    states = []
    for data in (toy_data, without_test_rows(toy_data)):
        host = ScriptHost(data)
        d3 = attach(host)
        host.run(3, d3)
        own = {f"d3.{name}": value for name, value in d3.distiller.state_dict().items()}
        states.append({**own, **host.state()})
    assert "d3.teacher.classify.weight" in states[0]
    assert torch.isfinite(states[0]["d3.student.classify.weight"]).all()
    assert_equal(*states)
