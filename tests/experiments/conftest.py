"""Pictures take longer than these trainings of a second, and tests/report has tests of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from d3_plugin.report import page


@pytest.fixture(autouse=True, scope="module")
def no_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "_pictures", lambda content, adapter: ())
        yield
