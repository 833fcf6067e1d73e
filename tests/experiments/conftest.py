"""What takes longer than these trainings of a second, and has tests of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from d3_plugin.experiments import shared_training
from d3_plugin.report import page


@pytest.fixture(autouse=True, scope="module")
def shortcuts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "_pictures", lambda content, adapter: ())
        # The proof in this process: another one would import all again.
        patch.setattr(shared_training, "_proved", shared_training.prove)
        yield
