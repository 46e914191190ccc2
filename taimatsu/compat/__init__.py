"""Other names and formats: programs that say ``import torch``, and the script runner."""
