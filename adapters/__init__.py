"""Host families for d3_plugin: a plain baseline and its hooks in each sub-package.

Installed as ``d3_adapters``.
"""
