"""A folder for ``sys.path``: packages named ``torch`` and ``torchvision`` that become taimatsu."""
