"""Processes forked from a server that has imported everything, and has computed nothing yet."""

from __future__ import annotations

import multiprocessing

FORKSERVER = multiprocessing.get_context("forkserver")
# The command's modules, and what those import as they are used.
FORKSERVER.set_forkserver_preload(
    [
        *("d3_plugin.__main__", "d3_plugin.report.page", "tests.toys"),
        *(
            "d3_adapters.diffusion.hooks",
            "d3_adapters.fclswgan.hooks",
            "d3_adapters.tfvaegan.hooks",
        ),
        *("joblib", "jsonschema", "sklearn.datasets", "torch._dynamo", "tqdm"),
        *("matplotlib.backends.backend_agg", "torch.nn.parallel", "torch.distributed"),
    ]
)


def start_server() -> None:
    """So that what is timed afterwards does not include its imports."""
    process = FORKSERVER.Process(target=int)
    process.start()
    process.join()
