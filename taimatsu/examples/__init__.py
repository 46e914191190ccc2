"""Programs to run as they are: ``python -m taimatsu.examples.digits``."""
