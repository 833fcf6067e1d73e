"""The pluggy hooks: specifications, the manager, the defaults."""
