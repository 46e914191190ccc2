"""Losses and their targets: classes, one-hot rows, probabilities, shapes."""

from __future__ import annotations

from errors.corpus import F, nn, torch, wrong


@wrong(IndexError, ("Target", "out of bounds"), "4", "0 to 3")
def labels_counted_from_one():
    """Class labels counted from one."""
    logits = torch.randn(2, 4)
    labels = torch.tensor([1, 4])
    F.cross_entropy(logits, labels)


@wrong(IndexError, ("Target", "out of bounds"), "-1", "ignore_index")
def unlabelled_as_minus_one():
    """Unlabelled samples marked -1."""
    logits = torch.randn(2, 4)
    labels = torch.tensor([1, -1])
    F.cross_entropy(logits, labels)


@wrong(RuntimeError, "Long", "Float", ".long()")
def float_labels():
    """Class labels as floats."""
    logits = torch.randn(2, 4)
    labels = torch.tensor([1.0, 3.0])
    F.cross_entropy(logits, labels)


@wrong(RuntimeError, "Long", "Int", ".long()")
def int32_labels():
    """Class labels as int32, as NumPy gives them on some systems."""
    logits = torch.randn(2, 4)
    labels = torch.tensor([1, 3], dtype=torch.int32)
    F.cross_entropy(logits, labels)


@wrong(RuntimeError, "floating point type", "Long", "argmax(1)")
def one_hot_integers():
    """One-hot integers as the labels of a cross entropy."""
    logits = torch.randn(2, 4)
    onehot = F.one_hot(torch.tensor([1, 3]), 4)
    nn.CrossEntropyLoss()(logits, onehot)


@wrong(RuntimeError, "multi-target", "[2, 1]", "squeeze(1)")
def labels_as_a_column():
    """Labels as a column, of shape (N, 1)."""
    logits = torch.randn(2, 4)
    labels = torch.tensor([[1], [3]])
    F.cross_entropy(logits, labels)


@wrong(ValueError, "batch_size (2)", "batch_size (3)", "same batch")
def labels_of_another_batch():
    """Labels of another batch than the predictions."""
    logits = torch.randn(2, 4)
    labels = torch.tensor([0, 1, 2])
    F.cross_entropy(logits, labels)


@wrong(RuntimeError, "target tensor expected", ("[2, 4]", "[2, 3]"), "class indices")
def probabilities_of_other_classes():
    """Target probabilities of another number of classes."""
    logits = torch.randn(2, 4)
    F.cross_entropy(logits, torch.rand(2, 3))


@wrong(RuntimeError, "Expected target size [2, 4]", "[2, 7]", "input.transpose(1, -1)")
def sequence_with_classes_last():
    """Predictions of a sequence with the classes last."""
    logits = torch.randn(2, 7, 4)
    labels = torch.zeros(2, 7, dtype=torch.long)
    F.cross_entropy(logits, labels)


@wrong(RuntimeError, "weight", ("4", "3"), "class")
def class_weights_of_wrong_length():
    """Class weights of another number of classes."""
    logits = torch.randn(2, 4)
    F.cross_entropy(logits, torch.tensor([1, 3]), weight=torch.ones(3))


@wrong(RuntimeError, "between 0 and 1", "2.0", "sigmoid")
def binary_loss_of_logits():
    """Binary cross entropy of scores that went through no sigmoid."""
    logits = torch.tensor([2.0, -1.0])
    nn.BCELoss()(logits, torch.tensor([1.0, 0.0]))


@wrong(ValueError, "target size", ("[4]", "[4, 1]"), "squeeze")
def binary_targets_without_column():
    """Predictions (N, 1) against targets (N)."""
    probability = torch.rand(4, 1)
    F.binary_cross_entropy(probability, torch.ones(4))


@wrong(ValueError, "Target size", ("[4]", "[4, 1]"), "squeeze")
def binary_logits_without_column():
    """Logits (N, 1) against targets (N)."""
    logits = torch.randn(4, 1)
    F.binary_cross_entropy_with_logits(logits, torch.ones(4))


@wrong(RuntimeError, "Float", "Long", ".float()")
def binary_targets_as_integers():
    """Integer targets for a binary cross entropy."""
    probability = torch.rand(4)
    F.binary_cross_entropy(probability, torch.tensor([0, 1, 1, 0]))


@wrong(RuntimeError, "must match", ("4", "3"), "shape")
def regression_of_other_length():
    """A squared error of other lengths."""
    F.mse_loss(torch.randn(4), torch.randn(3))


@wrong(ValueError, "reduction", "average", "mean")
def unknown_reduction():
    """A reduction that does not exist."""
    F.mse_loss(torch.randn(4), torch.randn(4), reduction="average")


@wrong(RuntimeError, "flags", "Tensor", "loss(output, target)")
def loss_module_called_as_function():
    """The data given to the constructor of a loss: `nn.MSELoss(output, target)`."""
    nn.MSELoss(torch.randn(4), torch.randn(4)).backward()


@wrong(RuntimeError, "num_classes", "5", "5")
def one_hot_with_too_few_classes():
    """One-hot rows with fewer classes than labels."""
    F.one_hot(torch.tensor([0, 5]), num_classes=3)


@wrong(RuntimeError, "index tensor of type LongTensor", "torch.float32", "x.long()")
def one_hot_of_floats():
    """One-hot rows of floats."""
    F.one_hot(torch.tensor([0.0, 1.0]))


@wrong(RuntimeError, "0D or 1D target tensor expected", "multi-target", "argmax")
def nll_with_one_hot_labels():
    """`nll_loss` of one-hot labels."""
    logp = F.log_softmax(torch.randn(3, 4), dim=1)
    F.nll_loss(logp, torch.zeros(3, 4, dtype=torch.long))


@wrong(ValueError, "1D target must have size 1", "2", "(N, C)")
def nll_of_one_sample():
    """`nll_loss` of one sample's scores with a batch of one label."""
    logp = F.log_softmax(torch.randn(4), dim=0)
    F.nll_loss(logp, torch.tensor([1, 2]))
