"""``python -m d3_plugin``."""

import sys

from d3_plugin.cli import main

sys.exit(main())
