"""Gradients asked for where there are none, twice, or after a value was overwritten."""

from __future__ import annotations

from errors.corpus import F, nn, torch, wrong


@wrong(RuntimeError, "scalar outputs", "[3]", ".sum()")
def backward_of_a_vector():
    """`backward` of the losses of a batch, not of their mean."""
    w = torch.ones(3, requires_grad=True)
    loss = w * 2
    loss.backward()


@wrong(RuntimeError, "does not require grad", "grad_fn", "requires_grad")
def backward_without_parameters():
    """`backward` of a value that depends on no parameter."""
    loss = torch.ones(3).sum()
    loss.backward()


@wrong(RuntimeError, "does not require grad", "grad_fn", "no_grad")
def loss_computed_under_no_grad():
    """A loss computed under `no_grad`."""
    model = nn.Linear(3, 1)
    with torch.no_grad():
        loss = model(torch.ones(2, 3)).sum()
    loss.backward()


@wrong(RuntimeError, "does not require grad", "grad_fn", "argmax")
def loss_of_rounded_predictions():
    """A loss of the predicted classes, through which no gradient flows."""
    model = nn.Linear(3, 4)
    predicted = model(torch.ones(2, 3)).argmax(1).float()
    loss = F.mse_loss(predicted, torch.zeros(2))
    loss.backward()


@wrong(RuntimeError, "second time", "freed", "retain_graph=True")
def backward_twice():
    """`backward` twice through one graph."""
    w = torch.ones(3, requires_grad=True)
    loss = (w * w).sum()
    loss.backward()
    loss.backward()


@wrong(RuntimeError, "second time", "freed", ".detach()")
def hidden_state_kept_over_batches():
    """A hidden state carried from batch to batch without `detach`."""
    w = torch.ones(3, requires_grad=True)
    hidden = torch.zeros(3)
    for _ in range(2):
        hidden = torch.tanh(hidden + w)
        hidden.sum().backward()  # wrong


@wrong(RuntimeError, "modified by an inplace operation", ("version 1", "version 0"), "clone()")
def saved_value_overwritten():
    """A result that backward needs, overwritten."""
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    y.add_(1)
    y.sum().backward()


@wrong(
    RuntimeError,
    "modified by an inplace operation",
    ("version 1", "version 0", "add_()"),
    "out-of-place",
)
def weights_updated_before_backward():
    """Weights updated between the forward pass and `backward`."""
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    first, second = (w * w).sum(), (w * w).sum()
    first.backward()
    optimizer.step()
    second.backward()


@wrong(RuntimeError, "leaf Variable that requires grad", "in-place", "no_grad")
def update_outside_no_grad():
    """An update of the weights by hand, outside `no_grad`."""
    w = torch.ones(3, requires_grad=True)
    w.sum().backward()
    w -= 0.1 * w.grad


@wrong(RuntimeError, "view of a leaf Variable", "in-place", "no_grad")
def row_of_a_parameter_written():
    """A row of a parameter written outside `no_grad`."""
    w = torch.ones(3, 2, requires_grad=True)
    w[0] = 0


@wrong(RuntimeError, "numpy()", "requires grad", "detach()")
def numpy_of_a_parameter():
    """The NumPy array of a tensor that is part of a graph."""
    w = torch.ones(3, requires_grad=True)
    w.numpy()


@wrong(RuntimeError, "requires_grad flags of leaf", "computed", "detach()")
def freezing_a_result():
    """Freezing a computed tensor."""
    w = torch.ones(3, requires_grad=True)
    y = w * 2
    y.requires_grad = False


@wrong(RuntimeError, "graph leaves", "deepcopy", "detach()")
def deep_copy_of_a_result():
    """A deep copy of a computed tensor."""
    import copy

    y = torch.ones(3, requires_grad=True) * 2
    copy.deepcopy(y)


@wrong(RuntimeError, "different size", ("[3]", "[2]"), "shape")
def gradient_of_wrong_shape():
    """A gradient of another shape put in `.grad`."""
    w = torch.ones(3, requires_grad=True)
    w.grad = torch.ones(2)


@wrong(RuntimeError, "Mismatch in shape", ("[2]", "[3]"), "shape")
def starting_gradient_of_wrong_shape():
    """`backward` with a starting gradient of another shape."""
    y = torch.ones(3, requires_grad=True) * 2
    y.backward(torch.ones(2))


@wrong(RuntimeError, "not have been used in the graph", "One of the", "allow_unused=True")
def gradient_for_an_unused_input():
    """The gradient for a tensor that the output does not depend on."""
    a = torch.ones(3, requires_grad=True)
    b = torch.ones(3, requires_grad=True)
    torch.autograd.grad((a * 2).sum(), b)


@wrong(TypeError, "None", "unsupported operand", "")
def gradient_before_backward():
    """`.grad` used before `backward`, when it is None: Python's own error."""
    w = torch.ones(3, requires_grad=True)
    0.1 * w.grad


@wrong(RuntimeError, "incorrect number of gradients", ("expected 2", "got 1"), "None")
def function_with_too_few_gradients():
    """A `Function` whose `backward` forgets an input."""

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.factor

    x = torch.ones(3, requires_grad=True)
    Scale.apply(x, 2.0).sum().backward()


@wrong(RuntimeError, "invalid gradient", ("[7]", "[3]"), "has its shape")
def function_with_gradient_of_wrong_shape():
    """A `Function` whose `backward` gives a gradient of another shape."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return torch.ones(7)

    x = torch.ones(3, requires_grad=True)
    Double.apply(x).sum().backward()


@wrong(
    NotImplementedError,
    "implement the backward method",
    "custom Function",
    "backward(ctx, *grads)",
)
def function_without_backward():
    """A `Function` without `backward`."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    x = torch.ones(3, requires_grad=True)
    Double.apply(x).sum().backward()


@wrong(RuntimeError, "Legacy autograd function", "static", "@staticmethod")
def function_in_the_old_style():
    """A `Function` called, not applied."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    Double()(torch.ones(3))


@wrong(RuntimeError, "hook", ("[3]", "[2]"), "shape")
def hook_that_changes_the_shape():
    """A hook that gives a gradient of another shape."""
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(lambda grad: grad[:2])
    y.sum().backward()


@wrong(RuntimeError, "cannot register a hook", "doesn't require gradient", "requires_grad_()")
def hook_on_data():
    """A hook on a tensor without gradient."""
    torch.ones(3).register_hook(print)


@wrong(RuntimeError, "retain_grad", "requires_grad=False", "requires_grad_()")
def retain_grad_of_data():
    """`retain_grad` of a tensor without gradient."""
    torch.ones(3).retain_grad()


@wrong(RuntimeError, "automatic differentiation", "requires grad", "without out=")
def out_argument_in_training():
    """`out=` where gradients are recorded."""
    w = torch.ones(3, requires_grad=True)
    result = torch.zeros(3)
    torch.exp(w, out=result)
