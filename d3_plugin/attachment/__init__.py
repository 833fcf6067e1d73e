"""`attach` and the object it returns."""
