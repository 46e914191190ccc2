"""Devices: ``torch.device``."""
class device:
    def __init__(self, type="cpu", index=None): self.type=str(type).split(":")[0]; self.index=index
    def __repr__(self): return f"device(type='{self.type}')"
    def __str__(self): return self.type
CPU = device("cpu")
class layout:
    def __repr__(self): return "torch.strided"
strided = layout()
def resolve(given=None):
    return CPU
