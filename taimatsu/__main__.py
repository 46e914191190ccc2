"""``python -m taimatsu script.py``: see ``taimatsu.compat.runner``."""

from taimatsu.compat.runner import main

if __name__ == "__main__":
    main()
