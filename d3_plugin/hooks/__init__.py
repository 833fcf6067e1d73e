"""The pluggy hooks: specifications, manager, defaults."""
