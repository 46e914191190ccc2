"""Layers given images, sequences and parameters that do not fit."""

from __future__ import annotations

from errors.corpus import F, nn, torch, wrong


@wrong(RuntimeError, "to have 3 channels", "got 8 channels", "permute(0, 3, 1, 2)")
def image_with_channels_last():
    """An image with channels last, as NumPy and Pillow give it."""
    image = torch.randn(1, 8, 8, 3)
    nn.Conv2d(3, 4, 3)(image)


@wrong(RuntimeError, "to have 1 channels", "got 3 channels", "in_channels")
def colour_image_into_a_grey_network():
    """A colour image into a network for grey ones."""
    image = torch.randn(1, 3, 8, 8)
    nn.Conv2d(1, 4, 3)(image)


@wrong(RuntimeError, "3D (unbatched) or 4D (batched)", "[8, 8]", "unsqueeze")
def image_without_channel():
    """A grey image without its channel dimension."""
    nn.Conv2d(1, 4, 3)(torch.randn(8, 8))


@wrong(RuntimeError, "Kernel size can't be greater", ("(2 x 2)", "(3 x 3)"), "padding")
def kernel_larger_than_the_image():
    """An image that pooling made smaller than the kernel."""
    nn.Conv2d(1, 4, 3)(torch.randn(1, 1, 2, 2))


@wrong(ValueError, "divisible by groups", "in_channels=3", "groups=2")
def channels_not_divisible_by_groups():
    """Groups that do not divide the channels."""
    nn.Conv2d(3, 4, 3, groups=2)


@wrong(RuntimeError, "too small", "(1x0x0)", "smaller kernel")
def pooled_to_nothing():
    """An image pooled once too often."""
    image = torch.randn(1, 1, 1, 1)
    F.max_pool2d(image, 2)


@wrong(RuntimeError, "at most half of effective kernel size", "pad=2", "kernel_size=2")
def pool_padding_too_large():
    """Padding of more than half the pooling window."""
    F.max_pool2d(torch.randn(1, 1, 8, 8), 2, padding=2)


@wrong(RuntimeError, "cannot be multiplied", ("2x6", "4x3"), "in_features")
def flattened_to_another_size():
    """Flattened features of another number than `in_features`."""
    features = torch.randn(2, 6)
    nn.Linear(4, 3)(features)


@wrong(RuntimeError, "cannot be multiplied", ("64x8", "512x10"), "flatten")
def forgotten_flatten():
    """A feature map into a linear layer without `flatten`."""
    feature_map = torch.randn(1, 8, 8, 8)
    nn.Linear(512, 10)(feature_map)


@wrong(RuntimeError, "running_mean should contain 8 elements", "not 4", "num_features=8")
def batch_norm_of_other_channels():
    """Batch normalisation of another number of channels."""
    nn.BatchNorm2d(4)(torch.randn(2, 8, 5, 5))


@wrong(ValueError, "more than 1 value per channel", "[1, 4]", "eval()")
def batch_norm_of_one_sample():
    """Batch normalisation of one sample in training."""
    nn.BatchNorm1d(4)(torch.randn(1, 4))


@wrong(ValueError, "expected 4D input", "got 2D", "BatchNorm1d")
def batch_norm_of_the_wrong_kind():
    """`BatchNorm2d` after a linear layer."""
    nn.BatchNorm2d(4)(torch.randn(2, 4))


@wrong(RuntimeError, "normalized_shape", ("[8]", "[2, 4]"), "last")
def layer_norm_of_other_features():
    """Layer normalisation of another number of features."""
    nn.LayerNorm(8)(torch.randn(2, 4))


@wrong(ValueError, "divisible", ("num_groups (4)", "6"), "divisors of 6")
def group_norm_that_does_not_divide():
    """Groups that do not divide the channels."""
    nn.GroupNorm(4, 6)


@wrong(ValueError, "between 0 and 1", "50", "probability")
def dropout_in_percent():
    """Dropout given in percent."""
    nn.Dropout(50)


@wrong(IndexError, "index out of range", "10", "num_embeddings")
def token_beyond_the_vocabulary():
    """A token beyond the vocabulary."""
    tokens = torch.tensor([3, 10])
    nn.Embedding(10, 4)(tokens)


@wrong(RuntimeError, "less than the corresponding input dimension", "(4, 4)", "replicate")
def reflection_wider_than_the_image():
    """A reflected border wider than the image."""
    F.pad(torch.randn(1, 1, 3, 3), (4, 4, 4, 4), mode="reflect")


@wrong(NotImplementedError, "expected one of constant", "mirror", "reflect")
def unknown_padding_mode():
    """A padding mode that does not exist."""
    F.pad(torch.randn(1, 1, 3, 3), (1, 1), mode="mirror")


@wrong(RuntimeError, "divisible by 2", "3 widths", "pairs")
def odd_padding():
    """An odd number of padding widths."""
    F.pad(torch.randn(1, 1, 3, 3), (1, 1, 1))


@wrong(ValueError, "size or scale_factor", "None for both", "either")
def interpolation_without_size():
    """`interpolate` without a size."""
    F.interpolate(torch.randn(1, 1, 4, 4))


@wrong(NotImplementedError, "needs 4D", "3D", "unsqueeze(0)")
def bilinear_of_a_flat_image():
    """Bilinear resizing of an image without batch dimension."""
    F.interpolate(torch.randn(3, 8, 8), scale_factor=2, mode="bilinear")


@wrong(TypeError, "of type int", "'3'", "int(n)")
def kernel_size_as_text():
    """A kernel size as text."""
    nn.Conv2d(1, 4, "3")


@wrong(TypeError, "of type int", "4.0", "//")
def features_of_a_division():
    """A layer's size computed with `/`, which gives a float."""
    nn.Linear(8 / 2, 3)


@wrong(TypeError, "required positional argument", "out_features", "")
def layer_without_out_features():
    """A layer without its number of outputs: Python's own error."""
    nn.Linear(10)


@wrong(RuntimeError, "divisible", ("upscale_factor", "3"), "square")
def pixel_shuffle_of_too_few_channels():
    """`pixel_shuffle` of channels that are no multiple of the factor's square."""
    F.pixel_shuffle(torch.randn(1, 3, 4, 4), 2)


@wrong(RuntimeError, "bool or float", "torch.int64", "True")
def attention_mask_of_integers():
    """An attention mask of integers."""
    q = torch.randn(1, 1, 3, 4)
    mask = torch.ones(3, 3, dtype=torch.long).tril()
    F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
