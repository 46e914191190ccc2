"""Modules written wrongly, and weights that do not fit them."""

from __future__ import annotations

from errors.corpus import F, nn, torch, wrong


@wrong(
    AttributeError,
    "before Module.__init__() call",
    "cannot assign module",
    "super().__init__()",
)
def forgotten_super_init():
    """`super().__init__()` forgotten."""

    class Net(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(3, 2)  # wrong

    Net()


@wrong(NotImplementedError, '"forward"', "Net", "forward")
def missing_forward():
    """A module without `forward`."""

    class Net(nn.Module):
        def foward(self, x):
            return x

    Net()(torch.ones(3))


@wrong(TypeError, "forward()", "2 were given", "")
def forward_with_too_many_arguments():
    """A module called with too many arguments: Python's own error."""

    class Net(nn.Module):
        def forward(self):
            return 0

    Net()(torch.ones(3))


@wrong(AttributeError, "no attribute", "'fc2'", "Did you mean: 'fc1'")
def layer_of_another_name():
    """A layer used under another name than it has."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc2(x)  # wrong

    Net()(torch.ones(3))


@wrong(RuntimeError, "Missing key(s) in state_dict", '"bias"', "strict=False")
def weights_without_bias():
    """Weights of which some are missing."""
    weights = {"weight": torch.ones(2, 3)}
    nn.Linear(3, 2).load_state_dict(weights)


@wrong(RuntimeError, "Unexpected key(s) in state_dict", '"module.weight"', "module.")
def weights_saved_from_data_parallel():
    """Weights saved from `DataParallel`, whose names begin with `module.`"""
    model = nn.Linear(3, 2)
    weights = {"module." + name: value for name, value in model.state_dict().items()}
    model.load_state_dict(weights)


@wrong(RuntimeError, "size mismatch for weight", ("[2, 3]", "[5, 3]"), "classes")
def weights_of_another_head():
    """Weights of a model with another number of classes."""
    pretrained = nn.Linear(3, 5)
    nn.Linear(3, 2).load_state_dict(pretrained.state_dict())


@wrong(TypeError, "dict-like", "Linear", "state_dict()")
def model_in_place_of_weights():
    """A model where its `state_dict` is meant."""
    model = nn.Linear(3, 2)
    model.load_state_dict(nn.Linear(3, 2))


@wrong(TypeError, "Parameter", "torch.FloatTensor", "nn.Parameter")
def tensor_over_a_parameter():
    """A plain tensor assigned over a parameter."""
    layer = nn.Linear(3, 2)
    layer.weight = torch.zeros(2, 3)


@wrong(TypeError, "torch.nn.Parameter", "torch.FloatTensor", "detach()")
def result_as_a_parameter():
    """A computed tensor entered as a parameter."""
    layer = nn.Module()
    made = nn.Parameter(torch.ones(3)) * 2
    layer.register_parameter("weight", made)


@wrong(TypeError, "Module", "function", "nn.")
def function_in_a_sequential():
    """A function in `nn.Sequential`."""
    nn.Sequential(nn.Linear(3, 2), F.relu)


@wrong(TypeError, "Module", "list", "*")
def list_in_a_sequential():
    """A list of layers in `nn.Sequential`."""
    layers = [nn.Linear(3, 2), nn.ReLU()]
    nn.Sequential(layers)


@wrong(NotImplementedError, "ModuleList", "forward", "for")
def module_list_called():
    """A `ModuleList` called as if it were a `Sequential`."""
    layers = nn.ModuleList([nn.Linear(3, 3)])
    layers(torch.ones(3))


@wrong(IndexError, "out of range", "index 2", "there are 2 modules")
def layer_past_the_end():
    """A layer past the end of a `Sequential`."""
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    model[2]


@wrong(TypeError, "not iterable", "Linear", "")
def loop_over_a_layer():
    """A loop over a layer: Python's own error."""
    for _ in nn.Linear(3, 2):  # wrong
        pass


@wrong(KeyError, "name can", "block.1", "nest modules")
def dot_in_a_name():
    """A dot in the name of a submodule."""
    nn.Module().add_module("block.1", nn.ReLU())


@wrong(ValueError, "training mode is expected to be boolean", "torch.FloatTensor", "the loop")
def train_with_data():
    """`model.train(data)`: data given to the switch of modes."""
    nn.Linear(3, 2).train(torch.ones(3))


@wrong(AttributeError, "no attribute", "'cude'", "Did you mean: 'cuda'")
def misspelt_method():
    """A misspelt method of a module."""
    nn.Linear(3, 2).cude()


@wrong(AttributeError, "no attribute", "'Lineer'", "Did you mean: 'Linear'")
def misspelt_layer():
    """A misspelt layer."""
    nn.Lineer(3, 2)


@wrong(AssertionError, "expected a device of this machine", "'cuda'", "--device cpu")
def cuda_without_a_gpu():
    """`.cuda()` on a machine without GPU."""
    nn.Linear(3, 2).cuda()


@wrong(RuntimeError, "device type", "float", "torch.float32")
def module_to_text_dtype():
    """`model.to("float")`: text that is no device."""
    nn.Linear(3, 2).to("float")


@wrong(ValueError, "fewer than 2 dimensions", "[3]", "zeros_")
def fan_of_a_bias():
    """Kaiming initialisation of a bias, which has no fan."""
    nn.init.kaiming_normal_(torch.empty(3))
