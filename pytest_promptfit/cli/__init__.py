"""The ``promptfit`` command."""
