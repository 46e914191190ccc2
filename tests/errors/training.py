"""Optimizers, schedules and the training loop."""

from __future__ import annotations

from errors.corpus import nn, torch, wrong


@wrong(ValueError, "optimizer got", "an empty parameter list", "parameters()")
def optimizer_without_parameters():
    """An optimizer made for a model without parameters."""
    model = nn.ReLU()
    torch.optim.SGD(model.parameters(), lr=0.1)


@wrong(ValueError, "learning rate", "-0.1", "0 or more")
def negative_learning_rate():
    """A negative learning rate."""
    model = nn.Linear(3, 2)
    torch.optim.SGD(model.parameters(), lr=-0.1)


@wrong(TypeError, "iterable", "Linear", "model.parameters()")
def optimizer_of_a_model():
    """An optimizer given the model, not its parameters."""
    model = nn.Linear(3, 2)
    torch.optim.Adam(model)


@wrong(TypeError, "should be an iterable", "torch.FloatTensor", "[tensor]")
def optimizer_of_one_tensor():
    """An optimizer given one tensor, not a list."""
    w = torch.ones(3, requires_grad=True)
    torch.optim.SGD(w, lr=0.1)


@wrong(ValueError, "can't optimize", "non-leaf Tensor", ".detach().requires_grad_()")
def optimizer_of_a_result():
    """An optimizer of a tensor computed from a leaf."""
    w = torch.ones(3, requires_grad=True) * 0.01
    torch.optim.SGD([w], lr=0.1)


@wrong(TypeError, "optimizer can only optimize Tensors", "list", "parameters()")
def optimizer_of_nested_lists():
    """Parameters in a list of lists."""
    parts = [list(nn.Linear(3, 2).parameters()), list(nn.Linear(2, 1).parameters())]
    torch.optim.SGD(parts, lr=0.1)


@wrong(ValueError, "some parameters appear", "more than one parameter group", "once")
def parameter_in_two_groups():
    """A parameter in two groups."""
    model = nn.Linear(3, 2)
    groups = [{"params": model.parameters()}, {"params": [model.weight], "lr": 0.01}]
    torch.optim.SGD(groups, lr=0.1)


@wrong(ValueError, "beta", "1.0", "in [0, 1)")
def beta_out_of_range():
    """Adam with a beta of one."""
    w = torch.ones(3, requires_grad=True)
    torch.optim.Adam([w], betas=(1.0, 0.999))


@wrong(ValueError, "requires a momentum and zero dampening", "momentum=0", "momentum=0.9")
def nesterov_without_momentum():
    """Nesterov's method without momentum."""
    w = torch.ones(3, requires_grad=True)
    torch.optim.SGD([w], lr=0.1, nesterov=True)


@wrong(ValueError, "match the size of optimizer's group", ("[1]", "[2]"), "same model")
def optimizer_state_of_another_model():
    """The saved state of another model's optimizer."""
    small = torch.optim.SGD(nn.Linear(3, 2, bias=False).parameters(), lr=0.1)
    large = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    large.load_state_dict(small.state_dict())


@wrong(TypeError, "Optimizer", "Linear", "give the optimizer")
def schedule_of_a_model():
    """A schedule given the model, not the optimizer."""
    torch.optim.lr_scheduler.StepLR(nn.Linear(3, 2), step_size=10)


@wrong(TypeError, "metrics", "required", "")
def plateau_without_metric():
    """`ReduceLROnPlateau` stepped without the value it watches: Python's own error."""
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    schedule.step()


@wrong(ValueError, "Factor should be < 1.0", "factor=10", "0.1")
def plateau_that_grows():
    """`ReduceLROnPlateau` with a factor of ten."""
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=10)


@wrong(ValueError, "number of total steps is 10", "Tried to step 11", "total_steps")
def one_cycle_stepped_too_often():
    """`OneCycleLR` stepped past its end."""
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    for _ in range(20):
        optimizer.step()
        schedule.step()  # wrong


@wrong(ValueError, "either total_steps OR", "epochs=None", "len(loader)")
def one_cycle_without_length():
    """`OneCycleLR` without a number of steps."""
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1)


@wrong(KeyError, "initial_lr", "last_epoch >= 0", "last_epoch=-1")
def schedule_resumed_without_state():
    """A schedule resumed at an epoch without the optimizer's state."""
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 10, last_epoch=5)


@wrong(ValueError, "Expected 1", "got 2", "each parameter group")
def lambdas_of_another_number():
    """Two lambdas for one parameter group."""
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda e: 1.0, lambda e: 0.5])


@wrong(RuntimeError, "non-finite", "nan", "error_if_nonfinite")
def clipping_of_nan():
    """Gradients of NaN clipped."""
    w = torch.ones(3, requires_grad=True)
    w.grad = torch.full((3,), float("nan"))
    nn.utils.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)


@wrong(AttributeError, "no attribute", "'zero_grads'", "Did you mean: 'zero_grad'")
def misspelt_zero_grad():
    """A misspelt method of an optimizer."""
    optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    optimizer.zero_grads()
