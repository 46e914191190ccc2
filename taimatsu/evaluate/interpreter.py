"""The reference: programs carried out node by node with the operations' NumPy references."""

from __future__ import annotations

from typing import Any

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.evaluate.statistics import STATISTICS
from taimatsu.ir.graph import Argument, Graph, Node, Operand
from taimatsu.ir.meta import Meta
from taimatsu.recorder.number import plain
from taimatsu.shapes import is_dense
from taimatsu.storage import finish, window


def execute(
    graph: Graph, buffers: dict[int, np.ndarray], items: list, background: bool = False
) -> dict[int, np.ndarray]:
    """Runs a program: the buffers that its slots have, in; those of its outputs, out.

    ``items`` holds the runtime numbers by slot. A slot that has a buffer keeps it: its new
    content is written there. If a node fails, all buffers are as before.
    """
    finish()
    values = {value: buffers[slot] for slot, value in graph.inputs.items()}
    given = {id(b) for b in values.values()}
    undo: list[tuple[np.ndarray, np.ndarray]] = []
    try:
        for node in graph.nodes:
            if node.is_write:
                _write(node, values, items, given, undo)
            else:
                _compute(node, values, items)
            for value in node.dies:
                values.pop(value, None)
        return _outputs(graph, values, buffers)
    except BaseException:
        for region, content in reversed(undo):
            region[...] = content
        raise


def _outputs(
    graph: Graph, values: dict[int, np.ndarray], buffers: dict[int, np.ndarray]
) -> dict[int, np.ndarray]:
    made = {}
    for slot, value in graph.outputs.items():
        content = values[value]
        present = buffers.get(slot)
        if present is not None and content is not present:
            present[...] = content
            content = present
        made[slot] = content
    return made


def _read(operand: Any, values: dict[int, np.ndarray], items: list) -> Any:
    if type(operand) is Operand:
        offset = plain(items[operand.offset]) if operand.offset >= 0 else 0
        described = operand.meta
        return window(values[operand.value], described.shape, described.strides, offset)
    if type(operand) is Argument:
        return plain(items[operand.index])
    return operand


def _compute(node: Node, values: dict[int, np.ndarray], items: list) -> None:
    inputs = tuple([_read(o, values, items) for o in node.operands])
    STATISTICS.references += 1
    results = evaluate_node(node, inputs)
    for value, result, meta in zip(node.results, results, node.metas, strict=True):
        values[value] = _settle(result, meta, inputs)


def evaluate_node(node: Node, inputs: tuple) -> tuple:
    """The reference's results for a node; errors say which call it was."""
    described = tuple([o.meta if type(o) is Operand else None for o in node.operands])
    try:
        return node.operation.evaluate(inputs, node.attributes, described, node.metas)
    except MemoryError as error:
        sizes = ", ".join(map(repr, node.metas))
        raise OperationError.make(
            node.operation.name,
            "enough memory for the result",
            f"{sizes} does not fit",
            f"recorded at {node.site}; use smaller batches or free tensors",
            MemoryError,
        ) from error
    except Exception as error:
        error.add_note(f"in {node.operation.name}, called at {node.site}")
        raise


def _settle(result: Any, meta: Meta, inputs: tuple) -> np.ndarray:
    """The flat buffer of a result: its own memory, in the inferred dtype and order."""
    result = np.asarray(result)
    if result.shape != tuple(meta.shape):
        raise AssertionError(f"the reference gave {result.shape}, the shape rule {meta.shape}")
    wanted = meta.dtype.numpy
    if result.dtype != wanted:
        result = result.astype(wanted)
    elif any(isinstance(x, np.ndarray) and np.may_share_memory(result, x) for x in inputs):
        result = result.copy()
    if meta.contiguous:
        return np.ascontiguousarray(result).reshape(-1)
    assert is_dense(meta.shape, meta.strides), meta
    flat = np.empty(meta.numel, wanted)
    window(flat, meta.shape, meta.strides, 0)[...] = result
    return flat


def _write(
    node: Node, values: dict[int, np.ndarray], items: list, given: set[int], undo: list
) -> None:
    target, source = node.operands
    content = _read(source, values, items)
    if node.attributes["whole"]:
        flat = np.empty(target.meta.numel, content.dtype)
        window(flat, target.meta.shape, target.meta.strides, 0)[...] = content
        values[node.results[0]] = flat
        return
    buffer = values[target.value]
    if target.value not in node.dies:
        buffer = buffer.copy()
    offset = plain(items[target.offset]) if target.offset >= 0 else 0
    region = window(buffer, target.meta.shape, target.meta.strides, offset)
    if np.may_share_memory(region, content):
        content = content.copy()
    if id(buffer) in given:
        undo.append((region, region.copy()))
    region[...] = content
    values[node.results[0]] = buffer
